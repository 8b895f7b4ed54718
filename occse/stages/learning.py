"""Training of a stage's network: first weights, then the one training loop.

It stands apart from the knobs (`occse.stages.trained`), which are read where there is no torch.
"""

import json
from collections.abc import Sequence

import torch
from torch import nn

from occse.data.dataset import Dataset
from occse.data.samples import LabelledImages
from occse.networks.backbones import Backbone
from occse.networks.classifier import load_classifier
from occse.stage import CURVES, MODEL, Context
from occse.stages.trained import ClassificationStage, TrainedStage, is_file, locate
from occse.training.loop import Loss, Recipe, Samples, Session, train
from occse.training.optimizer import Optimization
from occse.weights.load import load_into


def seed_weights(stage: TrainedStage) -> None:
    """Make the weights that are drawn next a function of the stage's seed."""
    torch.manual_seed(stage.seed)


def fit(
    stage: TrainedStage,
    ctx: Context,
    model: nn.Module,
    samples: Samples,
    loss: Loss,
    *,
    poly_extra: int = 0,
) -> dict[str, float]:
    """Train `model`, leave the curves in the artifact, and return the last epoch's means."""
    recipe = Recipe(
        optimization=Optimization(
            optimizer=stage.optimizer,
            lr=stage.lr,
            # AdamW has no such knob (`inactive`), so its value must not count anywhere.
            momentum=0.0 if stage.optimizer == "adamw" else stage.momentum,
            weight_decay=stage.weight_decay,
            poly_power=stage.poly_power,
            poly_extra=poly_extra,
            bias_lr=stage.bias_lr,
            head_lr=stage.head_lr,
            freeze_bn=stage.freeze_bn,
            freeze_stem=stage.freeze_stem,
        ),
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        seed=stage.seed,
        precision=stage.precision,
        compile=stage.compile,
    )
    session = Session(
        scratch=ctx.scratch,
        device=ctx.machine.device,
        workers=ctx.machine.workers,
        accumulate=ctx.machine.accumulate,
        stopping=ctx.caller.stopping,
        report=ctx.caller.report,
    )
    records = train(model, samples, loss, recipe=recipe, session=session)
    (ctx.output / CURVES).write_text(json.dumps(records) + "\n")
    return {name: value for name, value in records[-1].items() if name != "step"}


def labelled_images(
    stage: ClassificationStage, dataset: Dataset, names: Sequence[str]
) -> LabelledImages:
    """Return views of the images `names` as the stage's knobs say."""
    return LabelledImages(
        dataset,
        names,
        long_side=(stage.resize_min, stage.resize_max),
        jitter=stage.jitter,
        hue=stage.hue,
        crop=stage.crop,
    )


def initialize(model: nn.Module, init: str, ctx: Context, *, whole: bool = False) -> None:
    """Give the backbone of `model` its first weights.

    The head gets weights too where a file has a head that fits.

    Args:
        model: the untrained network: `backbone` and a head.
        init: "imagenet", "random", a weight file, or the field of an upstream classifier.
        ctx: the folders of upstream artifacts and weight files.
        whole: refuse a file without the head.

    Raises:
        ValueError: the file is missing, is damaged or does not fit; or the upstream classifier has
            another backbone.
    """
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    if is_file(init):
        load_into(model, locate(init, ctx.machine.weights), whole=whole)
    elif init == "imagenet":
        _load_imagenet(backbone)
    elif init != "random":
        source = load_classifier(ctx.inputs[init] / MODEL)
        try:
            backbone.load_state_dict(source.backbone.state_dict())
        # torch's error for names or shapes that differ.
        except RuntimeError:
            raise ValueError(
                f"init {init!r} has the backbone {source.architecture['backbone']!r}, "
                "this stage another; make them equal or set init to 'imagenet' or 'random'"
            ) from None


def _load_imagenet(backbone: Backbone) -> None:
    try:
        backbone.load_imagenet()
    # Without a network: urllib's errors are OSErrors.
    except OSError as error:
        raise ValueError(
            f"the ImageNet weights cannot be downloaded ({error}); bring the file that "
            "torchvision publishes, set init to its name, and give its folder as --weights"
        ) from None

"""`erase_and_infer`: the paper's motivation, recursive erasing with the ordinary classifier."""

import json
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from occse.data.dataset import load_dataset
from occse.method.evaluation import CountsBuilder
from occse.method.scores import scores_of
from occse.stage import CURVES, MODEL, Context, Resources, ScoredSplit, Stage
from occse.stages.data import DataStage, lost_pixels

# Each class of an image takes a copy of it through the network, so few images go at once.
IMAGES = 8
# All of them: merged maps only grow, so their best threshold may lie outside of the CAM's range.
THRESHOLDS = tuple(hundredths / 100 for hundredths in range(1, 100))


class EraseAndInfer(Stage):
    """Take the classifier's CAM, erase it from the image, infer again, merge, repeat; on `train`.

    This is figure 2 of the paper; `recursive_cams` has the formula. The mask is the CAM ("soft") or
    1 where the CAM exceeds `mask_threshold` ("hard"). The paper gives up no class;
    `min_probability` above 0 does.

    The curves have a point per number of erasures: `miou` at its own best threshold; at the
    threshold that is best without erasing, `covered`, the share of the objects' pixels that are
    given to their class, and `false_activation`, the share of the pixels given to a class that
    belong to another or to none; `probability`, the classifier's, on average over the images'
    classes. All thresholds are chosen with the pixel truth of `train`.
    """

    display_name: ClassVar[str] = "erase and infer"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc")
    effort: ClassVar[frozenset[str]] = frozenset({"scales", "num_erasures"})

    num_erasures: int = Field(default=5, ge=1)
    """Times that the map is erased from the image and made again."""
    mask: Literal["soft", "hard"] = "soft"
    """Erase by the map itself (soft), or by 1 above `mask_threshold` (hard)."""
    mask_threshold: float = Field(default=0.3, ge=0, lt=1)
    """Map value above which a hard mask erases."""
    min_probability: float = Field(default=0.0, ge=0, lt=1)
    """Probability below which a class is given up; 0 gives up none (paper)."""
    scales: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5, 2.0), min_length=1)
    """Sizes of the image at which maps are made and summed."""
    flip: bool = True
    """Add the maps of the mirror image."""

    def needs(self) -> tuple[str, ...]:
        """The data and the ordinary classifier."""
        return ("data", "oc")

    def inactive(self) -> frozenset[str]:
        """Knobs without effect: a soft mask has no threshold."""
        return frozenset({"mask_threshold"} if self.mask == "soft" else ())

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield scales that leave no pixel, and data without a mask to score with."""
        data = upstream.get("data")
        if isinstance(data, DataStage) and data.num_scored_images("train") == 0:
            yield (
                "no image of train has a mask, and this stage makes nothing but scores: "
                "draw masks for some of them, or leave it out of the targets"
            )
        yield from lost_pixels("scales", self.scales, upstream)

    def resources(self) -> Resources:
        """A GPU."""
        return Resources(num_cpus=2, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Erase, infer and score; the folder k holds the counts after k erasures."""
        # Imported here: knobs are read where there is no torch.
        from occse.data.batches import batch_pixels, same_size_batches
        from occse.method.recursive_erasing import activations, recursive_cams
        from occse.networks.classifier import load_classifier
        from occse.networks.device_memory import in_portions

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        classifier = load_classifier(ctx.inputs["oc"] / MODEL, device=ctx.machine.device)
        network = in_portions(classifier, ctx.machine.device)
        builders = [
            CountsBuilder(dataset.classes, thresholds=THRESHOLDS)
            for _ in range(self.num_erasures + 1)
        ]
        probabilities: list[list[float]] = [[] for _ in builders]
        pixels = batch_pixels(ctx.machine.device)
        names_of_batches = same_size_batches(
            dataset, dataset.scored("train"), limit=IMAGES, pixels=pixels
        )
        for names in names_of_batches:
            images = np.stack([dataset.image(name) for name in names])
            present = [dataset.labels[name] for name in names]
            rounds = recursive_cams(
                network,
                images,
                present=present,
                num_erasures=self.num_erasures,
                mask_threshold=None if self.mask == "soft" else self.mask_threshold,
                min_probability=self.min_probability,
                scales=self.scales,
                flip=self.flip,
                device=ctx.machine.device,
            )
            for number, (cams, probability) in enumerate(rounds):
                probabilities[number] += probability.tolist()
                for name, cam, classes in zip(names, cams, present, strict=True):
                    builders[number].add_cam(
                        name, cam, classes=np.array(classes), gt=dataset.mask(name)
                    )
        scores = []
        for number, builder in enumerate(builders):
            (ctx.output / str(number)).mkdir()
            scores.append(scores_of(builder, dataset, ctx.output / str(number)))
        activated = activations([builder.build() for builder in builders])
        points = [
            {"miou": score["miou"], "probability": float(np.mean(known)), **activation}
            for score, known, activation in zip(scores, probabilities, activated, strict=True)
        ]
        curves = [{"step": number, **point} for number, point in enumerate(points)]
        (ctx.output / CURVES).write_text(json.dumps(curves) + "\n")
        # The stage's own scores are those after the last erasure.
        return scores[-1] | points[-1]

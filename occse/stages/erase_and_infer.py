"""`erase_and_infer`: the paper's motivation, erasing again and again with the ordinary classifier
as it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from pydantic import Field
from torch import Tensor

from occse.data.batches import same_size_batches
from occse.data.dataset import load_dataset
from occse.data.normalize import IMAGENET_MEAN, to_tensor
from occse.method.cam import multi_scale_cam
from occse.method.evaluation import Counts, CountsBuilder, iou
from occse.networks.classifier import load_classifier, logits
from occse.stage import Context, Resources, ScoredSplit, Stage
from occse.stages.scored import scores_of
from occse.stages.trained import CURVES, MODEL

IMAGES = 8
THRESHOLDS = tuple(hundredths / 100 for hundredths in range(1, 100))
MEAN_COLOR = 255 * np.array(IMAGENET_MEAN, np.float32)


class EraseAndInfer(Stage):
    """Take the classifier's CAM, erase it from the image, infer again, merge, repeat (paper, figure
    2); on `train`.

    `recursive_cams` says how; the mask is the CAM ("soft") or 1 where the CAM exceeds
    `mask_threshold` ("hard"). The paper gives up no class; `min_probability` above 0 does.

    The curves have a point per number of erasures: `miou` at its own best threshold; at the
    threshold that is best without erasing, `covered`, the share of the objects' pixels that are
    given to their class, and `false_activation`, the share of the pixels given to a class that
    belong to another or to none; `probability`, the classifier's, on average over the images'
    classes. All thresholds are chosen with the pixel truth of `train`."""

    display_name: ClassVar[str] = "erase and infer"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc")
    effort: ClassVar[frozenset[str]] = frozenset({"scales", "num_erasures"})

    num_erasures: int = Field(default=5, ge=1)
    mask: Literal["soft", "hard"] = "soft"
    mask_threshold: float = Field(default=0.3, ge=0, lt=1)
    min_probability: float = Field(default=0.0, ge=0, lt=1)
    scales: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5, 2.0), min_length=1)
    flip: bool = True

    def needs(self) -> tuple[str, ...]:
        """The data and the ordinary classifier."""
        return ("data", "oc")

    def inactive(self) -> frozenset[str]:
        """A soft mask has no threshold."""
        return frozenset({"mask_threshold"} if self.mask == "soft" else ())

    def resources(self) -> Resources:
        """A GPU."""
        return Resources(num_cpus=2, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Erase, infer and score; what was counted after k erasures is in the folder k."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        network = load_classifier(ctx.inputs["oc"] / MODEL, device=ctx.device)
        counted = [
            CountsBuilder(dataset.classes, thresholds=THRESHOLDS)
            for _ in range(self.num_erasures + 1)
        ]
        probabilities: list[list[float]] = [[] for _ in counted]
        for names, images in same_size_batches(dataset, dataset.splits["train"], limit=IMAGES):
            present = [dataset.labels[name] for name in names]
            for number, (cams, probability) in enumerate(
                self._cams(network, images, present, device=ctx.device)
            ):
                probabilities[number] += probability.tolist()
                for name, cam, classes in zip(names, cams, present, strict=True):
                    counted[number].add_cam(
                        name, cam, classes=np.array(classes), gt=dataset.mask(name)
                    )
        scores = []
        for number, builder in enumerate(counted):
            (ctx.output / str(number)).mkdir()
            scores.append(scores_of(builder, dataset, ctx.output / str(number)))
        points = [
            {"miou": score["miou"], "probability": float(np.mean(known)), **activation}
            for score, known, activation in zip(
                scores,
                probabilities,
                activations([builder.build() for builder in counted]),
                strict=True,
            )
        ]
        curves = [{"step": number, **point} for number, point in enumerate(points)]
        (ctx.output / CURVES).write_text(json.dumps(curves) + "\n")
        return scores[-1] | points[-1]

    def _cams(
        self,
        network: Callable[[Tensor], Tensor],
        images: UInt8[np.ndarray, "B H W 3"],
        present: Sequence[Sequence[int]],
        *,
        device: str,
    ) -> Iterator[tuple[list[Float32[np.ndarray, "_ H W"]], Float32[np.ndarray, " M"]]]:
        return recursive_cams(
            network,
            images,
            present=present,
            num_erasures=self.num_erasures,
            mask_threshold=None if self.mask == "soft" else self.mask_threshold,
            min_probability=self.min_probability,
            scales=self.scales,
            flip=self.flip,
            device=device,
        )


def recursive_cams(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    present: Sequence[Sequence[int]],
    num_erasures: int,
    mask_threshold: float | None,
    min_probability: float,
    scales: Sequence[float],
    flip: bool,
    device: str,
) -> Iterator[tuple[list[Float32[np.ndarray, "_ H W"]], Float32[np.ndarray, " M"]]]:
    """After 0, 1, ... `num_erasures` erasures: each image's merged CAMs, and the classes'
    probabilities.

    Each of the M present classes of the images is erased from a copy of its own. V says how much of
    a pixel is left, 1 at first, and B is what was merged, 0 at first. A step takes the CAM A of V *
    image + (1 - V) * mean colour, makes B the maximum of B and A, and multiplies V by 1 - M, where
    M is A, or [A > `mask_threshold`] if that is a number. A class whose probability fell below
    `min_probability` has A = 0 from then on: the CAM of a class that the network no longer sees is
    noise, blown up to 1."""
    counts = [len(classes) for classes in present]
    alone = [[index] for classes in present for index in classes]
    pixels = images.repeat(counts, axis=0).astype(np.float32)
    visible = np.ones(pixels.shape[:3], np.float32)
    merged = np.zeros_like(visible)
    for number in range(num_erasures + 1):
        left = np.rint(MEAN_COLOR + visible[..., None] * (pixels - MEAN_COLOR)).astype(np.uint8)
        probability = _probabilities(network, left, np.concatenate(alone), device=device)
        cam = np.concatenate(
            multi_scale_cam(network, left, present=alone, scales=scales, flip=flip, device=device)
        )
        if number > 0:
            cam[probability < min_probability] = 0
        merged = np.maximum(merged, cam)
        visible *= 1 - (cam if mask_threshold is None else cam > mask_threshold)
        yield np.split(merged, np.cumsum(counts)[:-1]), probability


@torch.inference_mode()
def _probabilities(
    network: Callable[[Tensor], Tensor],
    images: UInt8[np.ndarray, "M H W 3"],
    classes: np.ndarray,
    *,
    device: str,
) -> Float32[np.ndarray, " M"]:
    """What the classifier gives to one class of each image, at the image's own size."""
    scores = logits(network(to_tensor(images).to(device))).sigmoid().cpu().numpy()
    chosen: Float32[np.ndarray, " M"] = scores[np.arange(len(classes)), classes]
    return chosen


def activations(counted: Sequence[Counts]) -> Iterator[dict[str, float]]:
    """`covered` and `false_activation` of each of `counted`, at the threshold that is best for the
    first of them.
    """
    confusions = [counts.confusion() for counts in counted]
    best = int(iou(confusions[0]).mean(axis=-1).argmax())
    for confusion in confusions:
        hits = int(np.trace(confusion[best]) - confusion[best, 0, 0])
        objects, activated = int(confusion[best, 1:].sum()), int(confusion[best, :, 1:].sum())
        yield {
            "covered": hits / max(objects, 1),
            "false_activation": (activated - hits) / max(activated, 1),
        }

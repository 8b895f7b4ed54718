"""`cam`: class activation maps of the training images, scored at every threshold."""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch.nn import functional

from occse.data.array_archive import ArrayReader, ArrayWriter
from occse.data.batches import same_size_batches
from occse.data.dataset import load_dataset
from occse.method.cam import multi_scale_cam
from occse.method.evaluation import CountsBuilder
from occse.networks.classifier import load_classifier
from occse.networks.precision import Precision, in_precision
from occse.stage import Context, Resources, ScoredSplit, Split, Stage
from occse.stages.scored import scores_of
from occse.stages.trained import MODEL

CAMS = "cams.zip"
BATCH = 32


class MakeCam(Stage):
    """CAMs of `train_aug` at several scales and mirrored, summed; scored on `train` (paper, section
    4.1).

    `threshold_min` and `threshold_max` bound the sweep in steps of 0.01; the best threshold is
    picked with the pixel truth of `train`, as the official code does. CAMs are stored as float16 at
    1/`reduction` of the image's sides."""

    display_name: ClassVar[str] = "CAM"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc", "cgnet")
    effort: ClassVar[frozenset[str]] = frozenset({"scales"})
    effortless: ClassVar[frozenset[str]] = frozenset({"threshold_min", "threshold_max"})
    mapped_split: ClassVar[Split | None] = "train_aug"
    bytes_per_image: ClassVar[int] = 24_000

    source: Literal["cgnet", "oc"] = "cgnet"
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    flip: bool = True
    precision: Precision = "float32"
    threshold_min: float = Field(default=0.1, gt=0, lt=1)
    threshold_max: float = Field(default=0.39, gt=0, lt=1)
    reduction: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "MakeCam":
        if self.threshold_min > self.threshold_max:
            raise ValueError("threshold_min is above threshold_max")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError("scales must be positive numbers")
        return self

    def needs(self) -> tuple[str, ...]:
        """The data and the network that makes the maps."""
        return ("data", self.source)

    def resources(self) -> Resources:
        """A GPU."""
        return Resources(num_cpus=2, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Make, store and score the maps."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        network = in_precision(
            load_classifier(ctx.inputs[self.source] / MODEL, device=ctx.device), self.precision
        )
        counts = CountsBuilder(dataset.classes, thresholds=self.thresholds())
        scored = set(dataset.splits["train"])
        with ArrayWriter(ctx.output / CAMS) as writer:
            for names, images in same_size_batches(
                dataset, dataset.splits["train_aug"], limit=BATCH
            ):
                present = [dataset.labels[name] for name in names]
                cams = multi_scale_cam(
                    network,
                    images,
                    present=present,
                    scales=self.scales,
                    flip=self.flip,
                    device=ctx.device,
                )
                for name, cam, classes in zip(names, cams, present, strict=True):
                    writer.write(
                        name, cam=reduce(cam, self.reduction), classes=np.array(classes, np.int16)
                    )
                    if name in scored:
                        counts.add_cam(name, cam, classes=np.array(classes), gt=dataset.mask(name))
        return scores_of(counts, dataset, ctx.output)

    def thresholds(self) -> list[float]:
        """Those that are tried, in steps of 0.01."""
        first, last = round(self.threshold_min * 100), round(self.threshold_max * 100)
        return [hundredths / 100 for hundredths in range(first, last + 1)]


def reduce(cam: Float[np.ndarray, "K H W"], factor: int) -> Float[np.ndarray, "K h w"]:
    """The maps at 1/`factor` of their sides (rounded up), float16: what the network's stride left
    of them anyway.
    """
    if factor == 1:
        return cam.astype(np.float16)
    pooled = functional.avg_pool2d(
        torch.from_numpy(cam)[None], factor, ceil_mode=True, count_include_pad=False
    )
    return pooled[0].numpy().astype(np.float16)


def read_cam(
    reader: ArrayReader, name: str, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "K H W"], tuple[int, ...]]:
    """The CAM of an image at (height, width) `size`, float32, and its classes."""
    stored = reader[name]
    cam = torch.from_numpy(stored["cam"].astype(np.float32))[None]
    if cam.shape[2:] != size:
        cam = functional.interpolate(cam, size, mode="bilinear", align_corners=False)
    return cam[0].numpy(), tuple(int(index) for index in stored["classes"])

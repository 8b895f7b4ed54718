"""`cam`: class activation maps of the training images, scored at every threshold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from occse.networks.names import Precision
from occse.stage import MODEL, Context, Resources, ScoredSplit, Split, Stage
from occse.stages.cams import ReadCams
from occse.stages.data import lost_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from occse.data.dataset import Dataset

    Maps = Iterator[tuple[Sequence[str], Tensor]]

# Images of one size that go through the network together.
BATCH = 32
# Batches that wait to be written: one is written while the next one is copied from the device.
BATCHES_BEHIND = 2
# Thresholds are tried in steps of 0.01, as the official code does.
STEPS = 100


class MakeCam(Stage):
    """CAMs of `train_aug` at several scales and mirrored, summed; scored on `train`.

    The merging is that of the paper's section 4.1. `threshold_min` and `threshold_max` bound the
    sweep in steps of 0.01; the best threshold is picked with the pixel truth of `train`, as the
    official code does. CAMs are stored as float16 at 1/`reduction` of the image's sides.
    """

    display_name: ClassVar[str] = "CAM"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "oc", "cgnet", "cams")
    effort: ClassVar[frozenset[str]] = frozenset({"scales"})
    effortless: ClassVar[frozenset[str]] = frozenset({"threshold_min", "threshold_max"})
    mapped_split: ClassVar[Split | None] = "train_aug"
    bytes_per_image: ClassVar[int] = 24_000

    source: Literal["cgnet", "oc", "cams"] = "cgnet"
    """Maker of the maps: CGNet, the ordinary classifier (no erasing), or the files of `cams`."""
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    """Sizes of the image at which maps are made and summed (official code: 0.5, 1, 1.5, 2)."""
    flip: bool = True
    """Add the maps of the mirror image."""
    precision: Precision = "float32"
    """Precision that the network computes in; its weights are float32 in either."""
    threshold_min: float = Field(default=0.1, gt=0, lt=1)
    """Lowest threshold of the sweep that scores the maps."""
    threshold_max: float = Field(default=0.39, gt=0, lt=1)
    """Highest threshold of the sweep; equal to the lowest, the threshold is fixed."""
    reduction: int = Field(default=4, ge=1)
    """Maps are stored at 1/reduction of the image's sides."""

    @model_validator(mode="after")
    def _ordered(self) -> "MakeCam":
        if self.threshold_min > self.threshold_max:
            raise ValueError("threshold_min is above threshold_max")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError("scales must be positive numbers")
        return self

    def needs(self) -> tuple[str, ...]:
        """The data and the network that makes the maps, or the maps of another method."""
        return ("data", self.source)

    def inactive(self) -> frozenset[str]:
        """Knobs of the network, where the maps come from files."""
        unused = {"scales", "flip", "precision"} if self.source == "cams" else set()
        return frozenset(unused)

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield scales that leave no pixel, and maps of files that nobody has named."""
        if self.source == "cams":
            files = upstream.get("cams")
            if isinstance(files, ReadCams) and not files.is_named():
                yield (
                    f"source is cams, but cams.source is {files.source!r}: expected the name of a "
                    "folder of .npy files in the folder that --weights (in a sweep's file weights) "
                    "names"
                )
            return
        yield from lost_pixels("scales", self.scales, upstream)

    def resources(self) -> Resources:
        """A GPU for the network, and threads that read ahead of it and write behind it."""
        return Resources(num_cpus=4, num_gpus=0 if self.source == "cams" else 1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Make, store and score the maps."""
        # Imported here: knobs are read where there is no torch.
        import numpy as np
        import torch

        from occse.data.array_archive import ArrayWriter
        from occse.data.dataset import load_dataset
        from occse.data.read_ahead import HostCopy, WriteBehind
        from occse.data.score_archives import CAMS, reduce
        from occse.method.evaluation import CountsBuilder
        from occse.method.scores import scores_of

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        counts = CountsBuilder(dataset.classes, thresholds=self.thresholds())
        scored = set(dataset.scored("train"))

        def write(made: tuple[Sequence[str], HostCopy, HostCopy]) -> None:
            names, stored, full = made
            # (M, h, w) for all images together: each has as many maps as present classes.
            sizes = [len(dataset.labels[name]) for name in names]
            for name, maps in zip(names, torch.split(stored.wait(), sizes), strict=True):
                classes = np.array(dataset.labels[name], np.int16)
                writer.write(name, cam=maps.numpy(), classes=classes)
            to_score = [name for name in names if name in scored]
            sizes = [len(dataset.labels[name]) for name in to_score]
            for name, maps in zip(to_score, torch.split(full.wait(), sizes), strict=True):
                classes = np.array(dataset.labels[name])
                counts.add_cam(name, maps.numpy(), classes=classes, gt=dataset.mask(name))

        make = self._of_files if self.source == "cams" else self._of_network
        with (
            ArrayWriter(ctx.output / CAMS) as writer,
            WriteBehind(write, depth=BATCHES_BEHIND) as behind,
        ):
            for names, cams in make(ctx, dataset):
                # Maps of all images are stored small. Only those that are scored leave the device
                # at full size.
                sizes = [len(dataset.labels[name]) for name in names]
                whole = [
                    maps
                    for name, maps in zip(names, torch.split(cams, sizes), strict=True)
                    if name in scored
                ]
                stored = HostCopy(reduce(cams, self.reduction))
                # `torch.cat` takes no empty list, so `cams[:0]` stands for no scored image.
                behind.put((names, stored, HostCopy(torch.cat([cams[:0], *whole]))))
        return scores_of(counts, dataset, ctx.output)

    def _of_network(self, ctx: Context, dataset: "Dataset") -> "Maps":
        """Yield image names and maps of the network, at the size of the images."""
        from occse.data.batches import batch_pixels, read_batches, same_size_batches
        from occse.method.cam import merged_cams
        from occse.networks.classifier import load_classifier
        from occse.networks.device_memory import in_portions
        from occse.networks.precision import in_precision

        device = ctx.machine.device
        classifier = load_classifier(ctx.inputs[self.source] / MODEL, device=device)
        network = in_portions(in_precision(classifier, self.precision), device)
        for batch in read_batches(
            dataset,
            same_size_batches(
                dataset, dataset.splits["train_aug"], limit=BATCH, pixels=batch_pixels(device)
            ),
            scales=self.scales,
            device=device,
            threads=ctx.machine.threads,
        ):
            cams = merged_cams(
                network,
                batch.views,
                size=batch.images.shape[1:3],
                present=[dataset.labels[name] for name in batch.names],
                flip=self.flip,
                device=device,
            )
            yield batch.names, cams

    def _of_files(self, ctx: Context, dataset: "Dataset") -> "Maps":
        """Yield image names and maps of another method, at the size of the image."""
        import torch

        from occse.data.array_archive import ArrayReader
        from occse.data.score_archives import CAMS, read_cam

        reader = ArrayReader(ctx.inputs["cams"] / CAMS)
        for name in dataset.splits["train_aug"]:
            cam, _ = read_cam(reader, name, dataset.size(name))
            yield [name], torch.from_numpy(cam)

    def thresholds(self) -> list[float]:
        """Return the thresholds that are tried."""
        first = round(self.threshold_min * STEPS)
        last = round(self.threshold_max * STEPS)
        # Whole numbers divided: adding up 0.01 would gather round-off.
        return [hundredths / STEPS for hundredths in range(first, last + 1)]

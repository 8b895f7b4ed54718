"""`seg`: predictions of the segmentation network; the final score, or the test server's archive."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from occse.data.dataset import Dataset, load_dataset
from occse.data.layouts.voc import write_label_map
from occse.data.layouts.voc_submission import write_submission
from occse.data.tree import split_digest
from occse.data.view_names import Resampling
from occse.method.crf import PresetName
from occse.method.evaluation import CountsBuilder
from occse.method.scores import MAPS_BEHIND, scores_of
from occse.networks.names import Precision
from occse.stage import LABELS, MODEL, Context, Resources, ScoredSplit, Split, Stage
from occse.stages.data import DataStage, InPlace, lost_pixels

if TYPE_CHECKING:
    from occse.data.batches import ImageBatch

ARCHIVE = "comp6.tgz"
# Images of one size that go through the network together.
BATCH = 32
# Merged scores of a batch, all labels at the size of the images, on the device: 1 GiB holds 32
# images of VOC's 21 labels, or 10 of COCO's 81.
MERGED_BYTES = 1 << 30


class Segment(Stage):
    """Label maps of `split`: scores of all scales and mirror images merged, then a dense CRF.

    `resampling` "opencv" scales the normalized images without antialiasing, as SEAM does; "pillow"
    scales the 8-bit images with it. `crf` is the CRF's preset. `merge` "mean" averages the scores,
    "max" takes the maximum of the probabilities. VOC's `test` has no masks here: it is not scored
    but packed for the evaluation server.
    """

    display_name: ClassVar[str] = "segmentation"
    scored_split: ClassVar[ScoredSplit | None] = "val"
    may_need: ClassVar[tuple[str, ...]] = ("data", "deeplab")
    effort: ClassVar[frozenset[str]] = frozenset({"scales"})
    mapped_split: ClassVar[Split | None] = "val"
    bytes_per_image: ClassVar[int] = 2_200

    split: Literal["val", "test"] = "val"
    """Images to segment: `val` is scored, VOC's `test` is packed for the evaluation server."""
    scales: tuple[float, ...] = Field(default=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), min_length=1)
    """Sizes of the image at which scores are made and merged (SEAM: 0.5 to 1.75)."""
    flip: bool = True
    """Merge the scores of the mirror image too."""
    resampling: Resampling = "pillow"
    """Scale images as Pillow does, or as OpenCV does after normalizing (SEAM)."""
    precision: Precision = "float32"
    """Precision that the network computes in; its weights are float32 in either."""
    merge: Literal["mean", "max"] = "mean"
    """Mean of the scores (SEAM), or maximum of the probabilities (MCTformer)."""
    crf: Literal["none", PresetName] = "none"
    """Preset of a dense CRF on the merged scores, or none."""
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """SHA-256 of the split's images and masks, where they are a user's; empty: any."""

    def needs(self) -> tuple[str, ...]:
        """The data and the network."""
        return ("data", "deeplab")

    def inactive(self) -> frozenset[str]:
        """Knobs without effect: one pass has nothing to merge with, drawn data have no digest."""
        unused = set() if self.digest else {"digest"}
        if len(self.scales) == 1 and not self.flip:
            unused.add("merge")
        return frozenset(unused)

    def resolved(self, data: DataStage, root: Path) -> "Segment":
        """Return this stage with the digest of the split below `root`, unless it has one.

        So images and masks of `val` are part of the identity of the segmentation, and of nothing
        that is trained.

        Raises:
            ValueError: `root` is not a data set of this kind.
        """
        if self.digest or not isinstance(data, InPlace):
            return self
        return self.model_copy(update={"digest": data.digest_of_split(root, self.split)})

    def faults(self, upstream: Mapping[str, Stage]) -> Iterator[str]:
        """Yield scales that leave no pixel, and a split that the data do not have."""
        data = upstream.get("data")
        if isinstance(data, DataStage) and data.num_images(self.split) == 0:
            yield (
                f"split is {self.split!r}, which the data do not have; "
                "'test' is VOC's, with images in JPEGImages and a list in ImageSets/Segmentation"
            )
        yield from lost_pixels("scales", self.scales, upstream)

    def resources(self) -> Resources:
        """A GPU, threads around it, and processes for the CRF where it runs on CPUs."""
        return Resources(num_cpus=4 if self.crf == "none" else 8, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Predict and store, then score or pack.

        Raises:
            ValueError: the data has no such split, or other images than those that are meant.
        """
        # Imported here: knobs are read where there is no torch.
        from occse.data.batches import batch_pixels, read_batches, same_size_batches
        from occse.data.read_ahead import WriteBehind
        from occse.method.refinement import ScoreBatch, label_maps
        from occse.networks.deeplab import load_deeplab, merged_scores
        from occse.networks.device_memory import in_portions
        from occse.networks.precision import in_precision

        device = ctx.machine.device
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        names = _names(dataset, self.split)
        if self.digest:
            self._check_digest(dataset)
        deeplab = load_deeplab(ctx.inputs["deeplab"] / MODEL, device=device)
        network = in_portions(in_precision(deeplab, self.precision), device)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.scored("val")) if self.split == "val" else set()
        (ctx.output / LABELS).mkdir()
        labels = tuple(range(len(dataset.classes)))
        pixels = min(batch_pixels(device), MERGED_BYTES // (4 * (len(labels) + 1)))
        batches = read_batches(
            dataset,
            same_size_batches(dataset, names, limit=BATCH, pixels=pixels),
            scales=self.scales,
            resampling=self.resampling,
            device=device,
            threads=ctx.machine.threads,
        )

        def score(batch: "ImageBatch") -> ScoreBatch:
            scores = merged_scores(
                network,
                batch.views,
                size=batch.images.shape[1:3],
                flip=self.flip,
                merge=self.merge,
                align_corners=deeplab.align_corners,
                device=device,
            )
            return ScoreBatch(
                names=batch.names,
                images=batch.images,
                scores=scores.unbind(),
                classes=[labels] * len(scores),
            )

        def write(result: tuple[str, UInt8[np.ndarray, "H W"]]) -> None:
            name, label_map = result
            write_label_map(ctx.output / LABELS / f"{name}.png", label_map)
            if name in scored:
                counts.add_labels(name, label_map, gt=dataset.mask(name))

        with WriteBehind(write, depth=MAPS_BEHIND) as behind:
            for result in label_maps(
                map(score, batches),
                preset=self.crf,
                unary="scores",
                device=device,
                workers=ctx.machine.workers,
            ):
                behind.put(result)
        if self.split == "val":
            return scores_of(counts, dataset, ctx.output)
        write_submission(ctx.output / ARCHIVE, labels=ctx.output / LABELS, names=names)
        return {"images": len(names)}

    def _check_digest(self, dataset: Dataset) -> None:
        found = split_digest(dataset, self.split)
        if found != self.digest:
            raise ValueError(
                f"images and masks of {self.split} below {dataset.root} have the digest {found}; "
                f"seg.digest expects {self.digest}"
            )


def _names(dataset: Dataset, split: str) -> tuple[str, ...]:
    if split not in dataset.splits:
        raise ValueError(
            f"seg.split is {split!r}, but the data has only {', '.join(dataset.splits)}; "
            "VOC's test images need to be in JPEGImages and their list in "
            f"ImageSets/Segmentation/{split}.txt before the data stage runs"
        )
    return dataset.splits[split]

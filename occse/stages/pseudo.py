"""`pseudo`: the label maps that train the segmentation network.

They come from a random walk on the affinities of `affinity`, from the CRF, or from the CAM alone.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from occse.data.array_archive import ArrayReader
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.layouts.voc import write_label_map
from occse.method.crf import PresetName, ScoresTask, label_scores, with_background
from occse.method.evaluation import CountsBuilder
from occse.method.scores import MAPS_BEHIND, scores_of
from occse.stage import LABELS, MODEL, Context, Resources, ScoredSplit, Split, Stage

if TYPE_CHECKING:
    from occse.method.refinement import ScoreBatch

Labelled = Iterator[tuple[str, UInt8[np.ndarray, "H W"]]]

# Images whose graphs a GPU walks at once: 2.0 ms an image, against 8.7 ms one by one (H100).
BATCH = 16


class MakePseudoLabels(Stage):
    """Pseudo labels of `train_aug`, scored on `train`.

    `source` "walk": [(1 - max CAM)^alpha_walk, CAM] walks 2^`log_steps` steps of T =
    column-normalized affinity^beta between pixels closer than `radius` (Ahn and Kwak, CVPR 2018),
    or as IRN walks if the network of `affinity` is its (irn: beta 10, and alpha_walk 4.82 for its
    threshold of 0.25; see `occse.method.random_walk`; IRN's boundaries alone see images padded to a
    side of at least `pad_to`, in irn 512). "crf": the CRF's label maps as they are.
    "cam": the CAM against (1 - max CAM)^alpha_walk.

    A preset in `crf` is a dense CRF after the walk. `crf_unary` "scores": on the walk's scores, as
    SEAM's infer_aff does on demand (psa's kernels, one iteration). "labels": on their label map,
    with 0.7 for each pixel's own label, which is irn's crf_inference_label. Neither psa nor irn has
    a CRF at this place.
    """

    display_name: ClassVar[str] = "pseudo labels"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "cam", "crf", "affinity")
    effortless: ClassVar[frozenset[str]] = frozenset({"alpha_walk", "beta"})
    mapped_split: ClassVar[Split | None] = "train_aug"
    bytes_per_image: ClassVar[int] = 2_800

    source: Literal["walk", "crf", "cam"] = "walk"
    """Maker of the labels: the random walk, the CRF's label maps, or the CAM alone."""
    alpha_walk: float = Field(default=16, gt=0)
    """Exponent of the background's score (1 - max CAM)^alpha_walk (psa: 16)."""
    radius: int = Field(default=5, ge=2)
    """Largest distance of a step of the walk, in cells of the feature map."""
    beta: float = Field(default=8, gt=0)
    """Exponent of the affinities in the transition matrix (psa: 8, irn: 10)."""
    log_steps: int = Field(default=8, ge=0, le=12)
    """Binary logarithm of the number of steps (psa: 8, SEAM: 6)."""
    pad_to: int = Field(default=0, ge=0)
    """Smallest side that images are padded to before IRN's boundaries see them (irn: 512)."""
    crf: Literal["none", PresetName] = "none"
    """Preset of a dense CRF behind the walk, or none (psa, irn)."""
    crf_unary: Literal["scores", "labels"] = "scores"
    """Input of that CRF: the walk's scores (SEAM), or their label map (irn)."""

    def needs(self) -> tuple[str, ...]:
        """The data and the input of the source."""
        if self.source == "walk":
            return ("data", "cam", "affinity")
        return ("data", self.source)

    def inactive(self) -> frozenset[str]:
        """Knobs of the walk where there is none, and of the CRF where there is none."""
        of_walk = {"radius", "beta", "log_steps", "pad_to", "crf", "crf_unary"}
        if self.source == "crf":
            return frozenset(of_walk | {"alpha_walk"})
        if self.source == "cam":
            return frozenset(of_walk)
        return frozenset({"crf_unary"} if self.crf == "none" else ())

    def resources(self) -> Resources:
        """A GPU for the walk, and processes for the CRF behind it; other sources need neither."""
        if self.source != "walk":
            return Resources(num_cpus=2)
        return Resources(num_cpus=2 if self.crf == "none" else 8, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Make, store and score the label maps."""
        # Imported here: it needs torch, and knobs are read where there is none.
        from occse.data.read_ahead import WriteBehind

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.scored("train"))
        (ctx.output / LABELS).mkdir()

        def write(result: tuple[str, UInt8[np.ndarray, "H W"]]) -> None:
            name, labels = result
            write_label_map(ctx.output / LABELS / f"{name}.png", labels)
            if name in scored:
                counts.add_labels(name, labels, gt=dataset.mask(name))

        make = {"walk": self._walk, "crf": self._crf, "cam": self._cam}[self.source]
        with WriteBehind(write, depth=MAPS_BEHIND) as behind:
            for result in make(ctx, dataset):
                behind.put(result)
        return scores_of(counts, dataset, ctx.output)

    def _walk(self, ctx: Context, dataset: Dataset) -> Labelled:
        from occse.method.refinement import label_maps

        return label_maps(
            self._walked(ctx, dataset),
            preset=self.crf,
            unary=self.crf_unary,
            device=ctx.machine.device,
            workers=ctx.machine.workers,
        )

    def _walked(self, ctx: Context, dataset: Dataset) -> Iterator["ScoreBatch"]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from occse.data.batches import pinned, same_size_batches
        from occse.data.normalize import normalized
        from occse.data.read_ahead import read_ahead
        from occse.data.score_archives import CAMS, CamBatch, enlarge, read_cams
        from occse.method.random_walk import walk_scores
        from occse.method.refinement import ScoreBatch
        from occse.networks.affinity import load_affinity_net
        from occse.networks.device_memory import Portions, meter_of

        device = ctx.machine.device
        network = load_affinity_net(ctx.inputs["affinity"] / MODEL, device=device)
        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        portions = Portions(meter_of(device))

        def portion(images: torch.Tensor, cams: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            # A slice: positions in a tensor would be copied to the device, which waits for them.
            rows = slice(int(part[0]), int(part[-1]) + 1)
            size = (images.shape[1], images.shape[2])
            full = enlarge(cams[rows].flatten(0, 1), size)
            return walk_scores(
                network,
                normalized(images[rows]),
                full.view(len(part), cams.shape[1], *size),
                alpha=self.alpha_walk,
                radius=self.radius,
                beta=self.beta,
                steps=2**self.log_steps,
                pad_to=self.pad_to,
            )

        def walk(batch: CamBatch) -> ScoreBatch:
            # Images have unlike numbers of classes: maps of zeros fill up (B, K, h, w).
            stacked = pad_sequence([torch.from_numpy(cam) for cam in batch.cams], batch_first=True)
            images, cams = (
                pinned(tensor, device).to(device, non_blocking=True)
                for tensor in (torch.from_numpy(batch.images), stacked)
            )
            # The items of a portion are positions in the batch.
            walked = portions(
                partial(portion, images, cams), torch.arange(len(images)), size=images.shape[1:3]
            )
            return ScoreBatch(
                names=batch.names,
                images=batch.images,
                scores=[
                    # The background, and the classes without those that filled up.
                    scores[: len(classes) + 1]
                    for scores, classes in zip(walked, batch.classes, strict=True)
                ],
                classes=batch.classes,
            )

        # A CPU walks images one by one faster: a batch of graphs does not fit its caches.
        limit = 1 if device == "cpu" else BATCH
        batches = read_ahead(
            partial(read_cams, dataset, reader),
            same_size_batches(dataset, dataset.splits["train_aug"], limit=limit),
            threads=ctx.machine.threads,
        )
        return map(walk, batches)

    def _crf(self, ctx: Context, dataset: Dataset) -> Labelled:
        folder = ctx.inputs["crf"] / LABELS
        for name in dataset.splits["train_aug"]:
            yield name, read_label_map(folder / f"{name}.png", num_classes=len(dataset.classes))

    def _cam(self, ctx: Context, dataset: Dataset) -> Labelled:
        from occse.data.score_archives import CAMS, read_cam

        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        for name in dataset.splits["train_aug"]:
            image = dataset.image(name)
            cam, classes = read_cam(reader, name, image.shape[:2])
            scores = with_background(cam, self.alpha_walk)
            yield label_scores(ScoresTask(name, image, scores, classes, "none", "scores"))

"""`pseudo`: the label maps that train the segmentation network, by a random walk on the affinities
of `affinity`.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from occse.data.array_archive import ArrayReader
from occse.data.batches import same_size_batches
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.layouts.voc import write_label_map
from occse.data.normalize import to_tensor
from occse.method.crf import PresetName, ScoresTask, label_scores, refine_many, with_background
from occse.method.evaluation import CountsBuilder
from occse.method.random_walk import walk_scores
from occse.networks.affinity import load_affinity_net
from occse.stage import Context, Resources, ScoredSplit, Split, Stage
from occse.stages.cam import CAMS, read_cam
from occse.stages.crf import LABELS
from occse.stages.scored import scores_of
from occse.stages.trained import MODEL

Labelled = Iterator[tuple[str, UInt8[np.ndarray, "H W"]]]

BATCH = 16


class MakePseudoLabels(Stage):
    """Pseudo labels of `train_aug`, scored on `train`.

    `source` "walk": [(1 - max CAM)^alpha_walk, CAM] walks 2^`log_steps` steps of T =
    column-normalized affinity^beta between pixels closer than `radius` (Ahn and Kwak, CVPR 2018),
    or as IRN walks if the network of `affinity` is its (irn: beta 10, and alpha_walk 4.82 for its
    threshold of 0.25; see `occse.method.random_walk`). "crf": the CRF's label maps as they are.
    "cam": the CAM against (1 - max CAM)^alpha_walk.

    A preset in `crf` is a dense CRF after the walk. `crf_unary` "scores": on the walk's scores, as
    SEAM's infer_aff does on demand (psa's kernels, one iteration). "labels": on their label map,
    with 0.7 for each pixel's own label, which is irn's crf_inference_label. Neither psa nor irn has
    a CRF at this place."""

    display_name: ClassVar[str] = "pseudo labels"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "cam", "crf", "affinity")
    effortless: ClassVar[frozenset[str]] = frozenset({"alpha_walk", "beta"})
    mapped_split: ClassVar[Split | None] = "train_aug"
    bytes_per_image: ClassVar[int] = 2_800

    source: Literal["walk", "crf", "cam"] = "walk"
    alpha_walk: float = Field(default=16, gt=0)
    radius: int = Field(default=5, ge=2)
    beta: float = Field(default=8, gt=0)
    log_steps: int = Field(default=8, ge=0, le=12)
    crf: Literal["none", PresetName] = "none"
    crf_unary: Literal["scores", "labels"] = "scores"

    def needs(self) -> tuple[str, ...]:
        """The data and what the source reads."""
        return {
            "walk": ("data", "cam", "affinity"),
            "crf": ("data", "crf"),
            "cam": ("data", "cam"),
        }[self.source]

    def inactive(self) -> frozenset[str]:
        """Knobs of the walk do not matter to the other sources."""
        of_walk = {"radius", "beta", "log_steps", "crf", "crf_unary"}
        of_no_crf = {"crf_unary"} if self.crf == "none" else set()
        return frozenset(
            {"walk": of_no_crf, "crf": of_walk | {"alpha_walk"}, "cam": of_walk}[self.source]
        )

    def resources(self) -> Resources:
        """A GPU for the walk, and processes for the CRF behind it; the other sources need neither."""
        if self.source != "walk":
            return Resources(num_cpus=2)
        return Resources(num_cpus=2 if self.crf == "none" else 8, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Make, store and score the label maps."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.splits["train"])
        (ctx.output / LABELS).mkdir()
        for name, labels in {"walk": self._walk, "crf": self._crf, "cam": self._cam}[self.source](
            ctx, dataset
        ):
            write_label_map(ctx.output / LABELS / f"{name}.png", labels)
            if name in scored:
                counts.add_labels(name, labels, gt=dataset.mask(name))
        return scores_of(counts, dataset, ctx.output)

    def _walk(self, ctx: Context, dataset: Dataset) -> Labelled:
        workers = 0 if self.crf == "none" else ctx.workers
        return refine_many(self._walked(ctx, dataset), label_scores, workers=workers)

    def _walked(self, ctx: Context, dataset: Dataset) -> Iterator[ScoresTask]:
        network = load_affinity_net(ctx.inputs["affinity"] / MODEL, device=ctx.device)
        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        # A CPU walks images one by one faster: a batch of graphs does not fit its caches.
        limit = 1 if ctx.device == "cpu" else BATCH
        for names, images in same_size_batches(dataset, dataset.splits["train_aug"], limit=limit):
            cams, classes = zip(
                *(read_cam(reader, name, images.shape[1:3]) for name in names), strict=True
            )
            walked = walk_scores(
                network,
                to_tensor(images).to(ctx.device),
                pad_sequence([torch.from_numpy(cam) for cam in cams], batch_first=True).to(
                    ctx.device
                ),
                alpha=self.alpha_walk,
                radius=self.radius,
                beta=self.beta,
                steps=2**self.log_steps,
            )
            for name, image, scores, present in zip(
                names, images, walked.cpu().numpy(), classes, strict=True
            ):
                yield ScoresTask(
                    name, image, scores[: len(present) + 1], present, self.crf, self.crf_unary
                )

    def _crf(self, ctx: Context, dataset: Dataset) -> Labelled:
        folder = ctx.inputs["crf"] / LABELS
        for name in dataset.splits["train_aug"]:
            yield name, read_label_map(folder / f"{name}.png", num_classes=len(dataset.classes))

    def _cam(self, ctx: Context, dataset: Dataset) -> Labelled:
        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        for name in dataset.splits["train_aug"]:
            image = dataset.image(name)
            cam, classes = read_cam(reader, name, image.shape[:2])
            yield label_scores(
                ScoresTask(
                    name, image, with_background(cam, self.alpha_walk), classes, "none", "scores"
                )
            )

"""`pseudo`: the label maps that train the segmentation network, by a random walk on AffinityNet's affinities."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field

from occse.affinity import load_affinity_net
from occse.arrays import ArrayReader
from occse.crf import with_background
from occse.data.dataset import Dataset, load_dataset, read_label_map
from occse.data.voc import write_label_map
from occse.evaluation import CountsBuilder
from occse.images import to_tensor
from occse.random_walk import walk_labels
from occse.stage import Context, Resources, Stage
from occse.stages.cam import CAMS, read_cam
from occse.stages.crf import LABELS
from occse.stages.scored import scores_of
from occse.stages.trained import MODEL

Label = Callable[[str], UInt8[np.ndarray, "H W"]]


class MakePseudoLabels(Stage):
    """Pseudo labels of `train_aug`, scored on `train`.

    `source` "walk": [(1 - max CAM)^alpha_walk, CAM] walks 2^`log_steps` steps of T = column-normalized affinity^beta
    (Ahn and Kwak, CVPR 2018). "crf": the CRF's label maps as they are. "cam": the CAM against (1 - max CAM)^alpha_walk.
    """

    source: Literal["walk", "crf", "cam"] = "walk"
    alpha_walk: float = Field(default=16, gt=0)
    beta: float = Field(default=8, gt=0)
    log_steps: int = Field(default=8, ge=0, le=12)

    def needs(self) -> tuple[str, ...]:
        """The data and what the source reads."""
        return {"walk": ("data", "cam", "affinity"), "crf": ("data", "crf"), "cam": ("data", "cam")}[self.source]

    def inactive(self) -> frozenset[str]:
        """Knobs of the walk do not matter to the other sources."""
        unused = {"walk": (), "crf": ("alpha_walk", "beta", "log_steps"), "cam": ("beta", "log_steps")}
        return frozenset(unused[self.source])

    def resources(self) -> Resources:
        """A GPU for the walk; the others need none."""
        return Resources(num_cpus=2, num_gpus=1 if self.source == "walk" else 0)

    def run(self, ctx: Context) -> dict[str, float]:
        """Make, store and score the label maps."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        label = {"walk": self._walk, "crf": self._crf, "cam": self._cam}[self.source](ctx, dataset)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.splits["train"])
        (ctx.output / LABELS).mkdir()
        for name in dataset.splits["train_aug"]:
            labels = label(name)
            write_label_map(ctx.output / LABELS / f"{name}.png", labels)
            if name in scored:
                counts.add_labels(name, labels, gt=dataset.mask(name))
        return scores_of(counts, dataset, ctx.output)

    def _walk(self, ctx: Context, dataset: Dataset) -> Label:
        network = load_affinity_net(ctx.inputs["affinity"] / MODEL, device=ctx.device)
        cams = ArrayReader(ctx.inputs["cam"] / CAMS)

        def label(name: str) -> UInt8[np.ndarray, "H W"]:
            image = dataset.image(name)
            cam, classes = read_cam(cams, name, image.shape[:2])
            return walk_labels(
                network,
                to_tensor(image).to(ctx.device),
                torch.from_numpy(cam).to(ctx.device),
                classes,
                alpha=self.alpha_walk,
                beta=self.beta,
                steps=2**self.log_steps,
            )

        return label

    def _crf(self, ctx: Context, dataset: Dataset) -> Label:
        folder = ctx.inputs["crf"] / LABELS
        return lambda name: read_label_map(folder / f"{name}.png", num_classes=len(dataset.classes))

    def _cam(self, ctx: Context, dataset: Dataset) -> Label:
        cams = ArrayReader(ctx.inputs["cam"] / CAMS)

        def label(name: str) -> UInt8[np.ndarray, "H W"]:
            cam, classes = read_cam(cams, name, dataset.image(name).shape[:2])
            values = np.array([0, *(index + 1 for index in classes)], np.uint8)
            labels: UInt8[np.ndarray, "H W"] = values[with_background(cam, self.alpha_walk).argmax(0)]
            return labels

        return label

"""`crf`, `crf_low`, `crf_high`: CAMs refined by a dense CRF, each at its own alpha."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field

from occse.data.array_archive import ArrayReader, ArrayWriter
from occse.data.dataset import Dataset, load_dataset
from occse.data.layouts.voc import write_label_map
from occse.method.crf import CamTask, PresetName, implied_threshold, refine_cam, refine_on
from occse.method.evaluation import CountsBuilder
from occse.method.scores import scores_of
from occse.stage import LABELS, Context, Resources, ScoredSplit, Split, Stage


class RefineCam(Stage):
    """Dense CRF on [(1 - max CAM)^alpha, CAM] of `train_aug`; scored on `train`.

    The metric `implied_threshold` is the CAM score from which on a class beats the background
    before the CRF.
    """

    version: ClassVar[int] = 2
    display_name: ClassVar[str] = "CRF"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "cam")
    effortless: ClassVar[frozenset[str]] = frozenset({"alpha"})
    mapped_split: ClassVar[Split | None] = "train_aug"
    bytes_per_image: ClassVar[int] = 19_500

    alpha: float = Field(gt=0)
    """Exponent of the background's score (1 - max CAM)^alpha; a high one gives more foreground."""
    preset: PresetName = "psa"
    """Kernels and iterations of the dense CRF, named after the code that they are of."""

    def needs(self) -> tuple[str, ...]:
        """The data and the CAMs."""
        return ("data", "cam")

    def resources(self) -> Resources:
        """One process per core. With a GPU, which is not asked for here, it computes there."""
        return Resources(num_cpus=8)

    def run(self, ctx: Context) -> dict[str, float]:
        """Refine, store and score."""
        # Imported here: it needs torch, and knobs are read where there is none.
        from occse.data.score_archives import CAMS, SCORES

        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        cams = ArrayReader(ctx.inputs["cam"] / CAMS)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.scored("train"))
        (ctx.output / LABELS).mkdir()
        with ArrayWriter(ctx.output / SCORES) as writer:
            for refined in refine_on(
                ctx.machine.device,
                self._tasks(dataset, cams),
                refine_cam,
                workers=ctx.machine.workers + 1,
            ):
                writer.write(
                    refined.name, scores=refined.scores, classes=np.array(refined.classes, np.int16)
                )
                write_label_map(ctx.output / LABELS / f"{refined.name}.png", refined.labels)
                if refined.name in scored:
                    counts.add_labels(refined.name, refined.labels, gt=dataset.mask(refined.name))
        scores = scores_of(counts, dataset, ctx.output)
        return scores | {"implied_threshold": implied_threshold(self.alpha)}

    def _tasks(self, dataset: Dataset, cams: ArrayReader) -> Iterator[CamTask]:
        from occse.data.score_archives import read_cam

        for name in dataset.splits["train_aug"]:
            image = dataset.image(name)
            cam, classes = read_cam(cams, name, image.shape[:2])
            yield CamTask(name, image, cam, classes, self.alpha, self.preset)

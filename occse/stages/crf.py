"""`crf`, `crf_low`, `crf_high`: CAMs refined by a dense CRF, each at its own alpha.

The three share no lattice. Each is an artifact of its own, which other trials may have made already
and which may run on another machine, so a lattice would have to be stored (some 10 MB an image), or
one run would have to publish three artifacts. On a CPU that would save a seventh of their time: the
lattice takes 67 of an image's 310 ms (500 x 375, three labels, psa's kernels). On a GPU it was not
measured.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import Field

from occse.data.array_archive import ArrayReader, ArrayWriter
from occse.data.dataset import load_dataset
from occse.data.layouts.voc import write_label_map
from occse.method.crf import PresetName, RefinedCam, implied_threshold
from occse.method.evaluation import CountsBuilder
from occse.method.scores import scores_of
from occse.stage import LABELS, Context, Resources, ScoredSplit, Split, Stage

# Images of one size that a GPU refines together: 4.9 ms an image, measured for 16 (H100).
BATCH = 16


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
        """One process per core, or a quarter of a GPU.

        A GPU computes faster than one stage can write, so it serves several.
        """
        return Resources(num_cpus=8, num_gpus=0.25)

    def run(self, ctx: Context) -> dict[str, float]:
        """Refine, store and score."""
        # Imported here: it needs torch, and knobs are read where there is none.
        from occse.data.batches import same_size_batches
        from occse.data.read_ahead import WriteBehind, read_ahead
        from occse.data.score_archives import CAMS, SCORES, read_cams
        from occse.method.refinement import refined_cams

        device = ctx.machine.device
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        counts = CountsBuilder(dataset.classes)
        scored = set(dataset.scored("train"))
        names = dataset.splits["train_aug"]
        (ctx.output / LABELS).mkdir()

        def write(refined: RefinedCam) -> None:
            classes = np.array(refined.classes, np.int16)
            writer.write(refined.name, scores=refined.scores, classes=classes)
            write_label_map(ctx.output / LABELS / f"{refined.name}.png", refined.labels)
            if refined.name in scored:
                counts.add_labels(refined.name, refined.labels, gt=dataset.mask(refined.name))

        # Processes of a CPU take image by image; images of one size share a lattice on a GPU.
        one_by_one: Iterable[list[str]] = ([name] for name in names)
        on_gpu = device.startswith("cuda")
        batches = same_size_batches(dataset, names, limit=BATCH) if on_gpu else one_by_one
        with (
            ArrayWriter(ctx.output / SCORES) as writer,
            # Single images wait here, not batches: room for two batches of a GPU.
            WriteBehind(write, depth=2 * BATCH) as behind,
        ):
            for refined in refined_cams(
                read_ahead(
                    partial(read_cams, dataset, reader), batches, threads=ctx.machine.threads
                ),
                alpha=self.alpha,
                preset=self.preset,
                device=device,
                # This process mostly waits for the others, so its core goes to one more of them.
                workers=ctx.machine.workers + 1,
            ):
                behind.put(refined)
        scores = scores_of(counts, dataset, ctx.output)
        return scores | {"implied_threshold": implied_threshold(self.alpha)}

"""A scored stage of a test's own, and a sweep that varies its knob."""

from typing import ClassVar

import numpy as np
from scipy.ndimage import maximum_filter
from small import SMALL

from occse.data.array_archive import ArrayReader
from occse.data.dataset import load_dataset
from occse.data.layouts.voc import write_label_map
from occse.data.score_archives import CAMS, read_cam
from occse.method.crf import ScoresTask, label_scores, with_background
from occse.method.evaluation import CountsBuilder
from occse.method.scores import scores_of
from occse.pipeline import Pipeline
from occse.stage import LABELS, Context, ScoredSplit, Split, Stage


class GrowLabels(Stage):
    """Label maps of the CAMs, whose objects grow by some pixels."""

    display_name: ClassVar[str] = "grown labels"
    scored_split: ClassVar[ScoredSplit | None] = "train"
    may_need: ClassVar[tuple[str, ...]] = ("data", "cam")
    effort: ClassVar[frozenset[str]] = frozenset({"pixels"})
    mapped_split: ClassVar[Split | None] = "train_aug"

    pixels: int = 1

    def needs(self) -> tuple[str, ...]:
        return ("data", "cam")

    def run(self, ctx: Context) -> dict[str, float]:
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        reader = ArrayReader(ctx.inputs["cam"] / CAMS)
        counts = CountsBuilder(dataset.classes)
        (ctx.output / LABELS).mkdir()
        for name in dataset.splits["train_aug"]:
            image = dataset.image(name)
            cam, classes = read_cam(reader, name, image.shape[:2])
            scores = with_background(cam, 4)
            task = ScoresTask(name, image, scores, classes, "none", "scores")
            _, labels = label_scores(task)
            size = 2 * self.pixels + 1
            grown = np.where(labels == 0, maximum_filter(labels, size=size), labels)
            write_label_map(ctx.output / LABELS / f"{name}.png", grown)
            if name in set(dataset.splits["train"]):
                counts.add_labels(name, grown, gt=dataset.mask(name))
        return scores_of(counts, dataset, ctx.output)


class Measure(Stage):
    """A stage behind it, so that a gate has something to hold back."""

    may_need: ClassVar[tuple[str, ...]] = ("grown",)

    def needs(self) -> tuple[str, ...]:
        return ("grown",)

    def run(self, ctx: Context) -> dict[str, float]:
        return {"maps": float(len(list((ctx.inputs["grown"] / LABELS).iterdir())))}


class WithGrown(Pipeline):
    grown: GrowLabels = GrowLabels()
    measure: Measure = Measure()


SWEEP = {
    "name": "grown",
    "question": "Do labels get better when objects grow?",
    "expect": [
        {
            "compare": {"cam.source": "oc", "grown.pixels": 8},
            "metric": "grown/miou",
            "sign": "-",
        }
    ],
    "profile": "embedded",
    "base": SMALL,
    "grid": {"cam.source": ["oc", "cgnet"], "grown.pixels": [0, 8]},
    "baseline": {"cam.source": "oc", "grown.pixels": 0},
    "gates": [{"after": "grown", "top_k": 1}],
    "targets": ["measure"],
    "seeds": 2,
}

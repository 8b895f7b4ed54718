"""What past runs say of a stage that has not run: its time and its size, from the nearest of them.

Nothing is scaled but the size of what grows with the images, and every estimate says what it rests
on. Where nothing at VOC's size was made yet, its maps are as large as those of a benchmark."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from occse.artifacts.manifest import Manifest
from occse.pipeline import Node
from occse.stage import Resources, Stage
from occse.stages.cam import MakeCam
from occse.stages.data import InPlace, Shapes

# Knobs that change numbers, not the work: a run that differs in them only is as good as a run of
# the same stage.
EFFORTLESS = frozenset(
    (
        *(
            "seed",
            "drawing",
            "lr",
            "momentum",
            "weight_decay",
            "poly_power",
            "bias_lr",
            "head_lr",
            "bn_momentum",
        ),
        *(
            "lambda_start",
            "lambda_slope",
            "mask_max",
            "alpha",
            "alpha_walk",
            "beta",
            "jitter",
            "hue",
            "head_dropout",
        ),
        *("threshold_min", "threshold_max"),
    )
)
NETWORK = ("backbone", "head", "width", "dilation")
DECISIVE = frozenset((*NETWORK, "epochs", "scales", "kind", "images", "device"))
"""Without a run that agrees in these, and in the number of images, nothing can be said."""
GROWS = {
    "MakeCam": "train_aug",
    "RefineCam": "train_aug",
    "MakePseudoLabels": "train_aug",
    "Segment": "val",
}
"""Stages with an array or a map for each image, and the split that the images are of."""
BENCHMARK = {"MakeCam": 24_000, "RefineCam": 19_500, "MakePseudoLabels": 2_800, "Segment": 2_200}
"""Bytes per image of 500 x 375 and default knobs, as tests/benchmarks/bench_artifact_size.py
measured them.
"""
REDUCTION: int = MakeCam.model_fields["reduction"].default
PIXELS = {"voc": 500 * 375, "coco": 640 * 480}
"""Of a usual image. The images of a user's own folder may have any size."""

Work = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The least, the usual and the most of something."""

    low: float
    usual: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate(Range):
    """Seconds or bytes of one artifact: the least, the median and the most of past runs.

    Attributes:
        runs: fingerprints of these runs.
        where: the devices that they ran on.
        differs: in what they differ from the stage, where that may matter.
    """

    runs: frozenset[str]
    where: str
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    manifest: Manifest
    data: Manifest | None


class PastRuns:
    """The artifacts of a store, as experience."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        found = {manifest.fingerprint: manifest for manifest in manifests}
        self._seconds = {made.fingerprint: made.seconds for made in found.values()}
        self._images = {
            made.fingerprint: made.metrics for made in found.values() if "images" in made.metrics
        }
        self._runs: dict[str, dict[frozenset[tuple[str, str]], list[_Run]]] = {}
        for made in found.values():
            inputs = {
                field: found[need].config for field, need in made.inputs.items() if need in found
            }
            device = {
                "device": "GPU" if "gpu" in made.machine else "CPU",
                "CPUs": str(made.machine.get("threads")),
            }
            work = _work(made.config, inputs) | device
            run = _Run(made, found.get(made.inputs.get("data", "")))
            self._runs.setdefault(made.stage, {}).setdefault(frozenset(work.items()), []).append(
                run
            )
        self._configs: dict[int, tuple[Stage, dict[str, Any]]] = {}
        self._known: dict[tuple[object, ...], Estimate | None] = {}

    def seconds(
        self, node: Node, nodes: Mapping[str, Node], *, granted: Resources
    ) -> Estimate | None:
        """How long the stage takes; None where its class never ran on such data and such a device.

        Args:
            node: the artifact to make.
            nodes: all artifacts of the plan, by fingerprint.
            granted: whether it runs on a GPU, and on how many CPUs.
        """
        device = {
            "device": "GPU" if granted.num_gpus else "CPU",
            "CPUs": str(max(1, int(granted.num_cpus))),
        }
        work = self._work_of(node, nodes) | device
        key = (node.kind, frozenset(work.items()))
        if key not in self._known:
            runs = self._nearest(node.kind, work)
            self._known[key] = _summed_up(
                (run, run.manifest.seconds, differs) for run, differs in runs
            )
        return self._known[key]

    def bytes(self, node: Node, nodes: Mapping[str, Node]) -> Estimate | None:
        """How large the artifact is; None where no such network, or nothing for so many images, was
        ever made.
        """
        work = self._work_of(node, nodes)
        own = [key for key in work if "." not in key and key != "scales"]
        among = NETWORK if "backbone" in work else [*own, "data.kind"]
        work = {key: work[key] for key in among if key in work}
        data = nodes.get(node.inputs.get("data", ""))
        key = (node.kind, frozenset(work.items()), data and data.fingerprint)
        if key not in self._known:
            runs = self._nearest(node.kind, work, among=among)
            self._known[key] = _summed_up(self._sizes(runs, node.kind, data)) or self._benchmark(
                node, data
            )
        return self._known[key]

    def took(self, fingerprint: str) -> float | None:
        """Seconds that this very artifact took, or None where it is not in the store."""
        return self._seconds.get(fingerprint)

    def images(self, data: Node, split: str) -> float | None:
        """Images of a split: as counted when the data was read or drawn, else as they are published
        or asked for.
        """
        if (metrics := self._images.get(data.fingerprint)) is not None:
            return metrics.get(f"images/{split}")
        if isinstance(data.stage, Shapes):
            return {"train_aug": data.stage.num_train, "val": data.stage.num_val}.get(split)
        return data.stage.published().get(split) if isinstance(data.stage, InPlace) else None

    def _sizes(
        self, runs: Iterable[tuple[_Run, tuple[str, ...]]], kind: str, data: Node | None
    ) -> Iterator[tuple[_Run, float, tuple[str, ...]]]:
        """Bytes for as many images as `data` has."""
        for run, differs in runs:
            if kind not in GROWS:
                yield run, run.manifest.bytes, differs
            elif data is not None and run.data is not None:
                before, now = (
                    run.data.metrics.get(f"images/{GROWS[kind]}"),
                    self.images(data, GROWS[kind]),
                )
                if before and now:
                    yield run, run.manifest.bytes * now / before, differs

    def _benchmark(self, node: Node, data: Node | None) -> Estimate | None:
        """Bytes at VOC's size where no run tells; of a larger usual image by its pixels."""
        pixels = PIXELS.get(self._config(data.stage)["kind"]) if data else None
        images = self.images(data, GROWS[node.kind]) if data and node.kind in GROWS else None
        if (
            not pixels
            or not images
            or self._config(node.stage).get("reduction", REDUCTION) != REDUCTION
        ):
            return None
        size = BENCHMARK[node.kind] * images * pixels / PIXELS["voc"]
        return Estimate(
            low=size,
            usual=size,
            high=size,
            runs=frozenset(),
            where="a benchmark's images of 500 x 375",
        )

    def _nearest(
        self, kind: str, work: Work, *, among: Collection[str] | None = None
    ) -> list[tuple[_Run, tuple[str, ...]]]:
        """The runs that differ in the fewest keys (of `among`) from `work`, and in which; never in
        a decisive one.
        """
        near: list[tuple[_Run, tuple[str, ...]]] = []
        for items, runs in self._runs.get(kind, {}).items():
            other = dict(items)
            keys = other.keys() | work.keys() if among is None else among
            differs = tuple(sorted(key for key in keys if other.get(key) != work.get(key)))
            if not any(map(_decides, differs)):
                near += [(run, differs) for run in runs]
        least = min((len(differs) for _, differs in near), default=0)
        return [(run, differs) for run, differs in near if len(differs) == least]

    def _work_of(self, node: Node, nodes: Mapping[str, Node]) -> dict[str, str]:
        inputs = {field: self._config(nodes[need].stage) for field, need in node.inputs.items()}
        return _work(self._config(node.stage), inputs)

    def _config(self, stage: Stage) -> dict[str, Any]:
        """Trials share their stages, so each is looked at once."""
        if id(stage) not in self._configs:
            self._configs[id(stage)] = (stage, stage.config())
        return self._configs[id(stage)][1]


def _decides(key: str) -> bool:
    knob = key.rsplit(".", 1)[-1]
    return knob in DECISIVE or knob.startswith("num_")


def _work(config: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What decides how long a stage takes: its own knobs, the data, and the networks that it runs."""
    own = {key: value for key, value in config.items() if key not in EFFORTLESS}
    for field, upstream in inputs.items():
        keys = upstream.keys() - EFFORTLESS if field == "data" else upstream.keys() & set(NETWORK)
        own |= {f"{field}.{key}": upstream[key] for key in keys}
    return {key: str(value) for key, value in own.items()}


def _summed_up(runs: Iterable[tuple[_Run, float, tuple[str, ...]]]) -> Estimate | None:
    found = list(runs)
    if not found:
        return None
    values = [value for _, value, _ in found]
    return Estimate(
        low=min(values),
        usual=median(values),
        high=max(values),
        runs=frozenset(run.manifest.fingerprint for run, _, _ in found),
        where=", ".join(sorted({run.manifest.device for run, _, _ in found})),
        differs=tuple(sorted({key for _, _, differs in found for key in differs})),
    )

"""Past runs as estimates of a stage that has not run: its time and its size.

An estimate comes from the runs that differ in the fewest knobs, and says what it rests on. Where no
run tells a time, a shipped rate may. Only the
size of artifacts that grow with the images is scaled. Where no run tells a size, one per image of a
benchmark does."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from occse.artifacts.manifest import Manifest
from occse.pipeline import DATA, STAGES, Node
from occse.stage import Resources, Stage
from occse.stages.data import InPlace, Shapes
from sweeps.plan.shipped import Rate, match

# Pixels of a usual image. Images of a user's own folder may have any size.
PIXELS = {"voc": 500 * 375, "coco": 640 * 480}

Work = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The least, the usual and the most of something."""

    low: float
    usual: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate(Range):
    """Seconds or bytes of one artifact: the least, the median and the most of past runs."""

    #: Fingerprints of these runs.
    runs: frozenset[str]
    #: Devices that they ran on, or another source of the figure.
    where: str
    #: Knobs in which they differ from the stage, where that may matter.
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    """An artifact, and the data that it was made of, where that is still in the store."""

    manifest: Manifest
    data: Manifest | None


class PastRuns:
    """Artifacts of a store, asked for the time and the size of others.

    Args:
        manifests: those of the store.
        shipped: rates for stages of which no run tells the time.
    """

    def __init__(self, manifests: Iterable[Manifest], *, shipped: tuple[Rate, ...] = ()) -> None:
        self._shipped = shipped
        self._manifests = {manifest.fingerprint: manifest for manifest in manifests}
        # by stage class, then by the work that it was
        self._runs: dict[str, dict[frozenset[tuple[str, str]], list[_Run]]] = {}
        for manifest in self._manifests.values():
            data = self._manifests.get(manifest.inputs.get("data", ""))
            runs = self._runs.setdefault(manifest.stage, {})
            work = frozenset(self._work_done(manifest).items())
            runs.setdefault(work, []).append(_Run(manifest, data))
        # Trials share their stages, and a config takes longer to make than to look up. The stage is
        # kept beside it because the id of one that is gone may be given to another.
        self._configs: dict[int, tuple[Stage, dict[str, Any]]] = {}
        self._known: dict[tuple[object, ...], Estimate | None] = {}

    def seconds(
        self, node: Node, nodes: Mapping[str, Node], *, granted: Resources
    ) -> Estimate | None:
        """Return how long the stage takes, None where no past run is like it.

        Args:
            node: the artifact to make.
            nodes: all artifacts of the plan, by fingerprint.
            granted: CPUs and GPUs of the stage.
        """
        device = {
            "device": "GPU" if granted.num_gpus else "CPU",
            "CPUs": str(max(1, int(granted.num_cpus))),
        }
        work = self._work_of(node, nodes) | device
        key = (node.kind, frozenset(work.items()))
        if key not in self._known:
            nearest = self._nearest(node.stage, work)
            known = _summed_up((run, run.manifest.seconds, differs) for run, differs in nearest)
            self._known[key] = known or self._by_rate(node, nodes, granted)
        return self._known[key]

    def bytes(self, node: Node, nodes: Mapping[str, Node]) -> Estimate | None:
        """Return how large the artifact is, None where neither a run nor a benchmark tells."""
        work = self._work_of(node, nodes)
        among = type(node.stage).architecture.intersection(work)
        if not among:
            # The size of a map does not depend on the number of scales that were summed.
            own = {knob for knob in work if "." not in knob and knob != "scales"}
            among = frozenset(own | ({"data.kind"} & work.keys()))
        work = {knob: work[knob] for knob in among}
        data = nodes.get(node.inputs.get("data", ""))
        key = (node.kind, frozenset(work.items()), data and data.fingerprint)
        if key not in self._known:
            nearest = self._nearest(node.stage, work, among=among)
            estimate = _summed_up(self._sizes(nearest, node.stage, data))
            self._known[key] = estimate or self._benchmark(node, data)
        return self._known[key]

    def took(self, fingerprint: str) -> float | None:
        """Return the seconds that this artifact took, None where it is not in the store."""
        manifest = self._manifests.get(fingerprint)
        return None if manifest is None else manifest.seconds

    def images(self, data: Node, split: str) -> float | None:
        """Return the number of images of a split, None where it is unknown.

        It was counted when the data was read or drawn; else it is published or asked for.
        """
        manifest = self._manifests.get(data.fingerprint)
        if manifest is not None and "images" in manifest.metrics:
            return manifest.metrics.get(f"images/{split}")
        if isinstance(data.stage, Shapes):
            return {"train_aug": data.stage.num_train, "val": data.stage.num_val}.get(split)
        return data.stage.published().get(split) if isinstance(data.stage, InPlace) else None

    def _sizes(
        self,
        runs: Iterable[tuple[_Run, tuple[str, ...]]],
        stage: Stage,
        data: Node | None,
    ) -> Iterator[tuple[_Run, float, tuple[str, ...]]]:
        """Yield the bytes of past runs, scaled to as many images as `data` has."""
        split = stage.mapped_split
        for run, differs in runs:
            if split is None:
                yield run, run.manifest.bytes, differs
            elif data is not None and run.data is not None:
                before = run.data.metrics.get(f"images/{split}")
                now = self.images(data, split)
                if before and now:
                    yield run, run.manifest.bytes * now / before, differs

    def _benchmark(self, node: Node, data: Node | None) -> Estimate | None:
        """Return the bytes by those of a benchmark's image, scaled by images and pixels."""
        split = node.stage.mapped_split
        if data is None or split is None or not _stored_as_by_default(node.stage):
            return None
        pixels = PIXELS.get(self._config(data.stage)["kind"])
        images = self.images(data, split)
        if not pixels or not images:
            return None
        size = node.stage.bytes_per_image * images * pixels / PIXELS["voc"]
        where = "a benchmark's images of 500 x 375"
        return Estimate(low=size, usual=size, high=size, runs=frozenset(), where=where)

    def _by_rate(
        self, node: Node, nodes: Mapping[str, Node], granted: Resources
    ) -> Estimate | None:
        """Return the seconds by a shipped rate, scaled by images, pixels, epochs and CPUs."""
        matched = match(node, nodes, self._shipped, granted=granted)
        data = nodes.get(node.inputs.get("data", ""))
        if matched is None or data is None:
            return None
        stage, rate = node.stage, matched.rate
        images = self.images(data, getattr(stage, "trained_split", stage.mapped_split or ""))
        pixels = PIXELS.get(self._config(data.stage)["kind"])
        if not images or not pixels:
            return None
        # Trainings see crops, whose size is a knob of the rate; maps are made of whole images.
        per_image = 1.0 if stage.mapped_split is None else pixels / PIXELS["voc"]
        seconds = images * per_image * getattr(stage, "epochs", 1) / rate.images_per_second
        if rate.runs_on == "CPU":
            seconds *= rate.cpus / max(1.0, granted.num_cpus)
        return Estimate(
            low=seconds,
            usual=seconds,
            high=seconds,
            runs=frozenset(),
            where=rate.source(),
            differs=matched.differs,
        )

    def _nearest(
        self,
        stage: Stage,
        work: Work,
        *,
        among: Collection[str] | None = None,
    ) -> list[tuple[_Run, tuple[str, ...]]]:
        """Return the runs that differ from `work` in the fewest knobs, and the knobs.

        Runs that differ in a decisive knob are left out. With `among`, only these knobs count."""
        near: list[tuple[_Run, tuple[str, ...]]] = []
        for items, runs in self._runs.get(type(stage).__name__, {}).items():
            other = dict(items)
            knobs = other.keys() | work.keys() if among is None else among
            differs = tuple(sorted(knob for knob in knobs if other.get(knob) != work.get(knob)))
            if not any(_decides(key, stage) for key in differs):
                near += [(run, differs) for run in runs]
        least = min((len(differs) for _, differs in near), default=0)
        return [(run, differs) for run, differs in near if len(differs) == least]

    def _work_done(self, manifest: Manifest) -> dict[str, str]:
        device = {
            "device": "GPU" if "gpu" in manifest.machine else "CPU",
            "CPUs": str(manifest.machine.get("threads")),
        }
        inputs = {
            field: (_class_of(self._manifests[need]), self._manifests[need].config)
            for field, need in manifest.inputs.items()
            if need in self._manifests
        }
        return _work(_class_of(manifest), manifest.config, inputs) | device

    def _work_of(self, node: Node, nodes: Mapping[str, Node]) -> dict[str, str]:
        inputs = {}
        for field, need in node.inputs.items():
            stage = nodes[need].stage
            inputs[field] = (type(stage), self._config(stage))
        return _work(type(node.stage), self._config(node.stage), inputs)

    def _config(self, stage: Stage) -> dict[str, Any]:
        if id(stage) not in self._configs:
            self._configs[id(stage)] = (stage, stage.config())
        return self._configs[id(stage)][1]


def _class_of(manifest: Manifest) -> type[Stage]:
    """Return the stage class of an artifact, the base class where this code has no such stage."""
    return STAGES.get(manifest.stage, Stage)


def _decides(key: str, stage: Stage) -> bool:
    """Tell whether a run that differs in `key` says nothing about `stage`.

    It does not where the stage's own effort differs, the device, the kind or number of the images,
    or a network upstream."""
    field, _, knob = key.rpartition(".")
    if not field:
        return knob in stage.effort or knob == "device"
    if field == "data":
        return any(knob in kind.effort for kind in DATA.values())
    return any(knob in kind.architecture for kind in STAGES.values())


def _stored_as_by_default(stage: Stage) -> bool:
    """Tell whether the artifact has the resolution that `bytes_per_image` was measured at."""
    reduction = type(stage).model_fields.get("reduction")
    return reduction is None or stage.config().get("reduction") == reduction.default


def _work(
    kind: type[Stage],
    config: Mapping[str, Any],
    inputs: Mapping[str, tuple[type[Stage], Mapping[str, Any]]],
) -> dict[str, str]:
    """Return the knobs that decide how long a stage takes.

    They are its own, those of the data, and those of the networks that it runs."""
    work = {knob: config[knob] for knob in config.keys() - kind.effortless}
    for field, (upstream, values) in inputs.items():
        knobs = values.keys() & upstream.architecture
        if field == "data":
            knobs = values.keys() - upstream.effortless
        work |= {f"{field}.{knob}": values[knob] for knob in knobs}
    return {key: str(value) for key, value in work.items()}


def _summed_up(runs: Iterable[tuple[_Run, float, tuple[str, ...]]]) -> Estimate | None:
    """Return one estimate from the values of several runs, None where there is none."""
    found = list(runs)
    if not found:
        return None
    values = [value for _, value, _ in found]
    differs: set[str] = set()
    for _, _, knobs in found:
        differs.update(knobs)
    return Estimate(
        low=min(values),
        usual=median(values),
        high=max(values),
        runs=frozenset(run.manifest.fingerprint for run, _, _ in found),
        where=", ".join(sorted({run.manifest.device for run, _, _ in found})),
        differs=tuple(sorted(differs)),
    )

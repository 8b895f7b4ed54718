"""What is wrong with a sweep file, each fault with its place and what would be accepted."""

import difflib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from occse.pipeline import Pipeline, override, profile
from sweeps.knobs import matching
from sweeps.located import Document, Location
from sweeps.schema import BASELINE, Overrides, Request, Spec

MAX_COMBINATIONS = 100_000


def explain(error: ValidationError, document: Document) -> list[str]:
    """What pydantic found, in the words of the file: one `FILE:LINE: key: fault` each."""
    lines: dict[str, None] = {}
    for item in error.errors():
        location = item["loc"]
        where, key = document.where(location), str(location[-1])
        if item["type"] == "missing":
            lines[f"{where}: {key}: this key is missing; a sweep has {', '.join(Spec.model_fields)}"] = None
        elif item["type"] == "extra_forbidden":
            model: type[BaseModel] = Spec if len(location) == 1 else Request
            lines[f"{where}: {key}: unknown key; {_nearest(key, list(model.model_fields))}"] = None
        else:
            place = ".".join(str(part) for part in location if part != "[key]")
            lines[f"{where}: {place}: {item['msg'].removeprefix('Value error, ')}, got {item['input']!r}"] = None
    return list(lines)


def faults(spec: Spec) -> Iterator[tuple[Location, str]]:
    """What types alone cannot tell: place in the file and message, in the order in which they can be judged."""
    if (count := spec.combinations()) > MAX_COMBINATIONS:
        yield ("grid",), f"grid: {count:,} combinations; allowed are {MAX_COMBINATIONS:,}"
        return
    if not count:
        yield ("grid",), "grid: the sweep has no trials; give `grid`, `variants` or `baseline`"
    yield from _faults_of_fields(spec)
    try:
        default = Pipeline() if spec.profile is None else override(Pipeline(), profile(spec.profile))
    except ValueError as error:
        yield ("profile",), f"profile: {error}"
        return
    refused = list(_refused(default, spec.base))
    yield from ((("base", key), message) for key, message in refused)
    if not refused and (said := _objection(default, spec.base)):
        yield ("base",), f"base: {said}"
    if refused or said:
        return
    base = override(default, spec.base)
    yield from _faults_of_grid(spec, base)
    for name, changes in spec.named().items():
        yield from (((*section(name), key), message) for key, message in _refused(base, changes))
    yield from _clashes(spec)


def section(name: str) -> Location:
    """Where the variant `name` stands in the file; the grid for a trial without a name."""
    return (BASELINE,) if name == BASELINE else ("variants", name) if name else ("grid",)


def _faults_of_fields(spec: Spec) -> Iterator[tuple[Location, str]]:
    stages = list(Pipeline.model_fields)
    seeded = [stage for stage in stages if matching(f"{stage}.seed")]
    for key, names, allowed in (
        ("targets", spec.targets, stages),
        ("seed_stages", spec.seed_stages or (), seeded),
        ("resources", tuple(spec.resources), ["*", *stages]),
    ):
        for index, name in enumerate(names):
            if name not in allowed:
                place = name if key == "resources" else index
                yield (key, place), f"{key}: no stage {name!r} here; {_nearest(name, allowed)}"
    for key, request in spec.resources.items():
        if (gpus := request.num_gpus or 0) > 1 and gpus != int(gpus):
            yield ("resources", key), f"resources.{key}.num_gpus: above 1 only whole GPUs can be granted, got {gpus}"
    if BASELINE in spec.variants:
        yield (
            ("variants", BASELINE),
            "variants.baseline: write the baseline under the key `baseline`, beside `variants`",
        )
    if spec.data_root is not None and not spec.data_root.is_dir():
        yield ("data_root",), f"data_root: {spec.data_root} is no folder; expected the folder of the data set"
    if spec.weights is not None and not spec.weights.is_dir():
        yield ("weights",), f"weights: {spec.weights} is no folder; expected the folder of the weight files"


def _faults_of_grid(spec: Spec, base: Pipeline) -> Iterator[tuple[Location, str]]:
    first = {axis: values[0] for axis, values in spec.grid.items()}
    for axis, values in spec.grid.items():
        if not matching(axis):
            yield from ((("grid", axis), message) for _, message in _refused(base, {axis: None}))
            continue
        for index, value in enumerate(values):
            if message := _fault(base, axis, value, beside=first):
                yield ("grid", axis, index), message


def _refused(pipeline: Pipeline, changes: Overrides) -> Iterator[tuple[str, str]]:
    """Key and message of the overrides that are at fault on their own."""
    for key, value in changes.items():
        if message := _fault(pipeline, key, value, beside=changes):
            yield key, message


def _fault(pipeline: Pipeline, key: str, value: object, *, beside: Overrides) -> str:
    """Why a value is refused alone, unless what else is set in the same stages makes it good; else empty."""
    fields = _fields(key)
    kind = {"data.kind": beside["data.kind"]} if "data" in fields and "data.kind" in beside else {}
    related = {other: beside[other] for other in beside if _fields(other) & fields} | {key: value}
    alone = _objection(pipeline, kind | {key: value})
    if not alone or not _objection(pipeline, related):
        return ""
    # a pattern is refused once for every stage that it reaches: the first says enough
    return alone.split(f"; {key}: ")[0].replace(f"override {key!r} matches", f"{key}: matches", 1)


def _objection(pipeline: Pipeline, changes: Overrides) -> str:
    try:
        override(pipeline, changes)
    except ValueError as error:
        return str(error)
    return ""


def _fields(key: str) -> set[str]:
    return {knob.split(".")[0] for knob in matching(key)}


def _clashes(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Knobs that two parts of the spec would set in one trial, where the later would silently win."""
    seeded = dict.fromkeys(spec.seeded_knobs(), "`seeds`; leave its stage out of `seed_stages` to set it here")
    axes: dict[str, str] = {}
    for axis in spec.grid:
        yield from _taken(("grid",), axis, seeded | axes)
        axes |= dict.fromkeys(matching(axis), f"the axis {axis!r}; set it in one place only")
    yield from (clash for key in spec.base for clash in _taken(("base",), key, seeded))
    multiplied = axes if spec.variants else {}
    for name, changes in spec.named().items():
        for key in changes:
            yield from _taken(section(name), key, seeded | multiplied)


def _taken(place: Location, key: str, owners: Mapping[str, str]) -> Iterator[tuple[Location, str]]:
    if taken := [knob for knob in matching(key) if knob in owners]:
        yield (*place, key), f"{key}: {taken[0]} is set by {owners[taken[0]]}"


def _nearest(word: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(word, allowed, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed are {', '.join(allowed)}"

"""Faults of a sweep file, each with its location and with what is allowed."""

import difflib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from occse.naming.variants import BASELINE
from occse.pipeline import Pipeline, default_pipeline, override, pipeline_class, scored_fields
from sweeps.spec.axes import Axis, knobs_of, settings
from sweeps.spec.document import Location, SpecDocument, shortened, shown
from sweeps.spec.expectations import BY_KNOBS, BY_NAME, Claim
from sweeps.spec.expressions import is_derived, knobs_in
from sweeps.spec.gates import Gate
from sweeps.spec.knobs import matching, reachable, show, words_of
from sweeps.spec.limits import Limits
from sweeps.spec.model import BY_STAGE, SAME, Overrides, Spec
from sweeps.spec.resources import Request
from sweeps.spec.search import COSTS, SearchSpec
from sweeps.spec.variants import section

# Every combination is expanded and checked before the sweep starts: some 0.3 ms each.
MAX_COMBINATIONS = 100_000
# Metrics of a scored stage that a search may optimize, in [0, 1].
OBJECTIVES = ("miou", "miou_multi", "precision", "recall")
# Parts of the location of a pydantic error that are not in the file.
TAGS = ("[key]", SAME, BY_STAGE, BY_NAME, BY_KNOBS, "str", "Claim", "list[union[str,Claim]]")


def explain(error: ValidationError, document: SpecDocument) -> list[str]:
    """Return pydantic's faults as lines `FILE:LINE: key: fault`, each once."""
    lines: dict[str, None] = {}
    for item in error.errors():
        location = tuple(part for part in item["loc"] if part not in TAGS)
        message = _explain(location, item)
        lines[f"{document.where(location)}: {message}"] = None
    return list(lines)


def _explain(location: Location, item: ErrorDetails) -> str:
    path = _dotted(location)
    if item["type"] == "missing":
        owner = "a sweep" if len(location) == 1 else str(location[0])
        return f"{path}: this key is missing; {owner} has {', '.join(_keys(location))}"
    if item["type"] == "extra_forbidden":
        key = str(location[-1])
        return f"{shortened(key)}: unknown key; {_nearest(key, _keys(location))}"
    message = item["msg"].removeprefix("Value error, ")
    got = "" if ", got " in message else f", got {shown(item['input'])}"
    return f"{path}: {message}{got}"


def _dotted(location: Location) -> str:
    return ".".join(shortened(str(part)) for part in location)


def _keys(location: Location) -> list[str]:
    """Return the keys that are allowed beside the last part of `location`."""
    models: dict[str, type[BaseModel]] = {
        "resources": Request,
        "grid": Axis,
        "gates": Gate,
        "expect": Claim,
        "limits": Limits,
    }
    models["search"] = Axis if "space" in location[:-1] else SearchSpec
    model = Spec if len(location) == 1 else models[str(location[0])]
    return [info.alias or name for name, info in model.model_fields.items()]


def faults(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield the faults that the types alone do not show: location in the file, and message.

    A fault without which the later checks would fail ends the list."""
    if (count := spec.combinations()) > MAX_COMBINATIONS:
        yield ("grid",), f"grid: expected at most {MAX_COMBINATIONS:,} combinations, got {count:,}"
        return
    if not count and not spec.axes():
        yield (
            ("grid",),
            "grid: expected at least one trial, got none; give `grid`, `variants`, `search` or "
            "`baseline`",
        )
    yield from _faults_of_fields(spec)
    yield from _faults_of_expressions(spec)
    try:
        default = default_pipeline(spec.profile)
    except ValueError as error:
        yield ("profile",), f"profile: {error}"
        return
    fixed = _plain(spec.base)
    refused = False
    for key, message in _refused(default, spec.base):
        refused = True
        yield ("base", key), message
    if refused:
        return
    if objection := _objection(default, fixed):
        yield ("base",), f"base: {objection}"
        return
    base = override(default, fixed)
    yield from _faults_of_axes(spec, base)
    for name, changes in spec.named().items():
        yield from (((*section(name), key), message) for key, message in _refused(base, changes))
    yield from _clashes(spec)


def _faults_of_fields(spec: Spec) -> Iterator[tuple[Location, str]]:
    stages = list(pipeline_class().model_fields)
    seeded = [stage for stage in stages if matching(f"{stage}.seed")]
    for key, names, allowed in (
        ("targets", spec.targets, stages),
        ("seed_stages", spec.seed_stages or (), seeded),
        ("seeds", tuple(spec.seeds) if isinstance(spec.seeds, dict) else (), seeded),
        ("resources", tuple(spec.resources), ["*", *stages]),
    ):
        for index, name in enumerate(names):
            if name not in allowed:
                part = index if key in ("targets", "seed_stages") else name
                yield (key, part), f"{key}: no stage {shown(name)} here; {_nearest(name, allowed)}"
    for key, request in spec.resources.items():
        if (gpus := request.num_gpus or 0) > 1 and gpus != int(gpus):
            yield (
                ("resources", key),
                f"resources.{key}.num_gpus: expected a whole number above 1, got {gpus}",
            )
    yield from _faults_of_sections(spec)
    yield from _faults_of_gates(spec)
    yield from _faults_of_claims(spec)
    yield from _faults_of_labels(spec)
    if BASELINE in spec.variants:
        yield (
            ("variants", BASELINE),
            "variants.baseline: expected the baseline under the key `baseline`, beside `variants`",
        )
    if spec.data_root is not None and not spec.data_root.is_dir():
        yield (
            ("data_root",),
            f"data_root: expected the folder of the data set; {spec.data_root} is not a folder",
        )
    if spec.weights is not None and not spec.weights.is_dir():
        yield (
            ("weights",),
            f"weights: expected the folder of the weight files; {spec.weights} is not a folder",
        )


def _faults_of_sections(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield the sections that exclude each other."""
    if isinstance(spec.seeds, dict) and spec.seed_stages is not None:
        yield (
            ("seed_stages",),
            "seed_stages: expected a number of `seeds` beside it; `seeds` names the stages itself, "
            "so remove one of the two",
        )
    if spec.search:
        yield from _faults_of_search(spec, spec.search)
    if spec.design == "leave_one_out":
        for key, axis in spec.grid.items():
            if len(axis.listed() or ()) != 2:
                yield (
                    ("grid", key),
                    f"grid.{key}: `leave_one_out` expects two values, without and with, "
                    f"got {shortened(show(axis.listed()))}",
                )


def _faults_of_claims(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield claims about scores or knobs that no trial has."""
    if isinstance(spec.expect, str):
        return
    metrics = [f"{field}/miou" for field in scored_fields() if field in reachable(spec.targets)]
    for index, claim in enumerate(spec.expect):
        if isinstance(claim, str):
            continue
        location = ("expect", index)
        path = f"expect.{index}"
        if claim.metric not in metrics:
            told = f"no trial has {shown(claim.metric)}; {_nearest(claim.metric, metrics)}"
            yield (*location, "metric"), f"{path}.metric: {told}"
        if claim.against is None and not _has_baseline(spec):
            yield (
                location,
                f"{path}: expected a baseline to compare with; give `baseline`, or `against`",
            )
        for name, side in (("compare", claim.compare), ("against", claim.against)):
            for knob in side if isinstance(side, dict) else ():
                if matching(knob) != (knob,):
                    told = f"{shown(knob)} is not a knob; expected one such as cgnet.erasing"
                    yield (*location, name), f"{path}.{name}: {told}"


def _faults_of_labels(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield labels of what the pipeline does not have."""
    stages = list(pipeline_class().model_fields)
    for key in spec.labels:
        knob, equals, _ = key.partition("=")
        stage, slash, metric = key.partition("/")
        if slash and metric and not equals:
            if stage not in scored_fields():
                told = f"no scored stage {shown(stage)}; {_nearest(stage, list(scored_fields()))}"
                yield ("labels", key), f"labels: {told}"
        elif "." not in knob:
            if key not in stages:
                yield ("labels", key), f"labels: no stage {shown(key)}; {_nearest(key, stages)}"
        elif matching(knob.strip()) != (knob.strip(),):
            told = f"{shown(knob)} is not a knob; expected a key such as cgnet.erasing=cse"
            yield ("labels", key), f"labels: {told}"
        elif equals:
            value = key.partition("=")[2].strip()
            choices = words_of(knob.strip())
            if choices and value not in choices:
                told = f"{knob.strip()} is never {shown(value)}; {_nearest(value, choices)}"
                yield ("labels", key), f"labels: {told}"


def _faults_of_search(spec: Spec, search: SearchSpec) -> Iterator[tuple[Location, str]]:
    for key in ("grid", "variants"):
        if getattr(spec, key):
            yield (
                (key,),
                f"{key}: expected at most `baseline` beside `search`, which has its own `space`",
            )
    allowed: list[str] = []
    for field in scored_fields():
        if field in reachable(spec.targets):
            allowed += [f"{field}/{name}" for name in OBJECTIVES]
    allowed += COSTS
    for key in search.objectives:
        if key not in allowed:
            yield (
                ("search", "objectives", key),
                f"search.objectives: no trial has {shown(key)}; {_nearest(key, allowed)}",
            )


def _faults_of_gates(spec: Spec) -> Iterator[tuple[Location, str]]:
    stages = list(pipeline_class().model_fields)
    seen: set[str] = set()
    for index, gate in enumerate(spec.gates):
        location = ("gates", index)
        if gate.after not in reachable(spec.targets):
            yield (
                (*location, "after"),
                f"gates.{index}.after: expected a stage that `targets` need, got {gate.after!r}",
            )
        elif not reachable(spec.targets).intersection(stages[stages.index(gate.after) + 1 :]):
            yield (
                (*location, "after"),
                f"gates.{index}.after: expected a stage before the last one that `targets` need, "
                f"got {gate.after!r}; a gate there would stop nothing",
            )
        if gate.after in seen:
            yield (
                (*location, "after"),
                f"gates.{index}.after: expected one gate after a stage, got a second one after "
                f"{gate.after!r}",
            )
        seen.add(gate.after)
        if gate.by is not None and matching(gate.by) != (gate.by,):
            yield (
                (*location, "by"),
                f"gates.{index}.by: expected a knob such as cgnet.backbone, got {gate.by!r}",
            )
        if gate.margin is not None and not _has_baseline(spec):
            yield (
                (*location, "margin"),
                f"gates.{index}.margin: expected a baseline to compare with; give `baseline`",
            )


def _has_baseline(spec: Spec) -> bool:
    # The other designs have a centre, which is the baseline.
    return spec.baseline is not None or (bool(spec.grid) and spec.design != "factorial")


def _faults_of_expressions(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield constraints, conditions of axes and derived values that are no expressions."""
    for location, text in _expressions(spec):
        try:
            knobs_in(text)
        except ValueError as error:
            yield location, f"{_dotted(location)}: {error}"


def _expressions(spec: Spec) -> Iterator[tuple[Location, str]]:
    for index, text in enumerate(spec.constraints):
        yield ("constraints", index), text
    axes = _location_of_axes(spec)
    for key, axis in spec.axes().items():
        if axis.when is not None:
            yield (*axes, key, "when"), axis.when
        for index, value in enumerate(axis.values or ()):
            if is_derived(value):
                yield (*axes, key, index), value
    sections: list[tuple[Location, Overrides]] = [(("base",), spec.base)]
    sections += [(section(name), changes) for name, changes in spec.named().items()]
    for location, changes in sections:
        for key, value in changes.items():
            if is_derived(value):
                yield (*location, key), value


def _location_of_axes(spec: Spec) -> Location:
    return ("search", "space") if spec.search else ("grid",)


def _faults_of_axes(spec: Spec, base: Pipeline) -> Iterator[tuple[Location, str]]:
    """Yield axes of unknown knobs, ranges without an end, and values that a knob refuses."""
    location = _location_of_axes(spec)
    axes = spec.axes()
    first: Overrides = {}
    known: list[str] = []
    for key, axis in axes.items():
        objections = [*_unknown(key, base), *_unusable(key, axis, search=spec.search is not None)]
        if objections:
            yield from (((*location, key), message) for message in objections)
        else:
            first |= _plain(_settings(key, axis)[0])
            known.append(key)
    for key in known:
        for index, setting in enumerate(_settings(key, axes[key])):
            for knob, value in setting.items():
                if message := _fault(base, knob, value, beside=first | setting):
                    yield (*location, key, index), message


def _settings(key: str, axis: Axis) -> list[Overrides]:
    """Return the overrides of each value of the axis.

    A range without values, which only a search has, stands for its two ends."""
    return settings(key, axis) or settings(key, Axis(values=[axis.start, axis.stop]))


def _unknown(key: str, base: Pipeline) -> list[str]:
    unknown = {knob: None for knob in knobs_of(key) if not matching(knob)}
    return [message for _, message in _refused(base, unknown)]


def _unusable(key: str, axis: Axis, *, search: bool) -> Iterator[str]:
    """Yield the faults of an axis's values that do not depend on its knobs."""
    listed = axis.listed()
    knobs = knobs_of(key)
    if search and axis.num is not None:
        yield (
            f"{key}: expected a range with or without `step`, from which a search draws; `num` is "
            "for a grid"
        )
    elif search and listed is None and len(knobs) == 1:
        return
    elif listed is None:
        yield f"{key}: expected `step` or `num` in the range; without them its values have no end"
    elif len(knobs) > 1:
        wrong = [
            value for value in listed if not isinstance(value, list) or len(value) != len(knobs)
        ]
        if wrong:
            count = len(knobs)
            yield (
                f"{key}: expected a list of {count} values for the {count} knobs that move "
                f"together, got {shown(wrong[0])}"
            )


def _plain(changes: Overrides) -> Overrides:
    """Return `changes` without the values that are computed from other knobs later."""
    return {key: value for key, value in changes.items() if not is_derived(value)}


def _refused(pipeline: Pipeline, changes: Overrides) -> Iterator[tuple[str, str]]:
    """Yield key and message of the overrides that are at fault on their own."""
    for key, value in changes.items():
        if message := _fault(pipeline, key, value, beside=changes):
            yield key, message


def _fault(pipeline: Pipeline, key: str, value: object, *, beside: Overrides) -> str:
    """Return the message about a value that is refused, empty where it is allowed.

    A value that is allowed only together with others of the same stage counts as allowed."""
    if is_derived(value):
        return "" if matching(key) else _objection(pipeline, {key: value})
    beside = _plain(beside)
    fields = _fields(key)
    # The knobs of one kind of data are unknown to another, so the kind is set beside each of them.
    kind = {}
    if "data" in fields and "data.kind" in beside:
        kind = {"data.kind": beside["data.kind"]}
    related = {other: beside[other] for other in beside if _fields(other) & fields} | {key: value}
    alone = _objection(pipeline, kind | {key: value})
    if not alone or not _objection(pipeline, related):
        return ""
    # A pattern is refused once for every stage that it reaches, with the same words.
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
    """Yield knobs that two parts of the spec set in one trial, so that one would be ignored."""
    seeded = dict.fromkeys(
        spec.seeded_knobs(), "`seeds`; leave its stage out of `seed_stages` to set it here"
    )
    axes: dict[str, str] = {}
    for axis in spec.axes():
        for knob in knobs_of(axis):
            yield from _taken((*_location_of_axes(spec), axis), knob, seeded | axes)
            axes |= dict.fromkeys(matching(knob), f"the axis {axis!r}; set it in one place only")
    for key in spec.base:
        yield from _taken(("base", key), key, seeded)
    multiplied = axes if spec.variants else {}
    for name, changes in spec.named().items():
        for key in changes:
            yield from _taken((*section(name), key), key, seeded | multiplied)


def _taken(
    location: Location, key: str, owners: Mapping[str, str]
) -> Iterator[tuple[Location, str]]:
    if taken := [knob for knob in matching(key) if knob in owners]:
        yield location, f"{key}: {taken[0]} is already set by {owners[taken[0]]}"


def _nearest(word: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(shortened(word), allowed, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed are {', '.join(allowed)}"

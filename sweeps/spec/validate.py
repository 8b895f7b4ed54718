"""What is wrong with a sweep file, each fault with its place and what would be accepted."""

import difflib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from occse.pipeline import Pipeline, default_pipeline, override, pipeline_class, scored_fields
from sweeps.spec.axes import Axis, knobs_of, settings
from sweeps.spec.document import Location, SpecDocument
from sweeps.spec.expressions import is_derived, knobs_in
from sweeps.spec.gates import Gate
from sweeps.spec.knobs import matching
from sweeps.spec.limits import Limits
from sweeps.spec.model import BASELINE, BY_STAGE, SAME, Overrides, Spec
from sweeps.spec.resources import Request
from sweeps.spec.search import COSTS, SearchSpec
from sweeps.spec.variants import section

MAX_COMBINATIONS = 100_000
OBJECTIVES = ("miou", "miou_multi", "precision", "recall")
TAGS = ("[key]", SAME, BY_STAGE)


def explain(error: ValidationError, document: SpecDocument) -> list[str]:
    """What pydantic found, in the words of the file: one `FILE:LINE: key: fault` each."""
    lines: dict[str, None] = {}
    for item in error.errors():
        location = tuple(part for part in item["loc"] if part not in TAGS)
        where, key, place = (
            document.where(location),
            str(location[-1]),
            ".".join(map(str, location)),
        )
        if item["type"] == "missing":
            owner = "a sweep" if len(location) == 1 else str(location[0])
            lines[
                f"{where}: {place}: this key is missing; {owner} has {', '.join(_keys(location))}"
            ] = None
        elif item["type"] == "extra_forbidden":
            lines[f"{where}: {key}: unknown key; {_nearest(key, _keys(location))}"] = None
        else:
            message = item["msg"].removeprefix("Value error, ")
            got = "" if ", got " in message else f", got {item['input']!r}"
            lines[f"{where}: {place}: {message}{got}"] = None
    return list(lines)


def _keys(location: Location) -> list[str]:
    """The keys that are allowed beside the last part of `location`."""
    models: dict[str, type[BaseModel]] = {
        "resources": Request,
        "grid": Axis,
        "gates": Gate,
        "limits": Limits,
    }
    models["search"] = Axis if "space" in location[:-1] else SearchSpec
    model = Spec if len(location) == 1 else models[str(location[0])]
    return [info.alias or name for name, info in model.model_fields.items()]


def faults(spec: Spec) -> Iterator[tuple[Location, str]]:
    """What types alone cannot tell: place in the file and message, in the order in which they can
    be judged.
    """
    if (count := spec.combinations()) > MAX_COMBINATIONS:
        yield ("grid",), f"grid: {count:,} combinations; allowed are {MAX_COMBINATIONS:,}"
        return
    if not count and not spec.axes():
        yield (
            ("grid",),
            "grid: the sweep has no trials; give `grid`, `variants`, `search` or `baseline`",
        )
    yield from _faults_of_fields(spec)
    yield from _faults_of_expressions(spec)
    try:
        default = default_pipeline(spec.profile)
    except ValueError as error:
        yield ("profile",), f"profile: {error}"
        return
    fixed = _plain(spec.base)
    refused = list(_refused(default, spec.base))
    yield from ((("base", key), message) for key, message in refused)
    if not refused and (said := _objection(default, fixed)):
        yield ("base",), f"base: {said}"
    if refused or said:
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
                place = index if key in ("targets", "seed_stages") else name
                yield (key, place), f"{key}: no stage {name!r} here; {_nearest(name, allowed)}"
    for key, request in spec.resources.items():
        if (gpus := request.num_gpus or 0) > 1 and gpus != int(gpus):
            yield (
                ("resources", key),
                f"resources.{key}.num_gpus: above 1 only whole GPUs can be granted, got {gpus}",
            )
    yield from _faults_of_sections(spec)
    yield from _faults_of_gates(spec)
    if BASELINE in spec.variants:
        yield (
            ("variants", BASELINE),
            "variants.baseline: write the baseline under the key `baseline`, beside `variants`",
        )
    if spec.data_root is not None and not spec.data_root.is_dir():
        yield (
            ("data_root",),
            f"data_root: {spec.data_root} is no folder; expected the folder of the data set",
        )
    if spec.weights is not None and not spec.weights.is_dir():
        yield (
            ("weights",),
            f"weights: {spec.weights} is no folder; expected the folder of the weight files",
        )


def _faults_of_sections(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Sections that do not go together."""
    if isinstance(spec.seeds, dict) and spec.seed_stages is not None:
        yield (
            ("seed_stages",),
            "seed_stages: `seeds` says by itself which stages it reaches; remove one of the two",
        )
    if spec.search:
        for key in (key for key in ("grid", "variants") if getattr(spec, key)):
            yield (
                (key,),
                f"{key}: a search has its own `space`; expected `search` and at most `baseline` beside it",
            )
        scores = [
            f"{field}/{name}"
            for field in _reached(spec)
            if field in scored_fields()
            for name in OBJECTIVES
        ]
        for key in spec.search.objectives:
            if key not in (*scores, *COSTS):
                place = ("search", "objectives", key)
                yield (
                    place,
                    f"search.objectives: no trial has {key!r}; {_nearest(key, [*scores, *COSTS])}",
                )
    for key, axis in spec.grid.items() if spec.design == "leave_one_out" else ():
        if len(axis.listed() or ()) != 2:
            yield (
                ("grid", key),
                f"grid.{key}: `leave_one_out` needs two values, without and with, got {axis.listed()}",
            )


def _faults_of_gates(spec: Spec) -> Iterator[tuple[Location, str]]:
    seen: set[str] = set()
    for index, gate in enumerate(spec.gates):
        place = ("gates", index)
        if gate.after not in _reached(spec):
            yield (
                (*place, "after"),
                f"gates.{index}.after: {gate.after!r} is no stage that `targets` need",
            )
        if gate.after in seen:
            yield (
                (*place, "after"),
                f"gates.{index}.after: there is a gate after {gate.after!r} already; keep one",
            )
        seen.add(gate.after)
        if gate.by is not None and matching(gate.by) != (gate.by,):
            yield (
                (*place, "by"),
                f"gates.{index}.by: {gate.by!r} is no knob; expected one such as cgnet.backbone",
            )
        if gate.margin is not None and not _has_baseline(spec):
            yield (
                (*place, "margin"),
                f"gates.{index}.margin: compares with the baseline; give `baseline`",
            )


def _has_baseline(spec: Spec) -> bool:
    return spec.baseline is not None or (bool(spec.grid) and spec.design != "factorial")


def _reached(spec: Spec) -> set[str]:
    """The stages that a trial may need, whatever its knobs are."""
    default = default_pipeline()
    reached = {target for target in spec.targets if target in pipeline_class().model_fields}
    for field in reversed(pipeline_class().model_fields):
        if field in reached:
            reached.update(default.stage(field).needs())
    return reached


def _faults_of_expressions(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Constraints, conditions of axes and derived values that are no expressions."""
    found: list[tuple[Location, str]] = [
        (("constraints", index), text) for index, text in enumerate(spec.constraints)
    ]
    place, axes = _place_of_axes(spec), spec.axes()
    found += [
        ((*place, key, "when"), axis.when) for key, axis in axes.items() if axis.when is not None
    ]
    values = (
        (key, index, value)
        for key, axis in axes.items()
        for index, value in enumerate(axis.values or ())
    )
    found += [((*place, key, index), value) for key, index, value in values if is_derived(value)]
    for where, changes in (
        (("base",), spec.base),
        *((section(name), changes) for name, changes in spec.named().items()),
    ):
        found += [((*where, key), value) for key, value in changes.items() if is_derived(value)]
    for location, text in found:
        try:
            knobs_in(text)
        except ValueError as error:
            yield location, f"{'.'.join(map(str, location))}: {error}"


def _place_of_axes(spec: Spec) -> Location:
    return ("search", "space") if spec.search else ("grid",)


def _faults_of_axes(spec: Spec, base: Pipeline) -> Iterator[tuple[Location, str]]:
    """Axes without a knob, without an end, or with values that no knob takes."""
    place, axes = _place_of_axes(spec), spec.axes()
    first: Overrides = {}
    good: list[str] = []
    for key, axis in axes.items():
        if found := [*_unknown(key, base), *_unusable(key, axis, search=spec.search is not None)]:
            yield from (((*place, key), message) for message in found)
        else:
            first |= _plain(_settings(key, axis)[0])
            good.append(key)
    for key in good:
        for index, setting in enumerate(_settings(key, axes[key])):
            for knob, value in setting.items():
                if message := _fault(base, knob, value, beside=first | setting):
                    yield (*place, key, index), message


def _settings(key: str, axis: Axis) -> list[Overrides]:
    """What each value of the axis sets; of a range without values, which only a search has, its
    ends.
    """
    return settings(key, axis) or settings(key, Axis(values=[axis.start, axis.stop]))


def _unknown(key: str, base: Pipeline) -> list[str]:
    knobs = [knob for knob in knobs_of(key) if not matching(knob)]
    return [message for knob in knobs for _, message in _refused(base, {knob: None})]


def _unusable(key: str, axis: Axis, *, search: bool) -> Iterator[str]:
    """What is wrong with the values of an axis, whatever its knobs are."""
    listed, knobs = axis.listed(), knobs_of(key)
    if search and axis.num is not None:
        yield f"{key}: `num` picks the values of a grid; a search draws from the whole range, or in a `step`"
    elif search and listed is None and len(knobs) == 1:
        return
    elif listed is None:
        yield f"{key}: a range needs `step` or `num`, or there is no end to its values"
    elif len(knobs) > 1:
        wrong = [
            value for value in listed if not isinstance(value, list) or len(value) != len(knobs)
        ]
        if wrong:
            count = len(knobs)
            yield f"{key}: {count} knobs move together, so each value is a list of {count} values, got {wrong[0]!r}"


def _plain(changes: Overrides) -> Overrides:
    """`changes` without what is derived from other knobs: it has no value yet."""
    return {key: value for key, value in changes.items() if not is_derived(value)}


def _refused(pipeline: Pipeline, changes: Overrides) -> Iterator[tuple[str, str]]:
    """Key and message of the overrides that are at fault on their own."""
    for key, value in changes.items():
        if message := _fault(pipeline, key, value, beside=changes):
            yield key, message


def _fault(pipeline: Pipeline, key: str, value: object, *, beside: Overrides) -> str:
    """Why a value is refused alone, unless what else is set in the same stages makes it good; else
    empty.
    """
    if is_derived(value):
        return "" if matching(key) else _objection(pipeline, {key: value})
    beside, fields = _plain(beside), _fields(key)
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
    seeded = dict.fromkeys(
        spec.seeded_knobs(), "`seeds`; leave its stage out of `seed_stages` to set it here"
    )
    axes: dict[str, str] = {}
    for axis, knob in ((key, knob) for key in spec.axes() for knob in knobs_of(key)):
        yield from _taken((*_place_of_axes(spec), axis), knob, seeded | axes)
        axes |= dict.fromkeys(matching(knob), f"the axis {axis!r}; set it in one place only")
    yield from (clash for key in spec.base for clash in _taken(("base", key), key, seeded))
    multiplied = axes if spec.variants else {}
    for name, changes in spec.named().items():
        for key in changes:
            yield from _taken((*section(name), key), key, seeded | multiplied)


def _taken(place: Location, key: str, owners: Mapping[str, str]) -> Iterator[tuple[Location, str]]:
    if taken := [knob for knob in matching(key) if knob in owners]:
        yield place, f"{key}: {taken[0]} is set by {owners[taken[0]]}"


def _nearest(word: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(word, allowed, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed are {', '.join(allowed)}"

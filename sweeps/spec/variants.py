"""From the sections of a sweep file to the overrides of each of its variants."""

from collections.abc import Iterator
from dataclasses import dataclass

from occse.pipeline import Pipeline
from sweeps.spec.axes import Axis, points
from sweeps.spec.document import Location
from sweeps.spec.expressions import ValueOf, evaluate, is_derived
from sweeps.spec.knobs import matching
from sweeps.spec.model import BASELINE, Overrides, Spec


class SpecError(ValueError):
    """What is wrong with a sweep, and where in its file."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A variant as the file writes it down.

    Attributes:
        name: of the variant, or of the centre of a design; empty for a mere point of the grid.
        changes: its overrides without seeds, derived values computed.
        shown: the keys that tell it from others beside its name.
        baseline: whether the others are compared with it.
        place: where it stands in the file.
    """

    name: str
    changes: Overrides
    shown: tuple[str, ...]
    baseline: bool
    place: Location


def section(name: str) -> Location:
    """Where the variant `name` stands in the file; the grid for a trial without a name."""
    return (BASELINE,) if name == BASELINE else ("variants", name) if name else ("grid",)


def writings(spec: Spec, base: Pipeline) -> Iterator[Writing]:
    """Every variant that the file writes down, in its order, without those that break a constraint.

    Raises:
        SpecError: an expression has no value, or a named variant breaks a constraint.
    """
    named = spec.named()
    if spec.grid and not spec.variants:
        yield from (made for made in _at_points(spec, base, "") if made)
        yield from (_named(spec, base, name) for name in named)
    elif spec.grid:
        yield from (made for name in named for made in _at_points(spec, base, name) if made)
    else:
        yield from (_named(spec, base, name) for name in named)


def value_of(base: Pipeline, overrides: Overrides) -> ValueOf:
    """The value of a knob, as `overrides` write it, else as `base` has it."""
    written = {knob: value for key, value in overrides.items() for knob in matching(key)}
    within: list[str] = []

    def value(knob: str) -> object:
        if knob not in written:
            field, name = knob.split(".")
            if name not in type(base.stage(field)).model_fields:
                raise ValueError(
                    f"{knob}: there is no such knob where data.kind is {base.data.kind!r}"
                )
            return getattr(base.stage(field), name)
        if not is_derived(written[knob]):
            return written[knob]
        if knob in within:
            raise ValueError(
                f"{' <- '.join([*within, knob])}: these values are derived from each other"
            )
        within.append(knob)
        try:
            return evaluate(written[knob], value)
        finally:
            within.pop()

    return value


def holding(
    spec: Spec, base: Pipeline, axes: dict[str, Axis], point: dict[str, Overrides]
) -> Overrides:
    """What the axes of `point` set, without those whose `when` is false; a later one sees what
    earlier ones set.
    """
    kept: Overrides = {}
    for key, values in point.items():
        if holds(axes[key], base, spec.base | kept):
            kept |= values
    return kept


def holds(axis: Axis, base: Pipeline, overrides: Overrides) -> bool:
    """Whether the `when` of an axis is true for the knobs of `base` with `overrides`; one without
    it always holds.
    """
    return axis.when is None or bool(evaluate(axis.when, value_of(base, overrides)))


def at(spec: Spec, base: Pipeline, changes: Overrides) -> Writing | None:
    """The variant that a search suggests by `changes`; None where it breaks a constraint."""
    place = ("search", "space")
    return _write(spec, base, changes, place=place, name="", shown=tuple(changes), baseline=False)


def _at_points(spec: Spec, base: Pipeline, name: str) -> Iterator[Writing | None]:
    changes = spec.named().get(name, {})
    within = spec.model_copy(update={"base": spec.base | changes})
    for centre, point, shown in points(spec.grid, spec.design):
        try:
            kept = holding(within, base, spec.grid, point)
        except ValueError as error:
            raise SpecError(("grid",), f"grid: {error}") from None
        yield _write(
            spec,
            base,
            changes | kept,
            place=section(name),
            name=", ".join(part for part in (name, centre) if part),
            shown=tuple(knob for key in shown for knob in point[key] if knob in kept),
            baseline=name == BASELINE or (bool(centre) and spec.baseline is None),
        )


def _named(spec: Spec, base: Pipeline, name: str) -> Writing:
    place, changes = section(name), spec.named()[name]
    made = _write(spec, base, changes, place=place, name=name, shown=(), baseline=name == BASELINE)
    if made is None:
        raise SpecError(
            place, f"{'.'.join(map(str, place))}: breaks one of the constraints; change it, or them"
        )
    return made


def _write(
    spec: Spec,
    base: Pipeline,
    changes: Overrides,
    *,
    place: Location,
    name: str,
    shown: tuple[str, ...],
    baseline: bool,
) -> Writing | None:
    overrides = {key: value for key, value in spec.base.items() if is_derived(value)} | changes
    value = value_of(base, overrides)
    if not _satisfies(spec, value):
        return None
    try:
        resolved = {
            key: evaluate(written, value) if is_derived(written) else written
            for key, written in overrides.items()
        }
    except ValueError as error:
        raise SpecError(place, f"{'.'.join(map(str, place))}: {error}") from None
    return Writing(name=name, changes=resolved, shown=shown, baseline=baseline, place=place)


def _satisfies(spec: Spec, value: ValueOf) -> bool:
    for index, constraint in enumerate(spec.constraints):
        try:
            if not evaluate(constraint, value):
                return False
        except ValueError as error:
            raise SpecError(("constraints", index), f"constraints: {error}") from None
    return True

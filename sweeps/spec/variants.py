"""Variants of a sweep: from the sections of its file to the overrides of each."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from occse.naming.variants import BASELINE
from occse.pipeline import Pipeline
from sweeps.spec.axes import Axis, points
from sweeps.spec.document import Location
from sweeps.spec.expressions import ValueOf, evaluate, is_derived
from sweeps.spec.knobs import matching, typed
from sweeps.spec.model import Overrides, Spec


class SpecError(ValueError):
    """Fault of a sweep, and its place in the file."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A variant as the file writes it down."""

    #: Name of the variant, or of the centre of a design; empty for a mere point of the grid.
    name: str
    #: Overrides without seeds, derived values computed.
    changes: Overrides
    #: Keys that tell the variant from others beside its name.
    shown: tuple[str, ...]
    #: True for the variant that the others are compared with.
    baseline: bool
    #: Place in the file.
    place: Location


def section(name: str) -> Location:
    """Return the place of the variant `name` in the file; that of a nameless one is the grid."""
    if name == BASELINE:
        return (BASELINE,)
    return ("variants", name) if name else ("grid",)


def writings(spec: Spec, base: Pipeline) -> Iterator[Writing]:
    """Yield every variant of the file, in its order, without those that break a constraint.

    Raises:
        SpecError: an expression has no value, or a named variant breaks a constraint.
    """
    names = spec.named()
    if not spec.grid:
        yield from (_named(spec, base, name) for name in names)
    elif spec.variants:
        for name in names:
            yield from _at_points(spec, base, name)
    else:
        yield from _at_points(spec, base, "")
        yield from (_named(spec, base, name) for name in names)


def value_of(base: Pipeline, overrides: Overrides) -> ValueOf:
    """Return a function to the value of a knob: that of `overrides`, else that of `base`."""
    written: Overrides = {}
    for key, override in overrides.items():
        written |= dict.fromkeys(matching(key), override)
    # the knobs whose values are being derived, to notice a circle
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
            return typed(knob, evaluate(written[knob], value))
        finally:
            within.pop()

    return value


def holding(
    spec: Spec, base: Pipeline, axes: dict[str, Axis], point: dict[str, Overrides]
) -> Overrides:
    """Return the overrides of a point, without those of axes whose `when` is false.

    The `when` of an axis sees the values of earlier axes.
    """
    kept: Overrides = {}
    for key, values in point.items():
        if holds(axes[key], base, spec.base | kept):
            kept |= values
    return kept


def holds(axis: Axis, base: Pipeline, overrides: Overrides) -> bool:
    """Tell whether the `when` of an axis, if any, is true of `base` with `overrides`."""
    return axis.when is None or bool(evaluate(axis.when, value_of(base, overrides)))


def at(spec: Spec, base: Pipeline, changes: Overrides) -> Writing | None:
    """Return the variant that a search suggests, or None where it breaks a constraint."""
    place = ("search", "space")
    return _write(spec, base, changes, place=place, name="", shown=tuple(changes), baseline=False)


def _at_points(spec: Spec, base: Pipeline, name: str) -> Iterator[Writing]:
    """Yield the variant `name` at every point of the grid that satisfies the constraints."""
    changes = spec.named().get(name, {})
    # So that the `when` of an axis sees the variant's own knobs.
    within = spec.model_copy(update={"base": spec.base | changes})
    for centre, point, shown in points(spec.grid, spec.design):
        try:
            kept = holding(within, base, spec.grid, point)
        except ValueError as error:
            raise SpecError(("grid",), f"grid: {error}") from None
        knobs = itertools.chain.from_iterable(point[key] for key in shown)
        writing = _write(
            spec,
            base,
            changes | kept,
            place=section(name),
            name=", ".join(part for part in (name, centre) if part),
            shown=tuple(knob for knob in knobs if knob in kept),
            baseline=name == BASELINE or (bool(centre) and spec.baseline is None),
        )
        if writing is not None:
            yield writing


def _named(spec: Spec, base: Pipeline, name: str) -> Writing:
    place = section(name)
    changes = spec.named()[name]
    baseline = name == BASELINE
    writing = _write(spec, base, changes, place=place, name=name, shown=(), baseline=baseline)
    # At a point of the grid that is normal; a variant that a person named was meant to run.
    if writing is None:
        raise SpecError(
            place, f"{'.'.join(map(str, place))}: breaks one of the constraints; change it, or them"
        )
    return writing


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
    # Derived values of `base` may read knobs of the variant, so they are computed for each.
    overrides = {key: value for key, value in spec.base.items() if is_derived(value)} | changes
    value = value_of(base, overrides)
    if not _satisfies(spec, value):
        return None
    try:
        resolved = {
            key: typed(key, evaluate(written, value)) if is_derived(written) else written
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

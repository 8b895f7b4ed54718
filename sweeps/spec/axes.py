"""Axes of a sweep: the values of its knobs, and the points of the grid that a design picks."""

import itertools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

from sweeps.spec.knobs import typed

# Values of a logarithmic range are rounded to what a person would write: 0.002154.
DIGITS = 4
# A list of more values in one axis is a mistake in `num` or `step`, and would fill the memory.
MAX_VALUES = 10_000
Design = Literal["factorial", "one_at_a_time", "leave_one_out"]


def _as_written(number: object) -> int | float:
    if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
        return number
    raise ValueError("expected a number")


Number = Annotated[int | float, PlainValidator(_as_written, json_schema_input_type=float)]


class Axis(BaseModel):
    """The values of a knob: `values`, or a range. Both ends of a range belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: list[Any] | None = Field(
        default=None, min_length=1, description="The values, one by one."
    )
    start: Number | None = Field(
        default=None, alias="from", description="The smallest value of a range."
    )
    stop: Number | None = Field(
        default=None, alias="to", description="The largest value of a range."
    )
    step: Number | None = Field(
        default=None, gt=0, description="The distance of one value from the next."
    )
    num: int | None = Field(
        default=None, ge=2, le=MAX_VALUES, description="Number of values, both ends among them."
    )
    log: bool = Field(
        default=False, description="Equal ratios of one value to the next, rounded to four digits."
    )
    when: str | None = Field(
        default=None, description="The axis holds only where this is true: cam.source == 'cgnet'"
    )

    @model_validator(mode="after")
    def _one_form(self) -> "Axis":
        ends = [end for end in (self.start, self.stop) if end is not None]
        if (self.values is None) != (len(ends) == 2):
            raise ValueError("give either `values`, or a range by `from` and `to`")
        if self.values is not None and (ends or self.step or self.num or self.log):
            raise ValueError(
                "`values` stand alone; `from`, `to`, `step`, `num` and `log` make a range"
            )
        if ends and ends[0] >= ends[1]:
            raise ValueError(f"`from` must be below `to`, got {ends[0]} and {ends[1]}")
        if self.step and (self.num or self.log):
            raise ValueError(
                "`step` stands without `num` and `log`; give a logarithmic range its number of "
                "values as `num`"
            )
        if self.log and ends[0] <= 0:
            raise ValueError(f"a logarithmic range must start above 0, got {ends[0]}")
        if self.step and (ends[1] - ends[0]) / self.step > MAX_VALUES:
            raise ValueError(f"a range of more than {MAX_VALUES:,} steps; give a larger `step`")
        return self

    def listed(self) -> list[Any] | None:
        """Return the values one by one; None for a range without `step` and `num`."""
        if self.values is not None:
            return self.values
        assert self.start is not None
        assert self.stop is not None
        if self.step is not None:
            # Decimals, so that 0.1 + 2 * 0.1 is the 0.3 that a person would write.
            start = Decimal(str(self.start))
            step = Decimal(str(self.step))
            # Cut off: a range whose length is not a multiple of `step` ends below `to`.
            steps = int((Decimal(str(self.stop)) - start) / step)
            values = [start + index * step for index in range(steps + 1)]
            whole = isinstance(self.start, int) and isinstance(self.step, int)
            return [int(value) if whole else float(value) for value in values]
        if self.num is None:
            return None
        # Rounding is for values between the ends; these stay as they were written.
        inner = (self._between(index / (self.num - 1)) for index in range(1, self.num - 1))
        return [self.start, *(float(f"{value:.{DIGITS}g}") for value in inner), self.stop]

    def _between(self, share: float) -> float:
        assert self.start is not None
        assert self.stop is not None
        if self.log:
            return float(self.start * (self.stop / self.start) ** share)
        return float(self.start + (self.stop - self.start) * share)


def _from_list(written: object) -> object:
    if isinstance(written, list) and written:
        return Axis(values=written)
    if isinstance(written, dict | Axis):
        return written
    raise ValueError(
        "expected a list of at least one value, or a range such as {from: 1, to: 9, step: 2}"
    )


AnyAxis = Annotated[Axis, BeforeValidator(_from_list, json_schema_input_type=list[Any] | Axis)]


def knobs_of(key: str) -> list[str]:
    """Return the knobs of an axis; several, joined by commas, move together."""
    return [knob.strip() for knob in key.split(",")]


def _typed_axis(key: str, axis: Axis) -> Axis:
    """Return the axis with each value in the type of its knob."""
    if axis.values is None:
        return axis
    knobs = knobs_of(key)
    if len(knobs) == 1:
        return axis.model_copy(update={"values": [typed(key, value) for value in axis.values]})
    values = []
    for value in axis.values:
        if isinstance(value, list) and len(value) == len(knobs):
            values.append([typed(knob, part) for knob, part in zip(knobs, value, strict=True)])
        else:  # the check of the spec refuses it, with its place in the file
            values.append(value)
    return axis.model_copy(update={"values": values})


def _typed_axes(axes: dict[str, Axis]) -> dict[str, Axis]:
    return {key: _typed_axis(key, axis) for key, axis in axes.items()}


Axes = Annotated[dict[str, AnyAxis], AfterValidator(_typed_axes)]


def settings(key: str, axis: Axis) -> list[dict[str, Any]]:
    """Return the overrides of each value; none for a range without `step` and `num`."""
    knobs = knobs_of(key)
    return [setting(knobs, value) for value in axis.listed() or []]


def setting(knobs: list[str], value: Any) -> dict[str, Any]:  # noqa: ANN401 - of any knob
    """Return the overrides of one value, which is a list where several knobs move together."""
    if len(knobs) == 1:
        return {knobs[0]: value}
    return dict(zip(knobs, value, strict=True))


def count_points(grid: Mapping[str, Axis], design: Design) -> int:
    """Return the number of points that `points` yields."""
    sizes = [len(axis.listed() or ()) for axis in grid.values()]
    return {
        "factorial": math.prod(sizes),
        "one_at_a_time": 1 + sum(sizes),
        "leave_one_out": 1 + len(sizes),
    }[design]


def points(
    grid: Mapping[str, Axis], design: Design
) -> Iterator[tuple[str, dict[str, dict[str, Any]], list[str]]]:
    """Yield the points of the grid.

    Each is the name of the centre (else empty), the overrides of each axis, and the axes whose
    values tell the point from others.

    `factorial` is every combination. `one_at_a_time` starts from a centre in which no axis is set
    and sets one axis at a time to each of its values. `leave_one_out` has two values per axis,
    without and with: its centre has all axes `with`, and then each in turn is set to `without`."""
    listed = {key: settings(key, axis) for key, axis in grid.items()}
    if design == "factorial":
        for choice in itertools.product(*listed.values()):
            yield "", dict(zip(listed, choice, strict=True)), list(listed)
    elif design == "one_at_a_time":
        yield "base", {}, []
        for key, choices in listed.items():
            yield from (("", {key: changes}, [key]) for changes in choices)
    else:
        full = {key: values[-1] for key, values in listed.items()}
        yield "full", full, []
        yield from (("", full | {key: values[0]}, [key]) for key, values in listed.items())

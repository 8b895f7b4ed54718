"""The axes of a sweep: what values a knob takes, and which points of the grid a design picks."""

import itertools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

DIGITS = 4
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
        default=None, ge=2, le=10_000, description="How many values, both ends among them."
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
                "`step` stands without `num` and `log`; on a logarithmic range `num` says how many values"
            )
        if self.log and ends[0] <= 0:
            raise ValueError(f"a logarithmic range must start above 0, got {ends[0]}")
        if self.step and (ends[1] - ends[0]) / self.step > 10_000:
            raise ValueError("more than 10,000 steps")
        return self

    def listed(self) -> list[Any] | None:
        """The values one by one; None for a range that says neither `step` nor `num`."""
        if self.values is not None:
            return self.values
        assert self.start is not None
        assert self.stop is not None
        if self.step is not None:
            # as the file writes them: 0.1 + 2 * 0.1 is 0.3 here
            start, stop, step = (
                Decimal(str(number)) for number in (self.start, self.stop, self.step)
            )
            whole = isinstance(self.start, int) and isinstance(self.step, int)
            values = [start + index * step for index in range(int((stop - start) / step) + 1)]
            return [int(value) if whole else float(value) for value in values]
        if self.num is None:
            return None
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
    """The knobs of an axis: several, joined by commas, move together."""
    return [knob.strip() for knob in key.split(",")]


def settings(key: str, axis: Axis) -> list[dict[str, Any]]:
    """What each value of the axis sets; empty for a range without `step` or `num`."""
    knobs = knobs_of(key)
    listed = axis.listed() or []
    return [
        {knobs[0]: value} if len(knobs) == 1 else dict(zip(knobs, value, strict=True))
        for value in listed
    ]


def count_points(grid: Mapping[str, Axis], design: Design) -> int:
    """How many points `points` yields."""
    sizes = [len(axis.listed() or ()) for axis in grid.values()]
    return {
        "factorial": math.prod(sizes),
        "one_at_a_time": 1 + sum(sizes),
        "leave_one_out": 1 + len(sizes),
    }[design]


def points(
    grid: Mapping[str, Axis], design: Design
) -> Iterator[tuple[str, dict[str, dict[str, Any]], list[str]]]:
    """The points of the grid: the name of the centre (else empty), what each axis sets, and the
    axes to show.

    `factorial` is every combination. `one_at_a_time` starts from a centre in which no axis is set
    and sets one axis at a time to each of its values. `leave_one_out` has two values per axis,
    without and with: its centre has all axes `with`, and then each in turn is set to `without`."""
    listed = {key: settings(key, axis) for key, axis in grid.items()}
    if design == "factorial":
        for choice in itertools.product(*listed.values()):
            yield "", dict(zip(listed, choice, strict=True)), list(listed)
    elif design == "one_at_a_time":
        yield "base", {}, []
        yield from (("", {key: values}, [key]) for key in listed for values in listed[key])
    else:
        full = {key: values[-1] for key, values in listed.items()}
        yield "full", full, []
        yield from (("", full | {key: values[0]}, [key]) for key, values in listed.items())

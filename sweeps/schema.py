"""The sweep file as a model: every key a user may write, and what it means."""

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from occse.pipeline import TARGETS, Pipeline, override, profile
from occse.stage import Resources, Stage
from sweeps.knobs import matching

BASELINE = "baseline"
Overrides = dict[str, Any]


def _count_up(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return tuple(range(value))
    if isinstance(value, list | tuple):
        return value
    raise ValueError("expected a count of at least 1 (3 means the seeds 0, 1, 2) or a list of seeds")


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("the same value stands here twice; keep one")
    return values


Seed = Annotated[int, Field(strict=True, ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct), BeforeValidator(_count_up)]
Fields = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
Axis = Annotated[list[Any], Field(min_length=1)]
VariantName = Annotated[str, Field(pattern=r"^\S[^\n]*$", max_length=100)]


class Request(BaseModel):
    """What a user grants a stage instead of what the stage itself asks for; None leaves that as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_cpus: float | None = Field(default=None, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)


class Spec(BaseModel):
    """One sweep.

    `base` holds for every trial. `grid` is the product of its axes, in the order of the file. `variants` are named sets
    of overrides to compare with `baseline`; with a grid beside them, each of them runs at every point of the grid. A
    baseline beside a grid without variants marks the point that it equals, or is one more trial. `seeds` go to the
    `seed` of the stages in `seed_stages`, by default of all. `resources` (by stage, `*` for all) are no part of the
    identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)
    question: str = Field(pattern=r"\S")
    expect: str = ""
    profile: str | None = None
    base: Overrides = {}
    grid: dict[str, Axis] = {}
    baseline: Overrides | None = None
    variants: dict[VariantName, Overrides] = {}
    seeds: Seeds = (0,)
    seed_stages: Fields | None = None
    targets: Fields = TARGETS
    resources: dict[str, Request] = {}
    data_root: Path | None = None
    weights: Path | None = None

    def resources_of(self, field: str, stage: Stage) -> Resources:
        """What the stage in `field` may occupy: its own entry, else `*`, else what the stage asks for.

        Raises:
            ValueError: its batch does not divide among the GPUs.
        """
        asked = stage.resources().model_dump()
        for key in ("*", field):
            asked |= self.resources.get(key, Request()).model_dump(exclude_none=True)
        batch_size = getattr(stage, "batch_size", 0) if stage.shares_batches else 0
        if asked["num_gpus"] > 1 and batch_size % asked["num_gpus"]:
            raise ValueError(
                f"resources: {field} would share a batch of {batch_size} images among {asked['num_gpus']:g} GPUs; "
                "each must get equally many"
            )
        return Resources(**asked)

    def combinations(self) -> int:
        """How many trials the file writes down, before those that are the same collapse."""
        points = math.prod(len(values) for values in self.grid.values())
        written = len(self.variants) + (self.baseline is not None)
        if self.variants:
            points *= written
        elif self.grid:
            points += written
        else:
            points = written
        return points * len(self.seeds)

    def seeded_knobs(self) -> tuple[str, ...]:
        """The knobs that `seeds` set."""
        stages = Pipeline.model_fields if self.seed_stages is None else self.seed_stages
        return tuple(knob for stage in stages for knob in matching(f"{stage}.seed"))

    def base_pipeline(self) -> Pipeline:
        """The pipeline that every trial changes: the defaults, the profile, `base`.

        Raises:
            ValueError: there is no such profile, or `base` is refused.
        """
        pipeline = Pipeline() if self.profile is None else override(Pipeline(), profile(self.profile))
        return override(pipeline, self.base)

    def named(self) -> dict[str, Overrides]:
        """The variants that have a name, the baseline first."""
        baseline = {} if self.baseline is None else {BASELINE: self.baseline}
        return baseline | self.variants

"""The sweep file as a model: every key a user may write, and what it means."""

import itertools
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from occse.pipeline import TARGETS, Pipeline, default_pipeline, override, pipeline_class
from occse.stage import Resources, Stage
from sweeps.spec.axes import AnyAxis, Axis, Design, count_points
from sweeps.spec.expressions import is_derived
from sweeps.spec.gates import Gate
from sweeps.spec.knobs import matching
from sweeps.spec.limits import Limits
from sweeps.spec.resources import Request, shared_batch
from sweeps.spec.search import SearchSpec

BASELINE = "baseline"
# Each variant is a trial for each seed; a larger count is a slip of the keyboard.
MAX_SEEDS = 10_000
SAME, BY_STAGE = "[same]", "[by stage]"  # pydantic puts these tags into the place of an error
Overrides = dict[str, Any]


def _count_up(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        if value > MAX_SEEDS:
            raise ValueError(f"expected a count of at most {MAX_SEEDS:,} seeds, got {value:,}")
        return tuple(range(value))
    if isinstance(value, list | tuple):
        return value
    raise ValueError(
        "expected a count of at least 1 (3 means the seeds 0, 1, 2) or a list of seeds"
    )


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"expected a name of printable characters, got {name!r}")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("the same value stands here twice; keep one")
    return values


Seed = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(ge=1)]
CountUp = BeforeValidator(_count_up, json_schema_input_type=Count | list[Seed])
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct), CountUp]
Fields = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
AnySeeds = Annotated[
    Annotated[Seeds, Tag(SAME)] | Annotated[dict[str, Seeds], Tag(BY_STAGE), Field(min_length=1)],
    Discriminator(lambda seeds: BY_STAGE if isinstance(seeds, dict) else SAME),
]
Grid = dict[str, AnyAxis]
VariantName = Annotated[
    str, Field(pattern=r"^\S[^\n]*$", max_length=100), AfterValidator(_printable)
]


class Spec(BaseModel):
    """One sweep.

    `base` holds for every trial. `grid` is the product of its axes, in the order of the file, or
    what `design` picks of it. `variants` are named sets of overrides to compare with `baseline`;
    with a grid beside them, each of them runs at every point of the grid. A baseline beside a grid
    without variants marks the point that it equals, or is one more trial. `resources` (by stage,
    `*` for all) are no part of the identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        max_length=100,
        description="The MLflow experiment.",
    )
    question: str = Field(pattern=r"\S", description="What the sweep is to answer.")
    expect: str = Field(default="", description="The claim, recorded with the result.")
    plugins: Names = Field(
        default=(), description="Modules with stages, data layouts or backbones of your own."
    )
    profile: str | None = Field(
        default=None, description="A named set of overrides, see occse/profiles."
    )
    base: Overrides = Field(
        default={}, description="Overrides of every trial; `=` and an expression derives a value."
    )
    grid: Grid = Field(
        default={}, description="Values by knob; knobs that are joined by commas move together."
    )
    design: Design = Field(default="factorial", description="Which points of the grid are run.")
    constraints: list[str] = Field(
        default=[], description="Points of the grid where one of these is false are left out."
    )
    baseline: Overrides | None = Field(
        default=None, description="What the others are compared with."
    )
    variants: dict[VariantName, Overrides] = Field(
        default={}, description="Overrides by the name of the variant."
    )
    search: SearchSpec | None = Field(
        default=None, description="Suggests variants, instead of a grid."
    )
    gates: list[Gate] = Field(
        default=[], description="Who goes on to the expensive stages, in pipeline order."
    )
    limits: Limits = Field(default=Limits(), description="When to stop launching.")
    seeds: AnySeeds = Field(
        default=(0,), description="A count, a list, or either by stage: {cgnet: 3, deeplab: 2}."
    )
    seed_stages: Fields | None = Field(
        default=None, description="The stages that `seeds` reach; by default all."
    )
    targets: Fields = Field(default=TARGETS, description="The last stages to reach.")
    resources: dict[str, Request] = Field(
        default={}, description="What a stage occupies, by stage; `*` for all."
    )
    data_root: Path | None = Field(default=None, description="The user's data set.")
    weights: Path | None = Field(default=None, description="Folder of the weight files.")

    def resources_of(self, field: str, stage: Stage) -> Resources:
        """What the stage in `field` may occupy: its own entry, else `*`, else what the stage asks
        for.

        Raises:
            ValueError: its batch does not divide among the GPUs.
        """
        asked = stage.resources().model_dump()
        for key in ("*", field):
            asked |= self.resources.get(key, Request()).model_dump(exclude_none=True)
        batch_size = shared_batch(stage)
        if asked["num_gpus"] > 1 and batch_size % asked["num_gpus"]:
            raise ValueError(
                f"resources: {field} would share a batch of {batch_size} images among {asked['num_gpus']:g} GPUs; "
                "each must get equally many"
            )
        return Resources(**asked)

    def num_points(self) -> int:
        """How many points of the grid the design picks."""
        return count_points(self.grid, self.design)

    def combinations(self) -> int:
        """How many trials the file writes down, before constraints, and before those that are the
        same collapse.
        """
        points, named = self.num_points() if self.grid else 0, len(self.named())
        variants = named * max(points, 1) if self.variants else named + points
        return variants * math.prod(
            map(len, self.seeds.values() if isinstance(self.seeds, dict) else [self.seeds])
        )

    def axes(self) -> dict[str, Axis]:
        """What varies by itself: the axes of the grid, or of the search."""
        return self.search.space if self.search else self.grid

    def seeded_knobs(self) -> tuple[str, ...]:
        """The knobs that `seeds` set."""
        stages = (
            self.seeds
            if isinstance(self.seeds, dict)
            else self.seed_stages or pipeline_class().model_fields
        )
        return tuple(knob for stage in stages for knob in matching(f"{stage}.seed"))

    def replicates(self) -> list[tuple[int, Overrides]]:
        """Number and overrides of every replicate: of the seeds by stage each combination, the last
        stage innermost.
        """
        if not isinstance(self.seeds, dict):
            return [(seed, dict.fromkeys(self.seeded_knobs(), seed)) for seed in self.seeds]
        choices = itertools.product(*self.seeds.values())
        return [
            (number, dict(zip(self.seeded_knobs(), seeds, strict=True)))
            for number, seeds in enumerate(choices)
        ]

    def base_pipeline(self) -> Pipeline:
        """The pipeline that every trial changes: the defaults, the profile, `base` without its
        derived values.

        Raises:
            ValueError: there is no such profile, or `base` is refused.
        """
        return override(
            default_pipeline(self.profile),
            {key: value for key, value in self.base.items() if not is_derived(value)},
        )

    def named(self) -> dict[str, Overrides]:
        """The variants that have a name, the baseline first."""
        baseline = {} if self.baseline is None else {BASELINE: self.baseline}
        return baseline | self.variants


def json_schema() -> dict[str, Any]:
    """The JSON schema of a sweep's file, for editors: they complete keys and knobs, and underline
    what is refused.
    """
    schema = Spec.model_json_schema()
    knobs: dict[str, dict[str, Any]] = {knob: {} for knob in matching("*")}
    sections = schema["properties"]
    sections["base"]["properties"] = knobs
    sections["grid"]["properties"] = dict.fromkeys(knobs, sections["grid"]["additionalProperties"])
    (variant,) = sections["variants"]["patternProperties"].values()
    for overrides in (sections["baseline"]["anyOf"][0], variant):
        overrides["properties"] = knobs
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}

"""The sweep file as a model: every key that a user may write, and its meaning."""

import itertools
import math
from functools import cached_property
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

from occse.naming.markup import checked
from occse.naming.variants import BASELINE
from occse.pipeline import TARGETS, Pipeline, default_pipeline, override, pipeline_class
from occse.stage import Resources, Stage
from occse.stages.data import Shapes
from sweeps.spec.axes import Axes, Axis, Design, count_points, knobs_of
from sweeps.spec.expectations import Claim
from sweeps.spec.expressions import is_derived
from sweeps.spec.gates import Gate
from sweeps.spec.knobs import matching, typed
from sweeps.spec.limits import Limits
from sweeps.spec.resources import Request, shared_batch
from sweeps.spec.search import SearchSpec

# pydantic puts these tags of the two forms of `seeds` into the place of an error
SAME = "[same]"
BY_STAGE = "[by stage]"
# torch's generators take seeds of 64 bits.
END_OF_SEEDS = 2**64
# Each variant is a trial for each seed; a larger count is a slip of the keyboard.
MAX_SEEDS = 10_000
# Version of `expectations`, which analysis reads.
EXPECTATIONS_VERSION = 1
Overrides = dict[str, Any]


def _count_up(value: object) -> object:
    """Turn a count into the seeds 0, 1, ..."""
    if isinstance(value, list | tuple) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        if value > MAX_SEEDS:
            raise ValueError(f"expected a count of at most {MAX_SEEDS:,} seeds, got {value:,}")
        return tuple(range(value))
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


def _typed_overrides(overrides: Overrides) -> Overrides:
    return {key: typed(key, value) for key, value in overrides.items()}


Seed = Annotated[int, Field(strict=True, ge=0, lt=END_OF_SEEDS)]
Count = Annotated[int, Field(ge=1, le=MAX_SEEDS)]
SeedList = Annotated[list[Seed], Field(min_length=1)]
CountUp = BeforeValidator(_count_up, json_schema_input_type=Count | SeedList)
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_distinct), CountUp]
Fields = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
AnySeeds = Annotated[
    Annotated[Seeds, Tag(SAME)] | Annotated[dict[str, Seeds], Tag(BY_STAGE), Field(min_length=1)],
    Discriminator(lambda seeds: BY_STAGE if isinstance(seeds, dict) else SAME),
]
TypedOverrides = Annotated[Overrides, AfterValidator(_typed_overrides)]
Label = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(checked)]
VariantName = Annotated[
    str, Field(pattern=r"^\S[^\n]*$", max_length=100), AfterValidator(_printable)
]


class Spec(BaseModel):
    """One sweep.

    `base` holds for every trial. `grid` is the product of its axes, in the order of the file, or
    the points of it that `design` picks. `variants` are named sets of overrides to compare with
    `baseline`; with a grid beside them, each of them runs at every point of the grid. A baseline
    beside a grid without variants marks the point that it equals, or is one more trial. `resources`
    (by stage, `*` for all) are no part of the identity.

    Overrides have the types of their knobs once the model is made: conditions, constraints and
    expressions see the values that a stage gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        # no dot in front: ".." would leave the folder that is named after the sweep
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        max_length=100,
        description="The MLflow experiment.",
    )
    question: str = Field(pattern=r"\S", description="The question that the sweep answers.")
    expect: str | list[str | Claim] = Field(
        default="",
        description="The expected answer: a text, or a list of texts and of claims to be judged.",
    )
    plugins: Names = Field(
        default=(), description="Modules with stages, data layouts or backbones of your own."
    )
    profile: str | None = Field(
        default=None, description="A named set of overrides, see occse/profiles."
    )
    base: TypedOverrides = Field(
        default={}, description="Overrides of every trial; `=` and an expression derives a value."
    )
    grid: Axes = Field(
        default={}, description="Values by knob; knobs that are joined by commas move together."
    )
    design: Design = Field(default="factorial", description="The points of the grid that are run.")
    constraints: list[str] = Field(
        default=[], description="Points of the grid where one of these is false are left out."
    )
    baseline: TypedOverrides | None = Field(
        default=None, description="Overrides of the variant that the others are compared with."
    )
    variants: dict[VariantName, TypedOverrides] = Field(
        default={}, description="Overrides by the name of the variant."
    )
    search: SearchSpec | None = Field(
        default=None, description="Suggests variants, instead of a grid."
    )
    gates: list[Gate] = Field(
        default=[],
        description="Rules for which variants go on to the expensive stages, in pipeline order.",
    )
    labels: dict[str, Label] = Field(
        default={},
        description="Names for tables, figures and MLflow: of a value (cgnet.erasing=cse: CSE), a "
        "knob (cgnet.lambda_start: $\\lambda$), a stage or a metric (pseudo/miou: Pseudo mask).",
    )
    limits: Limits = Field(default=Limits(), description="Amounts after which no trial launches.")
    notify: str = Field(
        default="",
        description="URL or command that is told of end, failures, gates and limits, as JSON; "
        "$NAME stands for a variable of the environment.",
    )
    seeds: AnySeeds = Field(
        default=(0,), description="A count, a list, or either by stage: {cgnet: 3, deeplab: 2}."
    )
    seed_stages: Fields | None = Field(
        default=None, description="The stages that `seeds` reach; by default all."
    )
    targets: Fields = Field(default=TARGETS, description="The last stages to reach.")
    resources: dict[str, Request] = Field(
        default={}, description="CPUs and GPUs of a stage, by stage; `*` for all."
    )
    data_root: Path | None = Field(default=None, description="Folder of the user's data set.")
    weights: Path | None = Field(default=None, description="Folder of the weight files.")

    @property
    def prose(self) -> str:
        """The expected answer as text, claims among it."""
        if isinstance(self.expect, str):
            return self.expect.strip()
        texts = [part if isinstance(part, str) else part.describe() for part in self.expect]
        return "; ".join(text.strip().rstrip(".") for text in texts)

    @property
    def claims(self) -> list[Claim]:
        """The expectations that analysis judges."""
        if isinstance(self.expect, str):
            return []
        return [part for part in self.expect if isinstance(part, Claim)]

    def expectations(self) -> dict[str, Any]:
        """Return the expected answer as JSON values, for the record of the sweep."""
        claims = [claim.model_dump(mode="json") for claim in self.claims]
        return {"version": EXPECTATIONS_VERSION, "prose": self.prose, "claims": claims}

    @cached_property
    def _embedded(self) -> bool:
        """True where all trials are on the drawn data."""
        # A single variant may bring data of its own.
        for key in itertools.chain(self.axes(), *self.named().values()):
            if any("data.kind" in matching(knob) for knob in knobs_of(key)):
                return False
        return isinstance(self.base_pipeline().data, Shapes)

    def resources_of(self, field: str, stage: Stage) -> Resources:
        """Return the resources of the stage in `field`.

        Its own entry counts first, then `*`, then the request of the stage itself. On the drawn
        data that request is for no GPU: the network is too small to fill one, and stages that wait
        for it would run one after the other.

        Raises:
            ValueError: its batch does not divide among the GPUs.
        """
        asked = stage.resources().model_dump()
        if self._embedded:
            asked["num_gpus"] = 0.0
        for key in ("*", field):
            # A value that an entry leaves out is None there, and must not hide one said elsewhere.
            asked |= self.resources.get(key, Request()).model_dump(exclude_none=True)
        batch_size = shared_batch(stage)
        if asked["num_gpus"] > 1 and batch_size % asked["num_gpus"]:
            raise ValueError(
                f"resources: {field} would share a batch of {batch_size} images among "
                f"{asked['num_gpus']:g} GPUs; each must get equally many"
            )
        return Resources(**asked)

    def num_points(self) -> int:
        """Return the number of points of the grid that the design picks."""
        return count_points(self.grid, self.design)

    def combinations(self) -> int:
        """Return the number of trials that the file writes down.

        Constraints, and trials that turn out to be the same, may leave fewer.
        """
        points = self.num_points() if self.grid else 0
        named = len(self.named())
        # Variants are multiplied by the grid; a baseline alone stands beside it.
        variants = named * max(points, 1) if self.variants else named + points
        seeds = self.seeds.values() if isinstance(self.seeds, dict) else [self.seeds]
        return variants * math.prod(map(len, seeds))

    def axes(self) -> dict[str, Axis]:
        """Return the axes of the grid, or of the search."""
        return self.search.space if self.search else self.grid

    def seeded_knobs(self) -> tuple[str, ...]:
        """Return the knobs that `seeds` set."""
        stages = self.seed_stages or tuple(pipeline_class().model_fields)
        if isinstance(self.seeds, dict):
            stages = tuple(self.seeds)
        knobs: list[str] = []
        for stage in stages:
            knobs += matching(f"{stage}.seed")
        return tuple(knobs)

    def replicates(self) -> list[tuple[int, Overrides]]:
        """Return number and overrides of every replicate.

        Seeds by stage are combined, the last stage innermost.
        """
        if not isinstance(self.seeds, dict):
            return [(seed, dict.fromkeys(self.seeded_knobs(), seed)) for seed in self.seeds]
        # Several seeds make a replicate, so the number of their combination stands for it.
        choices = itertools.product(*self.seeds.values())
        return [
            (number, dict(zip(self.seeded_knobs(), seeds, strict=True)))
            for number, seeds in enumerate(choices)
        ]

    def base_pipeline(self) -> Pipeline:
        """Return the pipeline that every trial changes.

        It has the defaults, the profile, and `base` without its derived values.

        Raises:
            ValueError: there is no such profile, or `base` is refused.
        """
        plain = {key: value for key, value in self.base.items() if not is_derived(value)}
        return override(default_pipeline(self.profile), plain)

    def named(self) -> dict[str, Overrides]:
        """Return the variants that have a name, the baseline first."""
        baseline = {} if self.baseline is None else {BASELINE: self.baseline}
        return baseline | self.variants

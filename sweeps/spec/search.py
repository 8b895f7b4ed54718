"""The search of a sweep file: a space, objectives, and the study that remembers them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeps.spec.axes import Axes

# Objectives beside the scores: the sum over a trial's stages, as if it shared none of them.
COSTS = ("hours", "gpu_hours")
# The sampler's generator takes 32 bits, and the number of former suggestions is added.
MAX_SAMPLER_SEED = 2**31


class SearchSpec(BaseModel):
    """Variants that Optuna suggests instead of a grid, each with all seeds.

    The study is kept in a database, so that the same command goes on where it stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(
        ge=1,
        le=100_000,
        description="How many variants are suggested, those of former runs included.",
    )
    space: Axes = Field(
        min_length=1,
        description="Values by knob: a list, or a range with `step`, `log` or neither.",
    )
    objectives: dict[str, Literal["max", "min"]] = Field(
        min_length=1,
        description="Metrics such as pseudo/miou; hours and gpu_hours are the cost of a trial.",
    )
    sampler: Literal["tpe", "random"] = Field(default="tpe", description="Optuna's sampler.")
    seed: int = Field(default=0, ge=0, le=MAX_SAMPLER_SEED, description="Seed of the sampler.")
    study: str | None = Field(
        default=None, description="Name of the study; by default the sweep's."
    )
    storage: str = Field(
        default="sqlite:///runs/optuna.db", description="Optuna's storage: the URL of a database."
    )

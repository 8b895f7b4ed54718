"""When a sweep stops launching."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Limits of one call of `run`. What runs goes on to its end, or to its next gate; nothing is
    killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int | None = Field(
        default=None, ge=1, description="How many trials are launched at most."
    )
    gpu_hours: float | None = Field(
        default=None, gt=0, description="GPU hours of the stages that ran or run."
    )
    wall_hours: float | None = Field(default=None, gt=0, description="Hours since the start.")

    def reached(self, *, trials: int, gpu_s: float, wall_s: float) -> str:
        """Which limit is reached, for people; empty where none is.

        Args:
            trials: launched so far.
            gpu_s: seconds that GPUs were held.
            wall_s: seconds since the start.
        """
        spent = (
            ("trials", self.trials, float(trials), "trials"),
            ("gpu_hours", self.gpu_hours, gpu_s / 3600, "GPU hours"),
            ("wall_hours", self.wall_hours, wall_s / 3600, "hours"),
        )
        for key, limit, amount, unit in spent:
            if limit is not None and amount >= limit:
                return f"limits.{key} ({limit:g} {unit})"
        return ""

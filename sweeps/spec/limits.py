"""Limits of a sweep file: trials, GPU hours and hours of one call of `run`."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Limits of one call of `run`, which then launches no further trial.

    Trials that run go on to their end, or to their next gate; nothing is killed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int | None = Field(
        default=None, ge=1, description="Largest number of trials that are launched."
    )
    gpu_hours: float | None = Field(
        default=None, gt=0, description="GPU hours of the stages that ran or run."
    )
    wall_hours: float | None = Field(default=None, gt=0, description="Hours since the start.")

    def reached(self, *, trials: int, gpu_s: float, wall_s: float) -> str:
        """Return the limit that is reached as text, empty while none is.

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

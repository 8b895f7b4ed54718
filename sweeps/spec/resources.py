"""Resources of a sweep file: CPUs and GPUs that a user grants a stage."""

from pydantic import BaseModel, ConfigDict, Field

from occse.stage import Stage


class Request(BaseModel):
    """CPUs and GPUs for one stage. A value of None keeps what the stage itself asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_cpus: float | None = Field(default=None, ge=0, description="CPUs of each such stage.")
    num_gpus: float | None = Field(
        default=None, ge=0, description="GPUs of each such stage; above 1 only whole ones."
    )


def shared_batch(stage: Stage) -> int:
    """Return the images of a batch that the GPUs of a stage share evenly.

    A stage that makes use of one GPU only has 0.
    """
    return getattr(stage, "batch_size", 0) if stage.shares_batches else 0

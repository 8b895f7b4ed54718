"""Resources that a stage may ask for, as far as its own knobs decide."""

from occse.stage import Stage


def shared_batch(stage: Stage) -> int:
    """Return how many images a batch has that several GPUs of `stage` share evenly.

    0 for a stage that makes use of one GPU alone."""
    if not stage.shares_batches:
        return 0
    batch_size: int = getattr(stage, "batch_size", 0)
    return batch_size

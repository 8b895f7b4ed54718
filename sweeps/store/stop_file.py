"""A file in the store whose presence asks a running stage to end at its next checkpoint.

It is in the store because the driver that asks and the worker that runs the stage need not be on
one machine, and need not be able to reach each other.
"""

import time
from dataclasses import dataclass

from sweeps.store.backends import Files

# A training asks after every step, of which a GPU does ten a second; a person does not notice a
# second, and an object store charges for every request.
ASK_EVERY_S = 1.0
# A store that is away makes each look last seconds, and the training waits for it.
AWAY_S = 30.0


def stop_file(fingerprint: str) -> str:
    """Return the name of the file for a stage; it lies beside the stage's checkpoint."""
    return f"scratch/{fingerprint}/.stop"


@dataclass
class StopRequested:
    """Callable that tells whether the stop file `name` is there; it looks at most once a second."""

    files: Files
    name: str
    asked: float = float("-inf")

    def __call__(self) -> bool:
        """Tell whether the stage is asked to stop; False if the last look was a moment ago."""
        if time.monotonic() - self.asked < ASK_EVERY_S:
            return False
        self.asked = time.monotonic()
        try:
            return self.files.read(self.name) is not None
        except OSError:  # a store that is away for a while is no reason to end a training
            self.asked = time.monotonic() + AWAY_S
            return False

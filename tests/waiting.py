"""Waiting for another process or thread, with an end."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

# A loaded machine of two cores starts Ray, MLflow or a training within this time; a test that waits
# longer waits for something that never comes.
PATIENCE_S = 300.0
# Short against what is waited for, long against the cost of asking.
EVERY_S = 0.05

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found],
    *,
    what: str = "",
    process: "subprocess.Popen[str] | subprocess.Popen[bytes] | None" = None,
    patience_s: float = PATIENCE_S,
    every_s: float = EVERY_S,
) -> Found:
    """Ask `condition` until its answer is true, and return the answer.

    The test fails after `patience_s` seconds, or once `process` has ended, for then nothing that it
    would have done comes any more. `what` names the thing that is waited for.
    """
    deadline = time.monotonic() + patience_s
    while not (answer := condition()):
        if process is not None and process.poll() is not None:
            # A process that ended may have done it between the question and the look at it.
            if answer := condition():
                return answer
            output = process.communicate()[0] if process.stdout else ""
            raise AssertionError(f"process ended ({process.returncode}) before {what}: {output!r}")
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what or condition}"
        time.sleep(every_s)
    return answer

import signal

import pytest
import torch
from ray.exceptions import OutOfMemoryError

from sweeps.cluster.stage_task import ERROR_CHARACTERS, explain, hear_cancellation

# The beginning of what Ray 2.60 says, and the line about the process that it killed.
KILLED = """1 worker(s) were killed due to the node running low on memory. \
Memory on the node (IP: 192.0.2.2, ID: bdce) was 13.87GB used / 23.54GB limit (0.589069)
Selected to kill: (Task: job ID=01, task name=oc:3d46f8dc, required resources={CPU: 1}, pid=18309, \
actual memory used=9.39GB, worker ID=0ebf)
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("oc.lr: too large"), "oc.lr: too large"),
        (OSError(), "OSError: no message"),
        (
            OutOfMemoryError(KILLED),
            "needs more host memory than this machine has: it had 9.39 GB when 13.87 of the "
            "23.54 GB of 192.0.2.2 were used, and Ray killed it; run fewer stages beside it",
        ),
        (OutOfMemoryError("other words"), "needs more host memory than this machine has; run"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "too little GPU memory: CUDA out of memory.; `resources` may give the stage more",
        ),
    ],
)
def test_an_error_is_told_in_words(error: Exception, told: str) -> None:
    assert explain(error).startswith(told)


def test_an_endless_error_is_cut_off() -> None:
    assert len(explain(RuntimeError("x" * 10 * ERROR_CHARACTERS))) < 2 * ERROR_CHARACTERS


def test_a_stage_hears_its_cancellation_though_the_shell_had_it_ignore_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hear_cancellation()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

import signal

import pytest
import torch

from sweeps.cluster.stage_task import ERROR_CHARACTERS, explain, hear_cancellation


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("oc.lr: too large"), "oc.lr: too large"),
        (OSError(), "OSError: no message"),
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

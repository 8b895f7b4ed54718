"""A stage that needs more host memory than its machine has ends, and says so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from asking import ensure, request_of, scheduler_of
from probe_stages import Greedy, executions
from probe_sweep import PROBES

from sweeps.cluster.connection import OBJECT_STORE_BYTES, start_ray
from sweeps.cluster.messages import AnswerState

# Room for torch, and for what other programs of this machine may take meanwhile. The machine itself
# is never short: Ray ends the stage when this much is taken.
ROOM_BYTES = 4_000_000_000


def memory() -> tuple[int, int]:
    """Bytes of host memory that are used, and all of them."""
    found = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
    }
    return found["MemTotal"] - found["MemAvailable"], found["MemTotal"]


def start() -> None:
    """Start a cluster whose memory monitor thinks that the machine is small."""
    used, total = memory()
    os.environ |= {
        "RAY_memory_usage_threshold": f"{(used + ROOM_BYTES) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "200",
        "RAY_task_oom_retries": "1",
        # Ray doubles its pause before each try, from a second on; the test need not wait for that
        "RAY_task_oom_retry_delay_base_ms": "50",
    }
    start_ray(
        print,
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        runtime_env=PROBES,
    )


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


def test_stage_that_needs_too_much_host_memory_fails_after_a_few_tries_with_its_peak(
    tmp_path: Path,
) -> None:
    start()
    answer = ensure(scheduler_of(tmp_path), request_of(Greedy(label="greedy")))
    assert answer.state is AnswerState.FAILED
    assert "needs more host memory than this machine has: it had " in answer.error
    assert "GB when " in answer.error
    assert len(executions(tmp_path)) == 2

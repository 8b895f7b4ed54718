"""A stage that needs more host memory than its machine has ends, and says so."""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asking import ensure, request_of
from probe_stages import Greedy, executions
from probe_sweep import PROBES
from ray_head import Head
from waiting import wait_until

from sweeps.cluster.connection import start_ray
from sweeps.cluster.messages import AnswerState, SchedulerSettings
from sweeps.cluster.scheduler import connect

GROUPS = Path("/sys/fs/cgroup")
# Version 1 has a tree of groups for each resource, version 2 has one for all.
VERSION_1 = GROUPS / "memory"
# Ray itself takes 0.6 GB, a process with torch 0.5 GB; the stage takes 0.4 GB at a time.
LIMIT_BYTES = 5 << 30
# Ray ends the stage here, long before the kernel would end Ray.
THRESHOLD = "0.5"


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of processes that has little memory, whatever other programs do meanwhile."""
    root = VERSION_1 if VERSION_1.is_dir() else GROUPS
    group = root / f"occse-test-{uuid.uuid4().hex[:8]}"
    limit = group / ("memory.limit_in_bytes" if root == VERSION_1 else "memory.max")
    try:
        group.mkdir()
        limit.write_text(str(LIMIT_BYTES))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"needs the right to limit the memory of a group of processes: {error}")
    yield group
    # The kernel forgets processes that were killed a moment ago.
    _remove(group)


@pytest.fixture
def small_machine(group: Path) -> Iterator[Head]:
    """A head that others started: Ray's own number of tries there is endless."""
    inside = f'echo $$ > {group}/cgroup.procs; mount --bind {group} {group.parent}; exec "$@"'
    head = Head(
        num_cpus=1,
        environment={
            "RAY_task_oom_retries": None,
            "RAY_memory_usage_threshold": THRESHOLD,
            "RAY_memory_monitor_refresh_ms": "200",
            # Ray doubles its pause before each try, from a second on
            "RAY_task_oom_retry_delay_base_ms": "50",
        },
        # in a view of the file system of its own, where this group is all that Ray sees
        prefix=["unshare", "--mount", "bash", "-c", inside, "bash"],
    )
    yield head
    head.shutdown()


def test_stage_that_needs_too_much_host_memory_fails_after_a_few_tries_on_any_head(
    small_machine: Head, tmp_path: Path
) -> None:
    start_ray(print, address=small_machine.address, runtime_env=PROBES)
    scheduler = connect(SchedulerSettings(root=str(tmp_path), max_starts=2))
    answer = ensure(scheduler, request_of(Greedy(label="greedy")))
    assert answer.state is AnswerState.FAILED
    assert "its process died 2 times, most likely because it needs more host memory" in answer.error
    assert 2 <= len(executions(tmp_path)) <= 3, "the third start may come to its first line"


def _remove(group: Path) -> None:
    def is_empty() -> bool:
        return not (group / "cgroup.procs").read_text().strip()

    wait_until(is_empty, what="the end of the processes of the group")
    group.rmdir()

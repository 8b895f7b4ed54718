"""CPUs and GPUs that Ray will find on this machine, without importing Ray or torch."""

import os
from pathlib import Path

from sweeps.cluster.machines import Machine

# The driver lists its cards here, in containers too.
CARDS = Path("/proc/driver/nvidia/gpus")
# Quota and period of a container, in microseconds: one file (cgroup v2), or two (v1).
QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
PERIOD_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def this_machine() -> Machine:
    """Return the resources of this machine, by Ray's names."""
    return {"CPU": float(num_cpus()), "GPU": float(num_gpus())}


def num_cpus() -> int:
    """Return the CPUs of this machine, or as many as its container may use."""
    cpus = os.cpu_count() or 1
    quota = _quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def num_gpus() -> int:
    """Return the GPUs of this machine, or as many as CUDA_VISIBLE_DEVICES leaves of them."""
    cards = len(list(CARDS.iterdir())) if CARDS.is_dir() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return cards
    named = [name.strip() for name in visible.split(",")]
    return min(cards, len([name for name in named if name not in ("", "-1", "NoDevFiles")]))


def _quota() -> float | None:
    """Return the CPUs that the container may use, None where nothing bounds them."""
    try:
        if QUOTA_V2.is_file():
            quota, period = QUOTA_V2.read_text().split()
        else:
            quota, period = QUOTA_V1.read_text(), PERIOD_V1.read_text()
        cpus = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max"
        return None
    return cpus if cpus > 0 else None

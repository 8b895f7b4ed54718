"""Origin of a number: the code, the packages and the machine that made it."""

import contextlib
import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "occse",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pydensecrf2",
    "safetensors",
    "scipy",
    "ray",
)
# A manifest is read with every lookup, so a larger difference is cut.
MAX_DIFF = 100_000
CPU_INFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of Python, of the packages that can change a number, and of Ray."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def machine_state(device: str) -> dict[str, str | int]:
    """Return the hardware that `device` means, its drivers, and the number of threads.

    A fact that the machine does not tell is absent.
    """
    # Imported here: the store's manifests are read where there is no torch.
    import torch

    state: dict[str, str | int] = {
        "os": platform.platform(),
        "cpu": _line(CPU_INFO, r"model name\s*:\s*(.+)") or platform.machine(),
        "cpus": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
    if device.startswith("cuda"):
        state |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda or "",
            "cudnn": torch.backends.cudnn.version() or 0,  # type: ignore[no-untyped-call]
            "driver": _line(NVIDIA_DRIVER, r"Kernel Module(?: for \S+)?\s+(\S+)"),
        }
    return state


@cache
def git_state() -> dict[str, str]:
    """Return the commit of the code and its uncommitted difference.

    Where the code is not a git checkout, as in a container's image, the commit is that in
    OCCSE_COMMIT, else empty.
    """

    def git(*arguments: str) -> str:
        folder = Path(__file__).parents[1]
        answer = subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else ""

    return {
        "sha": git("rev-parse", "HEAD") or os.environ.get("OCCSE_COMMIT", ""),
        # Of the package alone: tests, papers and sweep files of a user change no artifact.
        "diff": git("diff", "HEAD", "--", ".")[:MAX_DIFF],
    }


def _line(path: Path, pattern: str) -> str:
    """Return the text that `pattern` captures in a file of the system, or an empty one."""
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""

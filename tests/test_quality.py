"""Formatting, lint, types and import arrows are part of the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "imports": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_quality(name: str) -> None:
    program, *arguments = COMMANDS[name]
    path = shutil.which(program, path=str(Path(sys.executable).parent))
    assert path, f"{program} is not installed beside {sys.executable}; install the extra 'test'"
    result = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr

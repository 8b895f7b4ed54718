"""Commands import only what they need: torch, Ray and MLflow take seconds and half a gigabyte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORTED = """
import contextlib, sys
from sweeps.__main__ import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print("imported:", *sorted({"torch", "ray", "mlflow", "optuna", "pandas"} & sys.modules.keys()))
"""


def imported(arguments: list[str], folder: Path) -> set[str]:
    """The heavy packages that a command imports."""
    command = [sys.executable, "-c", IMPORTED, *arguments]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    _, _, names = output.stdout.rpartition("imported:")
    return set(names.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "--help"],
        ["run", "--help"],
        ["status"],
        ["store", "ls"],
        ["store", "du"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_command_imports_neither_torch_nor_ray_nor_mlflow(
    arguments: list[str], tmp_path: Path
) -> None:
    assert imported(arguments, tmp_path) == set()


def test_plan_imports_no_torch_either(tmp_path: Path) -> None:
    spec = tmp_path / "sweep.yaml"
    spec.write_text("name: a\nquestion: b\nprofile: embedded\ngrid: {cam.source: [oc, cgnet]}\n")
    assert imported(["plan", str(spec)], tmp_path) == set()


def test_output_in_a_locale_without_its_letters_is_spelled(tmp_path: Path) -> None:
    spec = tmp_path / "sweep.yaml"
    spec.write_text("name: a\nquestion: λ?\nprofile: embedded\ngrid: {cam.source: [oc, cgnet]}\n")
    command = [sys.executable, "-m", "sweeps", "plan", str(spec)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert result.stdout.startswith(b"a: lambda?")

"""The command line as a whole: exit codes, help, and commands that start without torch."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from occse.__main__ import main
from occse.commands.options import assignments
from occse.stages.data import Shapes


def imported(*arguments: str) -> set[str]:
    """Heavy packages that a command of `python -m occse` has imported when it ends."""
    code = (
        "import contextlib, sys; from occse.commands.cli import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "print('imported', *{'torch', 'torchvision', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--help"),
        ("explain", "reference"),
        ("data", "check", "--data-root", "no/such/folder"),
    ],
    ids=" ".join,
)
def test_commands_that_compute_nothing_import_no_torch(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments) == set()


def test_the_pipeline_and_its_knobs_are_read_without_torch() -> None:
    code = "import sys, occse.pipeline as p; p.plan(p.default_pipeline('reference'));"
    code += "print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "huge"), "no profile 'huge'"),
        (("run", "--set", "cgnet.lr"), "expected KNOB=VALUE"),
        (("run", "--targets", "sag"), "no stage 'sag' in the pipeline"),
        (("weights", "no/such/file.pth"), "no/such/file.pth"),
        (("data", "check", "--data-root", "no/such/folder"), "no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("occse: ")
    assert message in error


def test_a_damaged_weight_file_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"PK\x03\x04 and no more")
    assert main(["weights", str(path)]) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_store_that_takes_no_more_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> dict[str, float]:
        (tmp_path / "device").symlink_to("/dev/full")
        (tmp_path / "device").write_text("more than the device has room for")
        return {}

    monkeypatch.setattr(Shapes, "run", full)
    arguments = ["run", "--profile", "embedded", "--targets", "data", "--store"]
    assert main([*arguments, str(tmp_path / "store")]) == 1
    assert "takes no more" in capsys.readouterr().err


def test_the_installed_module_gives_its_exit_code_to_the_shell() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "occse", "explain", "huge"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (2, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3", 3),
        ("[cat, 'no', 1.5]", ["cat", "no", 1.5]),
        ("'010'", "010"),
        ("null", None),
        ("", None),
        ("true", True),
    ],
)
def test_set_types_values_as_sweep_files_do(text: str, value: object) -> None:
    assert assignments(argparse.Namespace(set=[f"a.b={text}"])) == {"a.b": value}


@pytest.mark.parametrize("text", ["010", "1:30", "yes", "[no, yes]", "1_000", "2024-01-01", "0x10"])
def test_set_refuses_what_yaml_1_1_reads_differently(text: str) -> None:
    with pytest.raises(ValueError, match=r"--set 'a\.b=.*is not a plain value: YAML 1\.1 reads it"):
        assignments(argparse.Namespace(set=[f"a.b={text}"]))


@pytest.mark.parametrize("text", ["[1, 2", "{a: [}", "&a [*a]", "[" * 5000])
def test_set_refuses_what_is_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="expected a value as YAML has it"):
        assignments(argparse.Namespace(set=[f"a.b={text}"]))


def test_data_root_that_no_stage_reads_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--profile", "embedded", "--data-root", str(tmp_path)]) == 2
    expected = "data.kind is 'shapes', which reads no folder; expected --set data.kind=KIND"
    assert expected in capsys.readouterr().err

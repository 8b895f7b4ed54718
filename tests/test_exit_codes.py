"""One table of exit codes for the three command lines: 0 well, 1 failed or stale, 2 bad input.

130 stands for a signal, as in a shell.
"""

import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

Main = Callable[[Sequence[str]], int]
SPEC = "name: a\nquestion: b\nprofile: embedded\ngrid: {cam.source: [oc, cgnet]}\n"


def exit_code(package: str, arguments: Sequence[str]) -> int:
    """The exit code of a command line, argparse's own exits among them."""
    main: Main = import_module(f"{package}.__main__").main
    try:
        return main(arguments)
    except SystemExit as stopped:
        assert isinstance(stopped.code, int)
        return stopped.code


@pytest.fixture
def nobody() -> str:
    """URL of a server that does not answer: a port that is taken by nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    (tmp_path / "bad.yaml").write_text(SPEC + "grids: {}\n")
    (tmp_path / "empty.pth").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("package", "arguments", "code"),
    [
        ("occse", ["--help"], 0),
        ("occse", ["explain", "embedded"], 0),
        ("occse", ["explain", "embedded", "--spec"], 2),
        ("occse", ["explain", "no such profile"], 2),
        ("occse", ["no such command"], 2),
        ("occse", ["run", "--profile", "embedded", "--workers", "-1"], 2),
        ("occse", ["run", "--profile", "embedded", "--processes", "0"], 2),
        ("occse", ["run", "--profile", "embedded", "--device", "tpu"], 2),
        ("occse", ["run", "--profile", "embedded", "--targets", "sag"], 2),
        ("occse", ["run", "--profile", "embedded", "--set", "cgnet.lr=fast"], 2),
        ("occse", ["predict", "--from", "a", "b.png", "--out", "c", "--scales", "0"], 2),
        ("occse", ["data", "check", "--data-root", "missing"], 2),
        ("occse", ["weights", "missing.pth"], 2),
        ("occse", ["weights", "empty.pth"], 1),
        ("occse", ["panels", "--spec", "missing.yaml"], 2),
        ("occse", ["panels", "--run", "a/b", "--tracking", "NOBODY"], 1),
        ("sweeps", ["--help"], 0),
        ("sweeps", ["store", "ls"], 0),
        ("sweeps", ["plan", "sweep.yaml"], 0),
        ("sweeps", ["plan", "bad.yaml"], 2),
        ("sweeps", ["plan", "missing.yaml"], 2),
        ("sweeps", ["plan"], 2),
        ("sweeps", ["status"], 2),
        ("sweeps", ["stop", "no such sweep"], 2),
        ("sweeps", ["explain", "sweep.yaml", "99"], 2),
        ("sweeps", ["run", "sweep.yaml", "--force", "sag"], 2),
        ("sweeps", ["run", "sweep.yaml", "--max-concurrent", "0"], 2),
        ("sweeps", ["run", "sweep.yaml", "--tracking", "no/uri"], 2),
        ("sweeps", ["reproduce", "a", "--tracking", "NOBODY"], 1),
        ("sweeps", ["reproduce", "a", "--tracking", "sqlite:///missing.db"], 2),
        ("sweeps", ["reproduce", "a", "--tolerance", "-1"], 2),
        ("sweeps", ["import", "a", "missing.csv"], 2),
        ("sweeps", ["mlflow", "--port", "99999"], 2),
        ("sweeps", ["artifacts"], 2),
        ("sweeps", ["schema"], 0),
        ("sweeps", ["store", "ls", "--store", "nothing://bucket"], 2),
        ("sweeps", ["store", "gc", "--keep-days", "-1"], 2),
        ("sweeps", ["store", "gc", "--tracking", "sqlite:///missing.db"], 2),
        ("sweeps", ["store", "gc", "--tracking", "NOBODY"], 1),
        ("analysis", ["--help"], 0),
        ("analysis", ["table"], 2),
        ("analysis", ["no such command"], 2),
        ("analysis", ["table", "missing.parquet"], 2),
        ("analysis", ["export", "a", "--out", "a.csv"], 2),
        ("analysis", ["table", "a", "--tracking", "no/uri"], 2),
        ("analysis", ["table", "a", "--tracking", "sqlite:///missing.db"], 2),
        ("analysis", ["table", "a", "--tracking", "NOBODY"], 1),
    ],
)
def test_exit_code(package: str, arguments: list[str], code: int, here: Path, nobody: str) -> None:
    words = [nobody if word == "NOBODY" else word for word in arguments]
    assert exit_code(package, words) == code


@pytest.mark.parametrize(
    ("package", "arguments", "function"),
    [
        ("occse", ["explain", "embedded"], "occse.commands.explain.print_differences"),
        ("sweeps", ["plan", "sweep.yaml"], "sweeps.commands.plan.plan"),
        ("analysis", ["table", "a"], "analysis.commands.table.run"),
    ],
)
def test_ctrl_c_ends_a_command_with_130(
    package: str,
    arguments: list[str],
    function: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(function, press)
    assert exit_code(package, arguments) == 130
    assert "stopped" in capsys.readouterr().err


def test_console_scripts_lead_to_the_command_lines() -> None:
    scripts = {
        "occse": ("occse.__main__", "main"),
        "occse-sweeps": ("sweeps.__main__", "console"),
        "occse-analysis": ("analysis.__main__", "main"),
    }
    for module, function in scripts.values():
        assert callable(getattr(import_module(module), function))
    installed = {script.name: script.value for script in entry_points(group="console_scripts")}
    for name, place in scripts.items():
        assert installed.get(name, ":".join(place)) == ":".join(place)

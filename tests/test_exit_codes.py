"""One table of exit codes for the three command lines: 0 well, 1 failed or stale, 2 bad input."""

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
    return tmp_path


@pytest.mark.parametrize(
    ("package", "arguments", "code"),
    [
        ("occse", ["--help"], 0),
        ("occse", ["explain", "embedded"], 0),
        ("occse", ["explain", "embedded", "--spec"], 2),
        ("occse", ["explain", "no such profile"], 2),
        ("sweeps", ["--help"], 0),
        ("sweeps", ["store", "ls"], 0),
        ("sweeps", ["plan", "sweep.yaml"], 0),
        ("sweeps", ["plan", "bad.yaml"], 2),
        ("sweeps", ["plan", "missing.yaml"], 2),
        ("sweeps", ["plan"], 2),
        ("sweeps", ["status"], 2),
        ("sweeps", ["store", "gc", "--tracking", "NOBODY"], 1),
        ("analysis", ["--help"], 0),
        ("analysis", ["table"], 2),
        ("analysis", ["table", "a", "--tracking", "sqlite:///missing.db"], 2),
        ("analysis", ["table", "a", "--tracking", "NOBODY"], 1),
    ],
)
def test_exit_code(package: str, arguments: list[str], code: int, here: Path, nobody: str) -> None:
    words = [nobody if word == "NOBODY" else word for word in arguments]
    assert exit_code(package, words) == code


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

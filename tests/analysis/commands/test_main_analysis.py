import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import load_workbook
from processes import Terminal

from analysis.__main__ import main
from occse.naming.exit_codes import ExitCode

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]


@pytest.fixture(scope="module")
def experiment(record: Record) -> str:
    for seed, value in enumerate((0.5, 0.52)):
        record(
            "main",
            "oc",
            seed=seed,
            fields=("cam",),
            metrics={"cam/miou": value, "cam/precision": 0.7},
        )
    return "main"


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


def test_command_prints_the_table_and_nothing_else(
    experiment: str, tracking: str, tmp_path: Path
) -> None:
    command = ("-m", "analysis", "table", experiment, "--metric", "cam/miou", "cam/precision")
    done = python(*command, cwd=tmp_path, MLFLOW_TRACKING_URI=tracking)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [
        "| variant |   n |       CAM mIoU |  CAM precision |",
        "| :------ | --: | -------------: | -------------: |",
        "| oc      |   2 | **51.0 ± 1.4** | **70.0 ± 0.0** |",
    ]
    assert list(tmp_path.iterdir()) == []


def test_command_ends_in_silence_when_its_reader_goes_away(experiment: str, tracking: str) -> None:
    unread, output = os.pipe()
    os.close(unread)
    words = ["table", experiment, "--metric", "cam/miou", "--tracking", tracking]
    with os.fdopen(output, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "analysis", *words], stdout=pipe, stderr=subprocess.PIPE
        )
    assert (ended.returncode, ended.stderr) == (ExitCode.READER_LEFT, b"")


def test_no_command_imports_the_method_or_the_platform(tmp_path: Path) -> None:
    code = "import sys, importlib, analysis.__main__ as main\n"
    code += "for name in main.COMMANDS: importlib.import_module(f'analysis.commands.{name}')\n"
    code += "print(*sorted(sys.modules))"
    imported = python("-c", code, cwd=tmp_path).stdout.split()
    assert "pandas" in imported
    assert not {"sweeps", "ray", "torch"} & set(imported)
    method = {name for name in imported if name.startswith("occse.")}
    assert {name for name in method if not name.startswith("occse.naming")} == set()


def test_help_imports_no_library_and_table_imports_no_statistics(tmp_path: Path) -> None:
    listed = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    code = f"import sys, analysis.__main__ as main; main._parser(''); {listed}"
    of_help = set(python("-c", code, cwd=tmp_path).stdout.split())
    assert not {"mlflow", "pandas", "numpy", "matplotlib", "scipy"} & of_help
    code = f"import sys, analysis.__main__ as main; main._parser('table'); {listed}"
    of_table = set(python("-c", code, cwd=tmp_path).stdout.split())
    assert "pandas" in of_table
    assert not {"matplotlib", "statsmodels", "optuna", "sklearn"} & of_table


def test_defaults_of_mlflow_give_way_but_not_those_of_the_user(tmp_path: Path) -> None:
    code = "import os, analysis; print(*(os.environ[f'MLFLOW_{name}'] for name in "
    code += "('DISABLE_TELEMETRY', 'HTTP_REQUEST_MAX_RETRIES', 'HTTP_REQUEST_TIMEOUT')))"
    assert python("-c", code, cwd=tmp_path).stdout == "true 1 10\n"
    assert (
        python("-c", code, cwd=tmp_path, MLFLOW_HTTP_REQUEST_TIMEOUT="60").stdout == "true 1 60\n"
    )


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("markdown", "| variant"),
        ("latex", "% Mean"),
        ("csv", "variant,metric"),
        ("html", "<style>"),
    ],
)
def test_out_writes_the_format_to_a_file(
    experiment: str,
    tracking: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    start: str,
) -> None:
    out = tmp_path / "table.txt"
    assert (
        main(["table", experiment, "--tracking", tracking, "--format", form, "--out", str(out)])
        == 0
    )
    text = out.read_text(encoding="utf-8")
    assert text.startswith(start)
    assert form != "html" or ("51.0 &#177; 1.4" in text and text.isascii())
    assert capsys.readouterr().out.startswith(f"{out}: a table of ")


def test_excel_needs_a_file(
    experiment: str, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["table", experiment, "--tracking", tracking, "--format", "xlsx"]
    assert main(command) == 2
    assert "--format xlsx needs a file: --out FILE" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "table.xlsx")]) == 0
    assert load_workbook(tmp_path / "table.xlsx")["table"]["B2"].value == 2


def test_best_mean_is_bold_on_a_terminal_and_without_codes_in_a_pipe(
    experiment: str, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    command = [sys.executable, "-m", "analysis", "table", experiment, "--tracking", tracking]
    with Terminal(command) as terminal:
        assert terminal.end() == 0, terminal.printed
    assert "\033[1m" in terminal.printed
    assert "|" not in terminal.printed
    piped = subprocess.run(command, capture_output=True, check=True).stdout
    assert b"\033" not in piped
    assert piped.startswith(b"| ")


def test_csv_is_printed_in_full_precision(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            ["table", experiment, "--tracking", tracking, "--format", "csv", "--metric", "cam/miou"]
        )
        == 0
    )
    (line,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert float(line["std"]) == pytest.approx(2**0.5, rel=1e-12)


def test_unknown_experiment_fails_with_the_list(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "mian", "--tracking", tracking]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no experiment 'mian' in ")
    assert experiment in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--width", "column"), "--width is for --format latex, got --format markdown"),
        (("--format", "xlsx"), "--format xlsx needs a file: --out FILE"),
        (("--out", "no/table.md"), "--out no/table.md: there is no folder no"),
        (("--tracking-url", "ml:5"), "--tracking-url ml:5: expected http://"),
        (("--metric", "cam/mio"), "no trial has a metric 'cam/mio'"),
        (("--where", "erasing"), "expected KNOB=VALUE"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_table_writes_nothing_before_all_options_are_checked(
    experiment: str,
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["table", experiment, "--tracking", tracking, "--copies", str(tmp_path)]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(command) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["table.csv", "table.html", "table.md"]


def test_names_of_others_runs_do_not_command_the_terminal(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order, name in enumerate(("oc", "\x1b]0;owned\x07\x1b[2J", "a\rb")):
        tags = {"occse.baseline": str(order == 0).lower(), "occse.seconds.spent": "1.0"}
        metrics = dict.fromkeys(("cam/miou", "seg/miou"), 0.5 + 0.01 * order)
        record("obeyed", name, order=order, fields=("cam", "seg"), metrics=metrics, tags=tags)
    where = ["obeyed", "--tracking", tracking]
    for command in (["table"], ["table", "--format", "csv"], ["pareto"], ["table", "--check"]):
        assert main([command[0], *where, *command[1:]]) in (0, 1)
        captured = capsys.readouterr()
        assert set(captured.out + captured.err) & {"\x1b", "\x07", "\r"} == set()
        assert r"\x1b]0;owned\x07" in captured.out or "--check" in command


def test_missing_database_fails_and_nothing_is_created(tmp_path: Path) -> None:
    done = python("-m", "analysis", "table", "quickstart", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: there is no database runs/mlflow.db (tracking sqlite:///runs/mlflow.db)"
    )
    assert list(tmp_path.iterdir()) == []


def test_server_that_does_not_answer_fails_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        command = ("-m", "analysis", "table", "quickstart", "--tracking", uri)
        done = python(*command, cwd=tmp_path, MLFLOW_HTTP_REQUEST_TIMEOUT="1")
    assert time.monotonic() - start < 25
    assert done.returncode == 1
    assert f"error: cannot read experiments from {uri}" in done.stderr
    assert "Traceback" not in done.stderr

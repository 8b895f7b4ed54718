"""Inputs that nobody should feed: each is the clear error of its neighbours, with exit code 2."""

from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from analysis.__main__ import main as analysis
from occse.__main__ import main as occse
from occse.networks.backbones import build_backbone
from sweeps.__main__ import main as sweeps

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
SPEC = {"name": "hostile", "question": "Is it refused?", "profile": "embedded", "baseline": {}}
DEEP = "[" * 100_000
ESCAPE = "\x1b[2J"


def plan(folder: Path, **values: object) -> list[str]:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SPEC | values))
    return ["plan", str(path), "--store", str(folder / "runs" / "store")]


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "a b", ESCAPE])
def test_sweep_name_that_leaves_its_folder_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweeps(plan(tmp_path, name=name)) == 2
    error = capsys.readouterr().err
    assert ("name: " if name != ESCAPE else "sweep.yaml:2: the control character U+001B") in error
    assert "\x1b" not in error


def test_sweep_of_very_many_seeds_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweeps(plan(tmp_path, seeds=10**8)) == 2
    assert "expected a count of at most 10,000 seeds, got 100,000,000" in capsys.readouterr().err


def test_variant_name_with_control_characters_is_refused_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweeps(plan(tmp_path, variants={f"a{ESCAPE}b": {"cgnet.lr": 0.1}})) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "the control character U+001B in 'a\\x1b[2Jb'; remove it" in error


def test_plan_refuses_weights_of_another_network_which_a_late_stage_would_start_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(build_backbone("tiny").state_dict(), tmp_path / "tiny.safetensors")
    weights = ["--weights", str(tmp_path)]
    fits = {"deeplab.init": "tiny.safetensors"}
    assert sweeps([*plan(tmp_path, base=fits), *weights]) == 0
    assert sweeps([*plan(tmp_path, base=fits | {"deeplab.backbone": "resnet50"}), *weights]) == 2
    assert "deeplab.init: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", [DEEP, "{a: " * 100_000, f"name: {DEEP}"])
def test_sweep_file_that_is_nested_too_deeply_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    assert sweeps(["plan", str(path), "--store", str(tmp_path / "runs" / "store")]) == 2
    assert len(capsys.readouterr().err) < 2_000


def test_knob_value_that_is_nested_too_deeply_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--profile", "embedded", "--store", str(tmp_path / "store")]
    assert occse([*command, "--set", f"cgnet.lr={DEEP}"]) == 2
    error = capsys.readouterr().err
    assert "expected a value as YAML has it" in error
    assert len(error) < 3_000, "an error does not repeat a hundred kilobytes"


def test_filter_value_that_is_nested_too_deeply_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = ["--tracking", f"sqlite:///{tmp_path}/none.db"]
    assert analysis(["table", "any", *tracking, "--where", f"cgnet.lr={DEEP}"]) == 2
    assert len(capsys.readouterr().err) < 3_000


def test_error_shows_no_escape_sequence_and_no_endless_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (f"a{ESCAPE}b", "a" * 100_000):
        assert sweeps(["status", name, "--store", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "\x1b" not in error
        assert len(error) < 3_000


def test_experiment_name_of_an_import_that_leaves_its_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "old.csv"
    table.write_text("variant,seed,cam/miou\na,0,0.5\n")
    command = ["import", "..", str(table), "--unit", "fraction"]
    assert sweeps([*command, "--tracking", f"sqlite:///{tmp_path}/runs/mlflow.db"]) == 2
    assert "expected a name of printable characters" in capsys.readouterr().err

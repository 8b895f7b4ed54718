"""A real sweep whose tracking address holds a password: the password must stay in its memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from served import server

from occse.pipeline import Pipeline

PASSWORD = "pw7f3d9c1e"
MASKED = "http://user:***@127.0.0.1:"


def make_spec(folder: Path, pipeline: Pipeline) -> Path:
    """A sweep of one trial that trains, is scored, and has a table."""
    stages = pipeline.model_dump(mode="json").items()
    base = {
        f"{field}.{knob}": value
        for field, stage in stages
        for knob, value in stage.items()
        if knob != "seed"
    }
    values = {"name": "quiet", "question": "Is it told?", "base": base, "baseline": {}}
    path = folder / "quiet.yaml"
    path.write_text(yaml.safe_dump(values | {"targets": ["cam"]}))
    return path


def call(module: str, *words: str | Path) -> tuple[int, str]:
    """Run a command as a person does; return its exit code and all that it printed."""
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def files_with(text: str, root: Path) -> list[str]:
    """The files below `root`, databases included, whose bytes or name hold `text`."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(root))
        for path in files
        if text in str(path) or text.encode() in path.read_bytes()
    ]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_password_of_the_tracking_address_is_written_and_printed_nowhere(
    tmp_path: Path, small_pipeline: Pipeline
) -> None:
    spec = make_spec(tmp_path, small_pipeline)
    store = tmp_path / "store"
    printed = []
    with server(f"sqlite:///{tmp_path}/mlflow.db") as address:
        tracking = address.replace("//", f"//user:{PASSWORD}@")
        run = ("run", spec, "--store", store, "--num-cpus", "2", "--tracking", tracking)
        code, output = call("sweeps", *run)
        assert code == 0, output
        assert f"MLflow: open {MASKED}" in output
        printed.append(output)
        for manifest in store.glob("*/*/manifest.json"):
            assert MASKED in manifest.read_text(), "the manifest has the command"
        questions = (
            ("sweeps", "status", "quiet", "--store", store),
            # it takes no --tracking, and says so
            ("sweeps", "explain", spec, "--store", store, "--tracking", tracking),
            ("sweeps", "store", "gc", "--store", store, "--tracking", tracking),
            ("analysis", "table", "quiet", "--tracking", tracking),
            ("analysis", "table", "unknown", "--tracking", tracking),
        )
        printed += [call(*command)[1] for command in questions]
    # the server is gone, so errors of all layers below come up
    code, output = call("sweeps", *run)
    assert code != 0
    assert MASKED in output
    printed.append(output)
    printed.append(call("analysis", "table", "quiet", "--tracking", tracking)[1])
    assert "mlflow.db" in files_with(MASKED, tmp_path), "the record has the command"
    assert not files_with(PASSWORD, tmp_path)
    assert PASSWORD not in "".join(printed)

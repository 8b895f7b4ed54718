"""A real sweep whose tracking address holds a password: the password must stay in its memory."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from served import PATIENCE_S, server

from occse.pipeline import Pipeline

PASSWORD = "pw7f3d9c1e"
# The processes that record, and those that run stages for them.
RECORDERS = ("-m sweeps run", "-m analysis table")
KINDS = (*RECORDERS, "default_worker.py", "raylet")
# In the environment of all processes that this test starts.
MARK = f"OCCSE_TEST_MARK={PASSWORD[::-1]}"
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
    name, _, value = MARK.partition("=")
    done = subprocess.run(
        command,
        env=os.environ | {name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


class Watch:
    """Looks at every process of this machine again and again, while the block runs.

    Attributes:
        seen: which of the processes that matter were there.
        told: those of them whose arguments hold the password, and those but the driver and the
            table whose environment does.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.told: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    words = (folder / "cmdline").read_text().replace("\0", " ")
                    environment = (folder / "environ").read_text(errors="replace")
                except OSError:  # it has ended
                    continue
                self._judge(words, environment)

    def _judge(self, words: str, environment: str) -> None:
        if words.endswith("--detach "):
            return  # as the user typed it
        if PASSWORD in words:
            self.told.add(words)
        # one of this test, and not of another sweep on this machine
        kinds = [kind for kind in KINDS if kind in words]
        if not kinds or MARK not in environment:
            return
        self.seen.update(kinds)
        if PASSWORD in environment and kinds[0] not in RECORDERS:
            self.told.add(words)


def files_with(text: str, root: Path) -> list[str]:
    """The files below `root`, databases included, whose bytes or name hold `text`."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(root))
        for path in files
        if text in str(path) or text.encode() in path.read_bytes()
    ]


def test_password_leaves_the_arguments_of_a_process_as_soon_as_it_has_read_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        address = f"user:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "sweeps", "reproduce", "run", f"--track=http://{address}"]
        with subprocess.Popen(command) as process:
            connection, _ = silent.accept()  # it knows the whole address
            connection.close()
            arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
            process.kill()
    assert "--track=http://user:***@127.0.0.1:" in arguments
    assert PASSWORD not in arguments


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
        with Watch() as watch:
            code, output = call("sweeps", *run, "--detach")
            assert code == 0, output
            printed.append(output)
            code, output = call("sweeps", "logs", "quiet", "--store", store, "--follow")
        assert "1 of 1 trial done" in output
        assert f"MLflow: open {MASKED}" in output
        assert watch.seen == set(KINDS)
        assert watch.told == set()
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

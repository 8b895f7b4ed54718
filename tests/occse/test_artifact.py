"""Artifacts on disk: whole or not there, whoever dies or runs beside."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from occse.artifact import execute
from occse.manifest import artifact_folder, load_manifest
from occse.pipeline import Node
from occse.stage import Context, Stage, fingerprint


class Writes(Stage):
    text: str = "text"
    pause_s: float = 0.0
    full: bool = False
    wrong: bool = False

    def run(self, ctx: Context) -> dict[str, float]:
        attempts = ctx.scratch / "attempts"
        attempts.write_text(str(int(attempts.read_text()) + 1 if attempts.exists() else 1))
        if self.full:
            (ctx.output / "device").symlink_to("/dev/full")
            (ctx.output / "device").write_text("more than the device has room for")
        if self.wrong:
            raise ValueError("what the stage says")
        (ctx.output / "text").write_text(self.text)
        time.sleep(self.pause_s)
        return {"attempts": float(attempts.read_text())}


def node_of(stage: Stage) -> Node:
    return Node(field="data", stage=stage, inputs={}, fingerprint=fingerprint(stage, {}))


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_manifest_says_what_the_artifact_is_and_where_it_comes_from(tmp_path: Path) -> None:
    node = node_of(Writes())
    manifest = execute(node, root=tmp_path)
    assert (manifest.stage, manifest.fingerprint, manifest.metrics) == ("Writes", node.fingerprint, {"attempts": 1.0})
    assert manifest.bytes == len("text")
    assert {"python", "torch", "numpy"} <= manifest.packages.keys()
    assert set(manifest.git) == {"sha", "diff"}
    stored = json.loads((artifact_folder(tmp_path, node) / "manifest.json").read_text())
    assert stored == manifest.model_dump()
    assert left(tmp_path) == {f"Writes/{node.fingerprint}/text", f"Writes/{node.fingerprint}/manifest.json"}


def test_a_failing_stage_publishes_nothing_and_keeps_its_scratch(tmp_path: Path) -> None:
    node = node_of(Writes(wrong=True))
    for attempts in ("1", "2"):
        with pytest.raises(ValueError, match="what the stage says"):
            execute(node, root=tmp_path)
        assert left(tmp_path) == {f"scratch/{node.fingerprint}/attempts"}
        assert (tmp_path / "scratch" / node.fingerprint / "attempts").read_text() == attempts


def test_a_full_disk_is_told_as_such_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    node = node_of(Writes(full=True))
    with pytest.raises(OSError, match=f"the store {tmp_path} takes no more .No space left on device."):
        execute(node, root=tmp_path)
    assert load_manifest(tmp_path, node) is None
    assert not list((tmp_path / "Writes").iterdir())


def test_a_killed_attempt_leaves_its_scratch_to_the_next(tmp_path: Path) -> None:
    node = node_of(Writes(pause_s=2.0))
    process = multiprocessing.get_context("spawn").Process(target=execute, args=(node,), kwargs={"root": tmp_path})
    process.start()
    while not list(tmp_path.glob("Writes/.*/text")):
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert load_manifest(tmp_path, node) is None
    assert execute(node, root=tmp_path).metrics == {"attempts": 2.0}


def test_two_attempts_at_once_give_one_artifact_and_do_not_share_their_scratch(tmp_path: Path) -> None:
    node = node_of(Writes(pause_s=1.0))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=execute, args=(node,), kwargs={"root": tmp_path}) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    manifest = load_manifest(tmp_path, node)
    assert manifest is not None
    assert manifest.metrics == {"attempts": 1.0}, "each attempt found a scratch folder of its own"
    assert len(list((tmp_path / "Writes").iterdir())) == 1
    assert not left(tmp_path / "scratch")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"stage": "Writes"}', "\0"])
def test_a_broken_manifest_is_told_with_its_path(tmp_path: Path, text: str) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    path = artifact_folder(tmp_path, node) / "manifest.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path} is no manifest"):
        execute(node, root=tmp_path)


def test_a_manifest_of_another_configuration_is_told_with_the_difference(tmp_path: Path) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    path = artifact_folder(tmp_path, node) / "manifest.json"
    path.write_text(path.read_text().replace('"text": "text"', '"text": "other"'))
    with pytest.raises(ValueError, match=r"does not match: config is .*'other'.*, expected .*'text'"):
        execute(node, root=tmp_path)

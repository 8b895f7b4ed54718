"""Artifacts on disk: whole or not there, whoever dies or runs beside."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from occse.artifacts.execute import MissingInput, Origin, execute, find
from occse.artifacts.manifest import artifact_folder, load_manifest
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


class Reads(Stage):
    def needs(self) -> tuple[str, ...]:
        return ("data",)

    def run(self, ctx: Context) -> dict[str, float]:
        return {"length": float(len((ctx.inputs["data"] / "text").read_text()))}


def node_of(stage: Stage) -> Node:
    return Node(field="data", stage=stage, inputs={}, fingerprint=fingerprint(stage, {}))


def left(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_manifest_says_what_the_artifact_is_and_where_it_comes_from(tmp_path: Path) -> None:
    node = node_of(Writes())
    manifest = execute(
        node, root=tmp_path, origin=Origin(git={"sha": "abc", "diff": ""}, command="a command")
    )
    assert (manifest.stage, manifest.fingerprint, manifest.metrics) == (
        "Writes",
        node.fingerprint,
        {"attempts": 1.0},
    )
    assert manifest.bytes == len("text")
    assert {"python", "torch", "numpy", "pydensecrf2", "safetensors"} <= manifest.packages.keys()
    assert manifest.command == "a command"
    assert manifest.machine["threads"] == torch.get_num_threads()
    assert manifest.device == manifest.machine["cpu"]
    assert manifest.git == {"sha": "abc", "diff": ""}
    stored = json.loads((artifact_folder(tmp_path, node) / "manifest.json").read_text())
    assert stored == manifest.model_dump()
    files = {"text", "files.json", "manifest.json"}
    assert left(tmp_path) == {f"Writes/{node.fingerprint}/{name}" for name in files}


def test_a_failing_stage_publishes_nothing_and_keeps_its_scratch(tmp_path: Path) -> None:
    node = node_of(Writes(wrong=True))
    for attempts in ("1", "2"):
        with pytest.raises(ValueError, match="what the stage says"):
            execute(node, root=tmp_path)
        assert left(tmp_path) == {f"scratch/{node.fingerprint}/attempts"}
        assert (tmp_path / "scratch" / node.fingerprint / "attempts").read_text() == attempts


def test_a_full_disk_is_told_as_such_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    node = node_of(Writes(full=True))
    with pytest.raises(
        OSError, match=f"the store {tmp_path} takes no more .No space left on device."
    ):
        execute(node, root=tmp_path)
    assert load_manifest(tmp_path, node) is None
    assert not list((tmp_path / "Writes").iterdir())


def test_a_killed_attempt_leaves_its_scratch_to_the_next(tmp_path: Path) -> None:
    node = node_of(Writes(pause_s=2.0))
    process = multiprocessing.get_context("spawn").Process(
        target=execute, args=(node,), kwargs={"root": tmp_path}
    )
    process.start()
    while not list(tmp_path.glob("Writes/.*/text")):
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert load_manifest(tmp_path, node) is None
    assert execute(node, root=tmp_path).metrics == {"attempts": 2.0}


def test_what_killed_attempts_left_goes_with_the_next_one_but_not_what_a_live_one_has(
    tmp_path: Path,
) -> None:
    node, context = node_of(Writes(pause_s=6.0)), multiprocessing.get_context("spawn")
    first, second, third = (
        context.Process(target=execute, args=(node,), kwargs={"root": tmp_path}) for _ in range(3)
    )  # the first has the stage's scratch folder, the others one of their own

    def written(number: int) -> None:
        while len(list(tmp_path.glob("Writes/.*/text"))) < number:
            time.sleep(0.01)

    for number, process in enumerate((first, second, third), start=1):
        process.start()
        written(number)
        if process is not third:
            os.kill(process.pid or 0, signal.SIGSTOP)
    for process in (first, second):
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert len(list(tmp_path.glob("Writes/.*"))) == 3
    with pytest.raises(ValueError, match="what the stage says"):
        execute(
            Node(field="data", stage=Writes(wrong=True), inputs={}, fingerprint=node.fingerprint),
            root=tmp_path,
        )
    (alive,) = tmp_path.glob("Writes/.*/text")
    third.join()
    assert third.exitcode == 0
    assert not alive.exists()
    assert [path.name for path in (tmp_path / "Writes").iterdir()] == [node.fingerprint]


def test_two_attempts_at_once_give_one_artifact_and_do_not_share_their_scratch(
    tmp_path: Path,
) -> None:
    node = node_of(Writes(pause_s=1.0))
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=execute, args=(node,), kwargs={"root": tmp_path}) for _ in range(3)
    ]
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


@pytest.mark.parametrize("text", ["", "[1]", "\0", '{"stage": "Wri'])
def test_a_manifest_that_was_cut_off_is_set_aside_and_the_artifact_made_again(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_of(Writes())
    first = execute(node, root=tmp_path)
    path = artifact_folder(tmp_path, node) / "manifest.json"
    path.write_text(text)
    assert load_manifest(tmp_path, node) is None
    assert execute(node, root=tmp_path).files == first.files
    (aside,) = tmp_path.glob(f"corrupt/Writes/{node.fingerprint}.*")
    assert (aside / "manifest.json").read_text() == text
    assert f"is damaged (manifest.json is cut off or not JSON): moved to {aside}" in caplog.text


def flip_a_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize(
    ("file", "harm", "fault"),
    [
        ("text", flip_a_byte, "text has another SHA-256"),
        ("text", Path.unlink, "text: No such file"),
        ("text", lambda path: path.write_text("tex"), "text has 3 bytes, expected 4"),
        ("files.json", flip_a_byte, "files.json is missing or damaged"),
    ],
)
def test_damage_of_a_file_is_noticed_and_the_artifact_made_again(
    tmp_path: Path,
    file: str,
    harm: Callable[[Path], None],
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    assert find(tmp_path, node) is not None
    harm(artifact_folder(tmp_path, node) / file)
    assert find(tmp_path, node) is None
    assert fault in caplog.text
    execute(node, root=tmp_path)
    assert (artifact_folder(tmp_path, node) / "text").read_text() == "text"
    assert len(list(tmp_path.glob("corrupt/Writes/*"))) == 1


def test_files_are_hashed_once_on_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    assert find(tmp_path, node) is not None
    path = artifact_folder(tmp_path, node) / "text"
    times = path.stat()
    path.write_text("tegt")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find(tmp_path, node) is not None, "neither size nor time tells that it changed"
    monkeypatch.setenv("OCCSE_CACHE", str(tmp_path / "another machine"))
    assert find(tmp_path, node) is None


def test_a_damaged_input_is_set_aside_and_named(tmp_path: Path) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    flip_a_byte(artifact_folder(tmp_path, node) / "text")
    stage, inputs = Reads(), {"data": node.fingerprint}
    reader = Node(field="oc", stage=stage, inputs=inputs, fingerprint=fingerprint(stage, inputs))
    with pytest.raises(
        MissingInput, match=f"the artifact {node.fingerprint} of 'data' is not in the store"
    ) as error:
        execute(reader, root=tmp_path)
    assert error.value.field == "data"
    execute(node, root=tmp_path)
    assert execute(reader, root=tmp_path).metrics == {"length": 4.0}


@pytest.mark.parametrize("text", ["{}", '{"stage": "Writes"}'])
def test_a_manifest_of_another_version_is_told_with_its_path(tmp_path: Path, text: str) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    path = artifact_folder(tmp_path, node) / "manifest.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path} is not a manifest of this version"):
        execute(node, root=tmp_path)
    assert path.read_text() == text


def test_a_manifest_of_another_configuration_is_told_with_the_difference(tmp_path: Path) -> None:
    node = node_of(Writes())
    execute(node, root=tmp_path)
    path = artifact_folder(tmp_path, node) / "manifest.json"
    path.write_text(path.read_text().replace('"text": "text"', '"text": "other"'))
    with pytest.raises(
        ValueError, match=r"does not match: config is .*'other'.*, expected .*'text'"
    ):
        execute(node, root=tmp_path)

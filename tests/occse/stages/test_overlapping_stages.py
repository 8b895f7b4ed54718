"""Stages in which reading, network and writing overlap: shown by a trace of what happened when."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

import occse.stages.cam
import occse.stages.pseudo
import occse.stages.seg
from occse.artifacts.manifest import artifact_folder
from occse.data.array_archive import ArrayWriter
from occse.data.dataset import Dataset
from occse.networks.affinity import AffinityNet
from occse.networks.classifier import Classifier
from occse.networks.deeplab import DeepLab
from occse.pipeline import Node
from occse.stage import Context

# Partners that meet wait some milliseconds; those that never meet fail after this.
PATIENCE_S = 10.0


@dataclass
class Trace:
    """Ends of what happened, by kind, in seconds; one may wait for them."""

    read: list[float] = field(default_factory=list)
    network: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def after(self, ends: list[float], function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, noting when it has ended."""

        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            self.note(ends)
            return result

        return call

    def note(self, ends: list[float]) -> None:
        with self.changed:
            ends.append(time.monotonic())
            self.changed.notify_all()

    def clear(self) -> None:
        for ends in (self.read, self.network, self.written):
            ends.clear()

    def wait(self, ends: list[float], count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(ends) >= count, PATIENCE_S)


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trace]:
    trace = Trace()
    monkeypatch.setattr(Dataset, "image", trace.after(trace.read, Dataset.image))
    monkeypatch.setattr(ArrayWriter, "write", trace.after(trace.written, ArrayWriter.write))
    for stage in (occse.stages.seg, occse.stages.pseudo):
        write = trace.after(trace.written, stage.write_label_map)
        monkeypatch.setattr(stage, "write_label_map", write)
    monkeypatch.setattr(occse.stages.cam, "BATCH", 4)
    monkeypatch.setattr(occse.stages.seg, "BATCH", 1)
    yield trace


@pytest.mark.parametrize(
    ("name", "batch", "images"), [("cam", 4, 16), ("pseudo", 1, 16), ("seg", 1, 4)]
)
def test_next_batch_is_read_and_the_last_one_written_while_the_network_computes(
    name: str,
    batch: int,
    images: int,
    trace: Trace,
    small_store: Path,
    small_node: dict[str, Node],
    tmp_path: Path,
) -> None:
    node = small_node[name]
    late: list[str] = []

    def while_it_computes(module: nn.Module, inputs: object) -> None:
        if not isinstance(module, Classifier | AffinityNet | DeepLab):
            return
        number = len(trace.network)
        trace.note(trace.network)
        if not trace.wait(trace.read, min((number + 2) * batch, images)):
            late.append(f"batch {number + 1} is not read while the network computes {number}")
        # A batch is copied from the device while the next one computes, and then written.
        if not trace.wait(trace.written, (number - 1) * batch):
            late.append(f"batch {number - 2} is not written while the network computes {number}")

    inputs = {need: artifact_folder(small_store, small_node[need]) for need in node.inputs}
    plain = tmp_path / "plain"
    output = tmp_path / "output"
    for folder in (plain, output):
        folder.mkdir()
    # in batches of the same size: another one may change the order of sums
    node.stage.run(Context(inputs=inputs, output=plain, scratch=tmp_path))
    trace.clear()
    hook = register_module_forward_pre_hook(while_it_computes)
    try:
        metrics = node.stage.run(Context(inputs=inputs, output=output, scratch=tmp_path))
    finally:
        hook.remove()
    assert late == []
    assert len(trace.network) == images // batch
    assert len(trace.read) == images
    # What is made while all of them wait for each other is what is made without.
    made = contents(output)
    assert metrics["miou"] > 0
    assert made.keys()
    assert made == contents(plain)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

"""Two processes, or a batch in parts, against one process: equal weights from equal batches."""

import copy
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from occse.artifacts.execute import artifact_folder, execute, load_manifest
from occse.artifacts.processes import run_in_processes
from occse.data.array_archive import ArrayReader
from occse.networks.precision import in_precision
from occse.pipeline import STAGES, Pipeline, override, plan
from occse.stage import Context, Machine, Stage
from occse.training.parallel import Spread

# Sums in another order differ by rounding errors, and a rounding error that changes the sign of an
# activation next to 0 grows. In float32 that depends on the processor, so the trainings compute in
# float64. A maximum over a process's own images only is off by 0.9 to 3.5 %.
TOLERANCE = 1e-9
STEPS = {"*.optimizer": "sgd", "*.epochs": 2, "*.lr": 0.01, "cgnet.lr": 0.1}
STILL = {"*.lr": 1e-12, "cgnet.lr": 1e-12}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", {}),
    "oc": ("oc", {}),
    "cse, batch": ("cgnet", {"cgnet.mask_max": "batch"}),
    "cse, image": ("cgnet", {"cgnet.mask_max": "image"}),
    "agnostic, batch": ("cgnet", {"cgnet.erasing": "class_agnostic", "cgnet.mask_max": "batch"}),
    "agnostic, image": ("cgnet", {"cgnet.erasing": "class_agnostic", "cgnet.mask_max": "image"}),
    "agnostic, batch, two parts": (
        "cgnet",
        {"cgnet.erasing": "class_agnostic", "cgnet.mask_max": "batch"},
    ),
    "soft labels": (
        "cgnet",
        {"cgnet.remaining": "oc", "cgnet.draw": "balanced", "cgnet.mask_max": "batch"},
    ),
    "affinity": ("affinity", {}),
    "boundaries": ("affinity", {"affinity.network": "irn"}),
    "deeplab": ("deeplab", {"deeplab.head": "aspp"}),  # the one head without dropout
}


class Trainings(Stage):
    """Several trainings one after the other: processes take long to start."""

    stages: dict[str, tuple[str, dict[str, Any]]]
    accumulate: int = 1

    def run(self, ctx: Context) -> dict[str, float]:
        with in_float64():
            self._run_all(ctx)
        return {}

    def _run_all(self, ctx: Context) -> None:
        for case, (kind, config) in self.stages.items():
            output, scratch = ctx.output / case, ctx.scratch / case
            output.mkdir()
            scratch.mkdir(exist_ok=True)
            parts = 2 if "two parts" in case and ctx.machine.processes > 1 else self.accumulate
            machine = replace(ctx.machine, accumulate=parts)
            shared = replace(ctx, output=output, scratch=scratch, machine=machine)
            STAGES[kind].model_validate(config).run(shared)


@contextmanager
def in_float64() -> Iterator[None]:
    """Build networks in float64: those that are drawn, and those that are read from files."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def trainings(
    pipeline: Pipeline, changes: Mapping[str, Any], *cases: str, **options: int
) -> Trainings:
    """The named cases with the knobs `changes`."""
    stages = {}
    for case in cases:
        field, own = CASES[case]
        stage = override(pipeline, STEPS | changes | own).stage(field)
        stages[case] = (type(stage).__name__, stage.model_dump())
    return Trainings(stages=stages, **options)


@pytest.fixture(scope="module")
def inputs(small_store: Path, small_pipeline: Pipeline) -> dict[str, Path]:
    return {
        field: artifact_folder(small_store, node) for field, node in plan(small_pipeline).items()
    }


def train(stage: Trainings, inputs: Mapping[str, Path], folder: Path, processes: int = 1) -> Path:
    output, scratch = folder / "output", folder / "scratch"
    output.mkdir(parents=True)
    scratch.mkdir()
    run_in_processes(
        stage,
        Context(
            inputs=inputs, output=output, scratch=scratch, machine=Machine(processes=processes)
        ),
    )
    return output


def assert_equal(found: Path, expected: Path, start: Path) -> None:
    """All weights by how far they have moved, each batch norm's statistics by their size."""
    before, after, ours = (
        load_file(folder / "model.safetensors") for folder in (start, expected, found)
    )
    statistics = {
        name for name in after if ".running_" in name or name.endswith("num_batches_tracked")
    }
    weights = after.keys() - statistics
    assert distance(ours, after, weights) / distance(after, before, weights) <= TOLERANCE
    for name in statistics:
        assert torch.allclose(
            ours[name], after[name], rtol=0, atol=TOLERANCE * after[name].abs().max().item()
        ), name
    curves = [json.loads((folder / "curves.json").read_text()) for folder in (found, expected)]
    for record, expected_record in zip(*curves, strict=True):
        assert record == pytest.approx(expected_record, rel=TOLERANCE)


def distance(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: Collection[str]
) -> float:
    return (
        sum((first[name].double() - second[name].double()).square().sum().item() for name in names)
        ** 0.5
    )


@pytest.fixture(scope="module")
def alone(
    small_pipeline: Pipeline, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """All cases by one process, and where they started from."""
    folder = tmp_path_factory.mktemp("alone")
    train(trainings(small_pipeline, {}, *CASES), inputs, folder / "end")
    train(trainings(small_pipeline, STILL, *CASES), inputs, folder / "start")
    return folder


@pytest.fixture(scope="module")
def shared(
    small_pipeline: Pipeline, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """All cases by two processes."""
    folder = tmp_path_factory.mktemp("shared")
    return train(trainings(small_pipeline, {}, *CASES), inputs, folder, processes=2)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(case: str, shared: Path, alone: Path) -> None:
    assert_equal(shared / case, alone / "end" / "output" / case, alone / "start" / "output" / case)


@pytest.fixture(scope="module")
def in_parts(
    small_pipeline: Pipeline, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """All cases with frozen batch norms: in one part and in three, and where they started from."""
    folder = tmp_path_factory.mktemp("parts")
    for name, changes, accumulate in (("start", STILL, 1), ("whole", {}, 1), ("parts", {}, 3)):
        frozen = {"*.freeze_bn": True} | changes
        train(
            trainings(small_pipeline, frozen, *CASES, accumulate=accumulate), inputs, folder / name
        )
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_batch_in_parts_gives_the_weights_of_the_whole(case: str, in_parts: Path) -> None:
    start, whole, parts = (
        in_parts / name / "output" / case for name in ("start", "whole", "parts")
    )
    assert_equal(parts, whole, start)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_only_one_part_keeps_its_activations() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 2, 3), nn.AdaptiveAvgPool2d(1)
    )
    kept = {}
    for parts in (1, 4):
        sizes: list[int] = []
        spread = Spread(network, batch_size=8, parts=parts, precision="float32")

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            spread(network, images(8))
        kept[parts] = sum(sizes)
    assert kept[1] > 8 * 32 * 10 * 10, "the first convolution's output is one of them"
    assert kept[4] == images(8).numel(), "what the parts are computed from again"


def test_batch_norm_moves_once_for_each_part_though_it_is_computed_twice() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    expected = copy.deepcopy(network)
    batch = images(6)
    Spread(network, batch_size=6, parts=3, precision="float32")(network, batch).sum().backward()
    for part in batch.chunk(3):
        expected(part)
    norm, expected_norm = network[1], expected[1]
    assert (norm.num_batches_tracked, norm.momentum) == (3, 0.1)
    assert torch.equal(norm.running_mean, expected_norm.running_mean)
    assert torch.equal(norm.running_var, expected_norm.running_var)


def test_bfloat16_reaches_the_network_and_not_what_is_made_of_its_output() -> None:
    network = nn.Conv2d(3, 2, 3)
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    exact = network(images(2))
    rounded = Spread(network, batch_size=2, parts=1, precision="bfloat16")(network, images(2))
    inferred = in_precision(network, "bfloat16")(images(2))
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert rounded.dtype == inferred.dtype == torch.float32
    assert torch.equal(rounded, inferred)
    assert 0 < (rounded - exact).abs().max() < 2**-7 * 27 * 4, "8 bits, of sums of 27 products"
    rounded.sum().backward()
    assert network.weight.grad is not None
    assert network.weight.grad.dtype == torch.float32


def test_bfloat16_trains_and_makes_cams_that_are_close(
    own_store: Path, small_pipeline: Pipeline
) -> None:
    cams = []
    for precision in ("float32", "bfloat16"):
        nodes = plan(override(small_pipeline, {"cam.precision": precision}), targets=("cam",))
        for node in nodes.values():
            execute(node, root=own_store)
        reader = ArrayReader(artifact_folder(own_store, nodes["cam"]) / "cams.zip")
        cams.append([reader[name]["cam"] for name in reader.names])
    differences = [
        np.abs(a.astype(float) - b.astype(float)).max() for a, b in zip(*cams, strict=True)
    ]
    assert 0 < max(differences) < 0.1
    trained = plan(override(small_pipeline, {"cgnet.precision": "bfloat16"}), targets=("cgnet",))[
        "cgnet"
    ]
    loss = execute(trained, root=own_store).metrics["loss"]
    exact = load_manifest(own_store, plan(small_pipeline)["cgnet"])
    assert exact is not None
    assert loss != exact.metrics["loss"]
    assert loss == pytest.approx(exact.metrics["loss"], rel=0.02)

"""Steps of the trainings never wait for the device.

They run on torch's device "meta", whose tensors have no values: whatever asks for a value fails
(`item`, `cpu`, `nonzero`, a mask as an index). Copies to the device must say that they do not wait.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import occse.stages.learning
import occse.training.parallel
from occse.artifacts.manifest import artifact_folder
from occse.pipeline import Node
from occse.stage import Context, Machine
from occse.training.loop import Samples, Step
from occse.training.parallel import Spread

Captured = tuple[nn.Module, Samples, Callable[[tuple[Tensor, ...], Step], dict[str, Tensor]]]


class WithoutWaiting(TorchDispatchMode):
    """Refuses copies to the device that wait, and remembers that there were some."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        named = named or {}
        is_copy = function is torch.ops.aten._to_copy.default
        if is_copy and not arguments[0].is_meta and str(named.get("device")) == "meta":
            self.copies += 1
            assert named.get("non_blocking"), "a copy to the device waits for it"
        return function(*arguments, **named)


@pytest.fixture
def capture(
    small_store: Path,
    small_node: dict[str, Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Captured]:
    """Returns model, samples and loss of a stage, as it hands them to its training."""

    class Reached(Exception):  # noqa: N818 - not an error
        pass

    def run(field: str, **knobs: object) -> Captured:
        found: list[Captured] = []

        def fit(stage: Any, ctx: Any, model: Any, samples: Any, loss: Any, **_: Any) -> None:
            found.append((model, samples, loss))
            raise Reached

        monkeypatch.setattr(occse.stages.learning, "fit", fit)
        # `meta` has no autocast, and no precision either.
        monkeypatch.setattr(occse.training.parallel, "autocast", lambda *_: nullcontext())
        node = small_node[field]
        inputs = {need: artifact_folder(small_store, small_node[need]) for need in node.inputs}
        context = Context(
            inputs=inputs, output=tmp_path, scratch=tmp_path, machine=Machine(device="meta")
        )
        with pytest.raises(Reached):
            node.stage.model_copy(update=knobs).run(context)
        return found[0]

    return run


ERASINGS = [
    # Random weights: those of `oc` are on the device, which has no values.
    ("cgnet", {"init": "random", "erasing": erasing, "mask_max": mask_max, **more})
    for erasing, mask_max, more in (
        ("cse", "batch", {}),
        ("cse", "image", {"mask": "hard", "remaining": "oc"}),
        ("cse", "batch", {"draw": "balanced"}),
        ("class_agnostic", "batch", {}),
        ("class_agnostic", "image", {}),
    )
]


@pytest.mark.parametrize(
    ("field", "knobs"),
    [("pretrain", {}), ("oc", {}), *ERASINGS, ("affinity", {}), ("deeplab", {})],
)
def test_step_asks_the_device_for_no_value_and_waits_for_no_copy(
    field: str, knobs: dict[str, object], capture: Callable[..., Captured]
) -> None:
    model, samples, loss = capture(field, **knobs)
    model = model.to("meta").train()
    views = [samples.sample(index, Generator().manual_seed(index)) for index in range(4)]
    batch = [torch.stack(tensors) for tensors in zip(*views, strict=True)]
    spread = Spread(model, batch_size=4, parts=1, precision="float32")
    step = Step(number=0, epoch=1, generator=Generator(), on_host=tuple(batch[1:]), spread=spread)
    with WithoutWaiting() as mode:
        on_device = tuple(tensor.to("meta", non_blocking=True) for tensor in batch)
        parts = loss(on_device, step)
        parts["loss"].backward()
    assert mode.copies >= len(batch)
    assert all(part.is_meta for part in parts.values())
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert any(gradient is not None for gradient in gradients)


@pytest.mark.parametrize(
    "waits",
    [
        lambda values: values.sum().item(),
        lambda values: values.cpu(),
        lambda values: values.nonzero(),
        lambda values: values[values > 0],
        lambda values: torch.arange(3).to("meta") + values,
    ],
)
def test_what_waits_is_found(waits: Callable[[Tensor], object]) -> None:
    with WithoutWaiting(), pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        waits(torch.ones(3, device="meta"))

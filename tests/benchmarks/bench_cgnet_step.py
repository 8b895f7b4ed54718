"""One training step of CGNet with the weights of the ordinary classifier frozen, against leaving
them trainable.

Nobody uses the gradients of those weights; the official code computes them and lets them
accumulate. CGNet's own gradients must be the same to the last bit. Run: python
tests/benchmarks/bench_cgnet_step.py (see --help)"""

import argparse
import time

import torch
from torch import Tensor

from occse.method.erasing import erase, erasing_loss, erasing_targets
from occse.networks.checkpoint import place
from occse.networks.classifier import Classifier, logits
from occse.training.optimizer import Optimization, build_optimizer

CLASSES = 20
OPTIONS = Optimization(
    optimizer="sgd",
    lr=0.0,  # every step starts from the same weights
    momentum=5e-4,
    weight_decay=5e-4,
    poly_power=0.9,
    bias_lr=2.0,
    head_lr=1.0,
    freeze_bn=True,
    freeze_stem=True,
)


def step(
    model: Classifier,
    oc: Classifier,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
) -> tuple[float, list[Tensor]]:
    """Seconds of the whole step, and CGNet's gradients."""
    images, labels = batch
    generator = torch.Generator().manual_seed(0)
    start = now(images)
    cams = model(images)
    mask, remaining = erasing_targets(
        cams, labels, mode="cse", size=images.shape[2:], mask_max="batch", generator=generator
    )
    erased_logits = logits(oc(erase(images, mask)))
    parts = erasing_loss(logits(cams), labels, erased_logits, remaining, lambda_=0.3)
    optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    optimizer.step()
    seconds = now(images) - start
    return seconds, [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


def now(tensor: Tensor) -> float:
    """On the one CPU thread its own time, so that other processes do not count."""
    if not tensor.is_cuda:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def thaw(oc: Classifier, trainable: str) -> None:
    """Make `oc` trainable: all of it, or what the official code leaves trainable (no batch norm, no
    stem).
    """
    oc.requires_grad_(trainable != "nothing")
    if trainable == "official":
        build_optimizer(oc, OPTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet38")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.backends.cudnn.deterministic = True
    model, oc = (
        place(Classifier(options.backbone, CLASSES), options.device).eval() for _ in range(2)
    )
    optimizer = build_optimizer(model, OPTIONS)
    images = torch.randn(options.batch, 3, options.size, options.size).to(
        memory_format=torch.channels_last
    )
    labels = (torch.rand(options.batch, CLASSES) < 0.1).float()
    labels[:, 0] = 1
    batch = images.to(options.device), labels.to(options.device)
    times: dict[str, list[float]] = {"nothing": [], "official": [], "all": []}
    for count in range(options.rounds + 1):  # in turn, so that a busy machine slows all of them
        expected: list[Tensor] = []
        for trainable, seconds in times.items():
            thaw(oc, trainable)
            taken, found = step(model, oc, optimizer, batch)
            if count:  # the first round warms up
                seconds.append(taken)
            expected = expected or found
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), (
                "gradients of CGNet differ"
            )
    print(
        f"{options.backbone}, {options.batch} x {options.size} x {options.size}, "
        f"{options.device}; ",
        end="",
    )
    print(f"best of {options.rounds} steps; CGNet's gradients are bit-identical")
    best = {trainable: min(seconds) for trainable, seconds in times.items()}
    for trainable, seconds in best.items():
        print(
            f"  OC trainable: {trainable:<8} {seconds * 1e3:8.0f} ms, "
            f"{seconds / best['nothing']:.2f} times frozen"
        )


if __name__ == "__main__":
    main()

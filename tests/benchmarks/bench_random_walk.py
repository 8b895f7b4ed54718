"""The random walk on one thread: sparse steps against squarings of the dense matrix, large images,
batches.

Memory is the peak of torch's allocations from the features of one image to its enlarged scores,
without the network and its features. What the process holds grows by more in its first call, with
the code that is loaded.

Run: python tests/benchmarks/bench_random_walk.py
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from occse.method.random_walk import boundary_walk, random_walk, transition_matrix
from occse.networks.affinity import affinities

RADIUS, BETA, STEPS_LOG = 5, 8.0, 8
VOC, TINY, LARGE, IRN = (47, 63), (20, 20), (128, 128), (94, 125)
CHANNELS = 448  # of ResNet-38's AffinityNet
NUM_LABELS = 3
BATCH = 8

Method = Callable[[Tensor, Tensor], Tensor]


def walk(features: Tensor, scores: Tensor) -> Tensor:
    """256 sparse steps."""
    size = scores.shape[-2], scores.shape[-1]
    pairs = affinities(features, radius=RADIUS)
    walked = random_walk(
        transition_matrix(pairs, size=size, radius=RADIUS, beta=BETA), scores, steps=2**STEPS_LOG
    )
    return functional.interpolate(walked, scale_factor=8, mode="bilinear", align_corners=False)


def walk_one_by_one(features: Tensor, scores: Tensor) -> Tensor:
    """The same for each image of the batch."""
    return torch.cat([walk(*each) for each in zip(features.split(1), scores.split(1), strict=True)])


def walk_between_boundaries(features: Tensor, scores: Tensor) -> Tensor:
    """IRN's walk; the first channel is the boundary map."""
    walked = boundary_walk(features[:, 0], scores, radius=RADIUS, beta=BETA, steps=2**STEPS_LOG)
    return functional.interpolate(walked, scale_factor=4, mode="bilinear", align_corners=False)


def square(features: Tensor, scores: Tensor) -> Tensor:
    """8 dense squarings, then one product."""
    size = scores.shape[-2], scores.shape[-1]
    pairs = affinities(features, radius=RADIUS)
    power = transition_matrix(pairs, size=size, radius=RADIUS, beta=BETA).to_dense()
    for _ in range(STEPS_LOG):
        power = power @ power
    walked = (scores.flatten(2) @ power).view(scores.shape)
    return functional.interpolate(walked, scale_factor=8, mode="bilinear", align_corners=False)


def peak_megabytes(run: Callable[[], object]) -> float:
    """The most that torch's tensors of `run` take at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    changes = [
        event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def report(
    name: str, method: Method, size: tuple[int, int], batch: int = 1
) -> tuple[float, Tensor]:
    """Print best time and peak memory, and return seconds and result."""
    torch.manual_seed(0)
    features, scores = torch.rand(batch, CHANNELS, *size), torch.rand(batch, NUM_LABELS, *size)
    result = method(features, scores)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        method(features, scores)
        times.append(time.perf_counter() - start)
    megabytes = peak_megabytes(lambda: method(features, scores))
    print(f"  {name:<46} {min(times) * 1e3:8.1f} ms   {megabytes:7.1f} MB", flush=True)
    return min(times), result


def main() -> None:
    torch.set_num_threads(1)
    for name, size in {"375 x 500 at stride 8": VOC, "80 x 80 at stride 4": TINY}.items():
        print(f"{name}: {size[0] * size[1]} nodes, {NUM_LABELS} maps, {2**STEPS_LOG} steps")
        sparse_s, sparse = report("sparse steps", walk, size)
        dense_s, dense = report("dense squarings", square, size)
        agree = (sparse.argmax(1) == dense.argmax(1)).float().mean().item()
        print(
            f"  {dense_s / sparse_s:.0f} times faster; "
            f"largest difference {(sparse - dense).abs().max():.1e}",
            end="",
        )
        print(f", same label at {100 * agree:.2f} % of the pixels")
    print("sparse steps only")
    report("1024 x 1024 at stride 8", walk, LARGE)
    report("375 x 500 at stride 4, IRN's boundaries", walk_between_boundaries, IRN)
    single_s, _ = report(f"{BATCH} images of 375 x 500 one by one", walk_one_by_one, VOC, BATCH)
    batch_s, _ = report(f"{BATCH} images of 375 x 500 as one graph", walk, VOC, BATCH)
    print(f"  on this CPU one graph takes {batch_s / single_s:.2f} times as long")


if __name__ == "__main__":
    main()

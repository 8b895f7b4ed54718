"""Sparse steps of the random walk against squarings of the dense matrix, on one thread: time and memory.

Run: python tests/benchmarks/bench_random_walk.py
"""

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context

import torch
from torch import Tensor

from occse.affinity import affinities
from occse.random_walk import random_walk, transition_matrix

RADIUS, BETA, LOG_STEPS = 5, 8.0, 8
SIZES = {"375 x 500 at stride 8": (47, 63), "80 x 80 at stride 4": (20, 20)}
NUM_LABELS = 3


def walk(pairs: Tensor, scores: Tensor) -> Tensor:
    """256 sparse steps."""
    size = scores.shape[1], scores.shape[2]
    return random_walk(transition_matrix(pairs, size=size, radius=RADIUS, beta=BETA), scores, steps=2**LOG_STEPS)


def square(pairs: Tensor, scores: Tensor) -> Tensor:
    """8 dense squarings, then one product."""
    size = scores.shape[1], scores.shape[2]
    power = transition_matrix(pairs, size=size, radius=RADIUS, beta=BETA).to_dense()
    for _ in range(LOG_STEPS):
        power = power @ power
    return (scores.flatten(1) @ power).view(scores.shape)


def measure(method: Callable[[Tensor, Tensor], Tensor], size: tuple[int, int]) -> tuple[float, float, Tensor]:
    """Best seconds of three, growth of the peak memory in MB, and the result, in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pairs = affinities(torch.rand(1, 32, *size), radius=RADIUS)[0]
    scores = torch.rand(NUM_LABELS, *size)
    walk(pairs[:, :1], torch.rand(NUM_LABELS, RADIUS, 2 * RADIUS - 1))  # loads the libraries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = method(pairs, scores)
        times.append(time.perf_counter() - start)
    return min(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, result


def main() -> None:
    for name, size in SIZES.items():
        rows = []
        for method in (walk, square):
            with get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (method, size)))
        (sparse_s, sparse_mb, sparse), (dense_s, dense_mb, dense) = rows
        agree = (sparse.argmax(0) == dense.argmax(0)).float().mean().item()
        print(f"{name}: {size[0] * size[1]} nodes, {NUM_LABELS} maps, {2**LOG_STEPS} steps")
        print(f"  sparse steps     {sparse_s * 1e3:8.1f} ms   {sparse_mb:7.1f} MB")
        print(f"  dense squarings  {dense_s * 1e3:8.1f} ms   {dense_mb:7.1f} MB")
        print(f"  {dense_s / sparse_s:.0f} times faster; largest difference {(sparse - dense).abs().max():.1e}", end="")
        print(f", same label at {100 * agree:.2f} % of the nodes")


if __name__ == "__main__":
    main()

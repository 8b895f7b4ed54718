"""Three cells of `bench_false_claims.py`: false claims are rare, and intervals hold the truth."""

import gc
import math
from collections.abc import Iterator

import pytest
from benchmarks.bench_false_claims import NOISES, SHARED, cell

SWEEPS = 120
# The goal, and what the simulation may err by: 2.6 standard errors, a false alarm in 200.
FALSE_CLAIMS = 0.06
ERROR = 2.6 * math.sqrt(FALSE_CLAIMS * (1 - FALSE_CLAIMS) / SWEEPS)


@pytest.fixture
def few_objects() -> Iterator[None]:
    """Keep the objects of other tests from the garbage collector, which statsmodels calls often."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("few_objects")
@pytest.mark.statistics
@pytest.mark.parametrize(
    ("seeds", "noise", "shape", "sharing"),
    [
        (2, 1.3, "equal", "nested"),
        (3, 2.5, "unequal", "shared"),
        (5, 5.0, "equal", "nested"),
    ],
)
def test_false_claims_are_rare_and_intervals_hold_the_truth(
    seeds: int, noise: float, shape: str, sharing: str
) -> None:
    found = cell(SWEEPS, seeds=seeds, skill_sd=NOISES[noise], shape=shape, sharing=sharing)
    assert found.false_claims <= FALSE_CLAIMS + ERROR
    assert 0.93 - 0.02 <= found.coverage <= 0.97 + 0.02
    # the baseline has its own noise, and that of the seed where it is shared
    spread = noise * math.hypot(1, SHARED[sharing])
    assert found.seed_sd == pytest.approx(spread, rel=0.25)

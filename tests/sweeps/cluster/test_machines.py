import pytest

from occse.stage import Resources
from sweeps.cluster.machines import clamp, share

SMALL = {"CPU": 2.0}
MIXED = [{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("asked", "machines", "granted"),
    [
        ((4, 1), [SMALL], (2, 0)),
        ((1, 0), [SMALL], (1, 0)),
        ((0.5, 0), [SMALL], (0.5, 0)),
        ((16, 1), MIXED, (8, 1)),
        ((16, 4), MIXED, (8, 2)),
        ((100, 0), MIXED, (64, 0)),
        ((4, 0.5), MIXED, (4, 0.5)),
    ],
)
def test_what_a_stage_gets(
    asked: tuple[float, float], machines: list[dict[str, float]], granted: tuple[float, float]
) -> None:
    found = clamp(Resources(num_cpus=asked[0], num_gpus=asked[1]), machines)
    assert (found.num_cpus, found.num_gpus) == granted


@pytest.mark.parametrize(
    ("gpus", "batch_size", "granted"),
    [(4, 16, 2), (4, 15, 3), (4, 7, 1), (0.5, 16, 0.5), (4, 0, 3)],
)
def test_gpus_that_a_machine_cannot_give_are_as_many_as_the_batch_divides_among(
    gpus: float, batch_size: int, granted: float
) -> None:
    found = clamp(
        Resources(num_cpus=1, num_gpus=gpus), [{"CPU": 8.0, "GPU": 3.0}], batch_size=batch_size
    )
    assert found.num_gpus == granted


def test_the_share_of_the_cluster_is_that_of_the_scarcer_kind() -> None:
    assert share(Resources(num_cpus=1), [SMALL]) == 0.5
    assert share(Resources(num_cpus=8, num_gpus=1), MIXED) == 0.5
    assert share(Resources(num_cpus=0), [SMALL]) == 0

"""Makespans against those that a person draws on paper."""

import random

import pytest

from sweeps.cluster.policy import Amounts
from sweeps.plan.simulation import Task, makespan


def task(seconds: float, *inputs: str, cpu: float = 1.0, gpu: float = 0.0) -> Task:
    return Task(inputs=inputs, needs={"CPU": cpu, "GPU": gpu}, seconds=seconds)


def cluster(*, cpus: float, gpus: float = 0.0) -> list[Amounts]:
    return [{"CPU": cpus, "GPU": gpus}]


def test_nothing_takes_no_time() -> None:
    assert makespan({}, cluster(cpus=1)) == 0


def test_a_chain_takes_the_sum_however_large_the_cluster() -> None:
    chain = {"a": task(3), "b": task(4, "a"), "c": task(5, "b", "in the store")}
    assert makespan(chain, cluster(cpus=8)) == 12


def test_equal_stages_run_in_rounds() -> None:
    stages = {str(number): task(10) for number in range(5)}
    assert [makespan(stages, cluster(cpus=cpus)) for cpus in (1, 2, 4, 5)] == [50, 30, 20, 10]


def test_the_longest_path_goes_first() -> None:
    # "long" must start at once: 0-6 long with its chain 6-12, beside it short 1-4: 0-3, 3-6, 6-9,
    # 9-12
    stages = {f"short {number}": task(3) for number in range(4)} | {
        "long": task(6),
        "then": task(6, "long"),
    }
    assert makespan(stages, cluster(cpus=2)) == 12


def test_a_wide_stage_waits_until_there_is_room_on_one_machine() -> None:
    # narrow stages have the longer paths: they run 0-5 on both CPUs of each machine, then wide 5-9
    stages = {str(number): task(5) for number in range(4)} | {"wide": task(4, cpu=2)}
    assert makespan(stages, cluster(cpus=2) * 2) == 9
    with pytest.raises(ValueError, match="no machine of the cluster has 2 CPU"):
        makespan(stages, cluster(cpus=1) * 4)


def test_gpu_stages_are_not_held_up_by_others() -> None:
    # one GPU: trainings 0-10, 10-20; a CRF after each takes the CPU that is left: 10-18, 20-28
    stages = {
        "cgnet 0": task(10, gpu=1),
        "cgnet 1": task(10, gpu=1),
        "crf 0": task(8, "cgnet 0"),
        "crf 1": task(8, "cgnet 1"),
    }
    assert makespan(stages, cluster(cpus=2, gpus=1)) == 28
    assert makespan(stages, cluster(cpus=4, gpus=2)) == 18


def test_stage_of_two_gpus_starts_as_soon_as_those_that_run_have_ended() -> None:
    """Smaller stages must not pass it, or both GPUs would be free at once only at the very end."""
    stages = {"pre": task(10), "two": task(100, "pre", gpu=2), "behind": task(1000, "two")}
    stages |= {"slow": task(150, gpu=1)}
    stages |= {f"one {number}": task(100, gpu=1) for number in range(20)}
    # slow and one of the others start at once, for nothing else is ready yet
    assert makespan(stages, cluster(cpus=8, gpus=2)) == 150 + 100 + 1000


def test_fractions_of_a_gpu_share_it() -> None:
    stages = {str(number): task(10, cpu=0, gpu=0.25) for number in range(8)}
    assert makespan(stages, cluster(cpus=1, gpus=1)) == 20


def test_no_schedule_beats_its_bounds_nor_is_longer_than_twice_the_best() -> None:
    # Graham's bound for list scheduling of equal narrow resources
    draw = random.Random(0)
    stages: dict[str, Task] = {}
    for number in range(300):
        inputs = draw.sample(sorted(stages), min(len(stages), draw.randrange(3)))
        stages[str(number)] = task(draw.uniform(1, 9), *inputs)
    ends: dict[str, float] = {}
    for name, stage in stages.items():
        ends[name] = stage.seconds + max((ends[need] for need in stage.inputs), default=0.0)
    work = sum(stage.seconds for stage in stages.values())
    for cpus in (1, 3, 10):
        least = max(work / cpus, *ends.values())
        assert least - 1e-6 <= makespan(stages, cluster(cpus=cpus)) <= (2 - 1 / cpus) * least + 1e-6


def test_ten_thousand_trials_keep_all_gpus_busy() -> None:
    stages: dict[str, Task] = {}
    for number in range(10_000):
        stages[f"cam {number}"] = task(1, cpu=2, gpu=1)
        stages[f"crf {number}"] = task(2, f"cam {number}", cpu=4)
        stages[f"seg {number}"] = task(3, f"crf {number}", cpu=2, gpu=1)
    work = 10_000 * 4 / 32
    assert work <= makespan(stages, cluster(cpus=64, gpus=8) * 4) <= 1.05 * work

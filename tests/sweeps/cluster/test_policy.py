"""The choice of the next stage, against what a person would choose."""

import random
from dataclasses import replace

from sweeps.cluster.policy import (
    PATIENCE_S,
    Amounts,
    Waiting,
    choose,
    cpus_beside_gpus,
    fits,
    longest_paths,
    most_at_once,
)
from sweeps.cluster.view import account_of


def waiting(name: str, *, path_s: float = 0.0, cpu: float = 1.0, gpu: float = 0.0) -> Waiting:
    return Waiting(
        fingerprint=name, needs={"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}, path_s=path_s
    )


def started(chosen: list[tuple[Waiting, int]]) -> list[tuple[str, int]]:
    return [(stage.fingerprint, place) for stage, place in chosen]


def test_a_path_goes_on_through_the_slowest_stage_below() -> None:
    inputs = {"oc": ["data"], "cam": ["oc"], "crf": ["cam"], "seg": ["crf", "cam"]}
    seconds = {"oc": 5.0, "cam": 1.0, "crf": 10.0, "seg": 2.0}
    assert longest_paths(inputs, seconds) == {"oc": 18.0, "cam": 13.0, "crf": 12.0, "seg": 2.0}
    assert longest_paths(inputs, {}) == dict.fromkeys(inputs, 0.0)


def test_the_longest_path_starts_first_and_equals_in_their_order() -> None:
    stages = [waiting("short", path_s=1), waiting("long", path_s=9), waiting("as long", path_s=9)]
    assert started(choose(stages, [{"CPU": 2}])) == [("long", 0), ("as long", 0)]


def test_what_does_not_fit_lets_others_pass() -> None:
    stages = [waiting("wide", path_s=9, cpu=4), waiting("narrow", path_s=1)]
    assert started(choose(stages, [{"CPU": 2}, {"CPU": 1}])) == [("narrow", 1)]


def test_first_stage_that_waits_for_gpus_reserves_a_machine_against_smaller_ones() -> None:
    stages = [waiting("two", path_s=9, gpu=2), waiting("one", path_s=1, gpu=1)]
    totals = [{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}]
    half_free = [{"CPU": 7, "GPU": 1}, {"CPU": 6, "GPU": 0}]
    assert choose(stages, half_free, totals=totals) == []
    both_half_free = [{"CPU": 7, "GPU": 1}, {"CPU": 7, "GPU": 1}]
    assert started(choose(stages, both_half_free, totals=totals)) == [("one", 1)]
    free = [{"CPU": 8, "GPU": 2}, {"CPU": 7, "GPU": 1}]
    assert started(choose(stages, free, totals=totals)) == [("two", 0), ("one", 1)]


def test_reserved_machine_takes_a_stage_of_as_many_gpus_that_needs_fewer_cpus() -> None:
    stages = [waiting("wide", path_s=9, cpu=8, gpu=1), waiting("narrow", path_s=1, cpu=1, gpu=1)]
    totals = [{"CPU": 8, "GPU": 2}]
    assert started(choose(stages, [{"CPU": 4, "GPU": 1}], totals=totals)) == [("narrow", 0)]


def test_room_on_a_machine_that_ray_filled_beyond_its_size_counts_as_none() -> None:
    free = [{"CPU": -2.0}, {"CPU": 4.5}, {"GPU": 1.0}]
    assert most_at_once({"CPU": 2.0, "GPU": 0.0}, free) == 2
    assert most_at_once({}, free) == float("inf")


def test_stage_that_is_not_first_in_line_reserves_nothing() -> None:
    stages = [waiting("one", path_s=9, gpu=1), waiting("two", path_s=1, gpu=2)]
    stages.append(waiting("small", path_s=0, gpu=0.5))
    totals = [{"CPU": 8, "GPU": 2}]
    assert started(choose(stages, [{"CPU": 7, "GPU": 1}], totals=totals)) == [("one", 0)]


def test_reserved_machine_takes_cpu_work_beside_what_is_reserved() -> None:
    stages = [waiting("two", gpu=2, cpu=4), *(waiting(f"crf {number}") for number in range(4))]
    totals = [{"CPU": 8, "GPU": 2}]
    chosen = choose(stages, [{"CPU": 6, "GPU": 1}], totals=totals)
    assert started(chosen) == [("crf 0", 0), ("crf 1", 0)]


def test_stage_that_no_machine_can_ever_take_reserves_nothing() -> None:
    stages = [waiting("four", path_s=9, gpu=4), waiting("one", gpu=1)]
    assert started(choose(stages, [{"CPU": 8, "GPU": 2}])) == [("one", 0)]


def of_sweep(sweep: str, number: int, *, path_s: float, weight: float = 1.0) -> list[Waiting]:
    return [
        replace(waiting(f"{sweep} {n}", path_s=path_s, gpu=1), sweep=sweep, weight=weight)
        for n in range(number)
    ]


def count_of(chosen: list[tuple[Waiting, int]]) -> dict[str, int]:
    sweeps = [stage.sweep for stage, _ in chosen]
    return {sweep: sweeps.count(sweep) for sweep in sorted(set(sweeps))}


def test_sweeps_share_a_cluster_whatever_their_paths_and_by_their_weights() -> None:
    machine = [{"CPU": 12, "GPU": 12}]
    long = of_sweep("long", 50, path_s=9000)
    short = of_sweep("short", 50, path_s=10)
    assert count_of(choose([*long, *short], machine)) == {"long": 6, "short": 6}
    heavy = of_sweep("short", 50, path_s=10, weight=3)
    assert count_of(choose([*long, *heavy], machine)) == {"long": 3, "short": 9}
    few = of_sweep("short", 2, path_s=10)
    assert count_of(choose([*long, *few], machine)) == {"long": 10, "short": 2}


def test_sweep_that_holds_more_waits_until_the_other_has_caught_up() -> None:
    totals = [{"CPU": 12, "GPU": 12}]
    stages = [*of_sweep("long", 50, path_s=9000), *of_sweep("short", 50, path_s=10)]
    chosen = choose(stages, [{"CPU": 4, "GPU": 4}], totals=totals, held={"long": 8 / 12})
    assert count_of(chosen) == {"short": 4}


def test_cpu_work_waits_a_while_for_a_cpu_machine_that_may_come() -> None:
    machines = [{"CPU": 8, "GPU": 1}]
    fresh = waiting("crf", cpu=8)
    assert started(choose([fresh], machines, kept=4)) == [("crf", 0)]
    assert choose([fresh], machines, kept=4, growing=True) == []
    patient = replace(fresh, waited_s=PATIENCE_S)
    assert started(choose([patient], machines, kept=4, growing=True)) == [("crf", 0)]
    both = [*machines, {"CPU": 32}]
    assert started(choose([fresh], both, kept=4, growing=True)) == [("crf", 1)]


def test_a_stage_is_never_spread_over_two_machines() -> None:
    assert choose([waiting("wide", cpu=3)], [{"CPU": 2}, {"CPU": 2}]) == []


def test_no_gpu_waits_for_cpus_that_a_stage_without_one_would_take() -> None:
    stages = [waiting("crf", path_s=9, cpu=4), waiting("cam", path_s=1, cpu=2, gpu=1)]
    assert started(choose(stages, [{"CPU": 4, "GPU": 1}])) == [("cam", 0)]


def test_a_stage_without_a_gpu_keeps_off_the_machines_that_have_some() -> None:
    machines = [{"CPU": 8, "GPU": 2}, {"CPU": 8}]
    assert started(choose([waiting("crf", cpu=8)], machines)) == [("crf", 1)]


def test_fractions_of_a_gpu_fill_it() -> None:
    stages = [waiting(str(number), cpu=0, gpu=0.1) for number in range(12)]
    assert len(choose(stages, [{"CPU": 1, "GPU": 1}])) == 10


def test_packed_stages_leave_a_whole_machine_for_a_wide_one() -> None:
    machines = [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 1}]
    stages = [waiting("small", path_s=9, gpu=1), waiting("wide", gpu=4)]
    assert started(choose(stages, machines)) == [("small", 1), ("wide", 0)]


def test_a_busy_gpu_machine_is_still_no_machine_for_stages_without_a_gpu() -> None:
    totals = [{"CPU": 8, "GPU": 2}, {"CPU": 8}]
    free = [{"CPU": 3, "GPU": 0}, {"CPU": 8}]
    assert started(choose([waiting("crf")], free, totals=totals)) == [("crf", 1)]


def test_the_cpus_that_the_gpus_will_need_are_kept() -> None:
    totals = [{"CPU": 8, "GPU": 1}, {"CPU": 2}]
    stages = [waiting(f"crf {number}") for number in range(9)]
    free = [{"CPU": 8, "GPU": 1}, {"CPU": 2}]
    assert [place for _, place in choose(stages, free, totals=totals, kept=4)] == [1, 1, 0, 0, 0, 0]
    assert len(choose(stages, free, totals=totals)) == 9
    busy = [{"CPU": 4, "GPU": 0}, {"CPU": 2}]  # the GPU has its CPUs
    assert [place for _, place in choose(stages, busy, totals=totals, kept=4)] == [1, 1, 0, 0, 0, 0]


def test_where_nothing_is_left_beside_the_gpus_a_stage_without_one_takes_what_is_free() -> None:
    machines = [{"CPU": 4, "GPU": 1}]
    assert started(choose([waiting("crf")], machines, kept=4)) == [("crf", 0)]
    both = [waiting("crf"), waiting("cam", cpu=4, gpu=1)]
    assert started(choose(both, machines, kept=4)) == [("cam", 0)]


def test_cpus_are_kept_as_long_as_a_stage_with_a_gpu_may_come() -> None:
    inputs = {
        "data": [],
        "oc": ["data"],
        "cam": ["oc"],
        "crf": ["cam"],
        "seg": ["crf"],
        "leaf": ["cam"],
    }
    cpu: Amounts = {"CPU": 1}
    needs = {
        "data": cpu,
        "oc": {"CPU": 4, "GPU": 1},
        "cam": {"CPU": 1, "GPU": 0.5},
        "crf": cpu,
        "leaf": cpu,
    }
    needs["seg"] = {"CPU": 3, "GPU": 1}
    assert cpus_beside_gpus(inputs, needs) == {
        "data": 4,
        "oc": 4,
        "cam": 3,
        "crf": 3,
        "seg": 3,
        "leaf": 0,
    }


def test_no_gpu_idles_while_a_stage_that_fits_it_waits_in_any_made_up_sweep() -> None:
    for seed in range(30):
        draw = random.Random(seed)
        totals = [
            {"CPU": draw.choice([4, 8, 16]), "GPU": draw.choice([0, 1, 2, 4])} for _ in range(3)
        ]
        left = [dict(machine) for machine in totals]
        running: list[tuple[Amounts, int]] = []
        stages = {
            str(n): waiting(str(n), path_s=draw.random(), gpu=draw.choice([0, 0.5, 1]))
            for n in range(40)
        }
        while stages:
            picked = choose(stages.values(), left, totals=totals, kept=2)
            for stage, place in picked:
                running.append((stages.pop(stage.fingerprint).needs, place))
                left[place] = {
                    name: left[place][name] - stage.needs.get(name, 0) for name in left[place]
                }
            assert all(amount > -1e-6 for machine in left for amount in machine.values())
            # one machine may be reserved for the first stage in line
            idle = [
                machine
                for machine in left
                if any(s.needs.get("GPU") and fits(s.needs, machine) for s in stages.values())
            ]
            assert len(idle) <= 1
            first = max(
                (s for s in stages.values() if s.needs.get("GPU")),
                key=lambda stage: stage.path_s,
                default=None,
            )
            assert not idle or (first is not None and not fits(first.needs, idle[0]))
            if not running:
                break  # what is left needs a GPU that no machine has
            needs, place = running.pop(draw.randrange(len(running)))
            left[place] = {name: left[place][name] + needs.get(name, 0) for name in left[place]}
        assert all(stage.needs.get("GPU") for stage in stages.values())
        assert not stages or not any(machine["GPU"] for machine in totals)


def test_account_for_another_scheduler_is_the_same_after_a_choice_among_its_stages() -> None:
    stage = Waiting(fingerprint="a", needs={"CPU": 1.0, "GPU": 0.0}, path_s=2.0, sweep="s")
    before = account_of([], [stage])
    # A choice keeps the kind of each stage beside its fields.
    assert stage.kind
    assert account_of([], [stage]) == before
    (values,) = before["waiting"]
    assert Waiting(**values) == stage

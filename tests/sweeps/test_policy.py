"""Which stage starts next, against what a person would choose."""

from sweeps.policy import Waiting, choose, longest_paths


def waiting(name: str, *, path_s: float = 0.0, cpu: float = 1.0, gpu: float = 0.0) -> Waiting:
    return Waiting(fingerprint=name, needs={"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}, path_s=path_s)


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
    assert started(choose(stages, [{"CPU": 2}, {"CPU": 1}])) == [("narrow", 0)]


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

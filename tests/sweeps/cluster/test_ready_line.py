"""The line of stages that wait, against a choice among all of them."""

import random
import time

from sweeps.cluster.messages import StageRequest
from sweeps.cluster.policy import PATIENCE_S, choose
from sweeps.cluster.stage_run import ReadyLine, StageRun, StageState

TOTALS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 0.0}, {"CPU": 8.0, "GPU": 2.0}]
KINDS = [(1.0, 0.0), (4.0, 0.0), (2.0, 1.0), (4.0, 2.0), (1.0, 0.5)]


def run_of(name: str, *, cpus: float = 1.0, gpus: float = 0.0, path_s: float = 0.0) -> StageRun:
    node = {"field": "cam", "kind": "MakeCam", "fingerprint": name, "inputs": {}}
    request = StageRequest(
        node=node, num_cpus=cpus, num_gpus=gpus, path_s=path_s, sweep=f"sweep {len(name) % 2}"
    )
    run = StageRun(request=request, holds={"trial": 0.0})
    run.ready()
    return run


def wanted(run: StageRun) -> bool:
    return run.wanted({"paused"})


def test_ready_line_gives_the_choice_among_all_that_wait() -> None:
    # stages begin to wait, are chosen, cancelled, paused, made more urgent, and lose their patience
    draw = random.Random(7)
    runs: list[StageRun] = []
    line = ReadyLine()
    starts = 0
    for turn in range(300):
        for number in range(draw.randrange(6)):
            cpus, gpus = draw.choice(KINDS)
            path_s = float(draw.randrange(6))
            runs.append(run_of(f"{turn}.{number}", cpus=cpus, gpus=gpus, path_s=path_s))
            line.put(runs[-1])
        waiting = [run for run in runs if run.waits]
        for run in draw.sample(waiting, len(waiting) // 8):
            run.raise_to(run_of("", path_s=float(draw.randrange(9))).request)
            line.put(run)
        for run in draw.sample(waiting, len(waiting) // 9):
            run.holds = {"paused" if "trial" in run.holds else "trial": 0.0}
        for run in draw.sample(waiting, len(waiting) // 10):
            run.cancelled = time.monotonic()
        for run in draw.sample(waiting, len(waiting) // 11):
            run.ready_at -= 2 * PATIENCE_S
            line.put(run)
        free = [
            {name: float(draw.randrange(1 + int(amount))) for name, amount in machine.items()}
            for machine in TOTALS
        ]
        among_all = [run.as_candidate() for run in runs if run.waits and wanted(run)]
        some = line.candidates(free, wanted=wanted)
        growing = bool(turn % 2)
        chosen = choose(some, free, totals=TOTALS, kept=1.0, growing=growing)
        assert chosen == choose(among_all, free, totals=TOTALS, kept=1.0, growing=growing)
        assert len(some) <= len(among_all)
        for stage, place in chosen:
            (run,) = (run for run in runs if run.fingerprint == stage.fingerprint)
            run.machine = str(place)
            starts += 1
    assert starts > 200


def test_ready_line_takes_of_thousands_as_many_as_could_start() -> None:
    line = ReadyLine()
    runs = [run_of(f"{number:06}", gpus=1.0, path_s=number) for number in range(3000)]
    for run in runs:
        line.put(run)
    assert line.candidates([{"CPU": 8.0, "GPU": 0.0}], wanted=wanted) == []
    found = line.candidates([{"CPU": 8.0, "GPU": 2.0}], wanted=wanted)
    assert {stage.path_s for stage in found} == {2999.0, 2998.0, 2997.0}


def test_stage_that_loses_its_patience_while_it_waits_is_of_another_kind() -> None:
    line = ReadyLine()
    run = run_of("patient")
    run.ready_at = time.monotonic() - PATIENCE_S + 0.2
    line.put(run)
    (before,) = line.candidates([{"CPU": 1.0}], wanted=wanted)
    time.sleep(0.3)
    (after,) = line.candidates([{"CPU": 1.0}], wanted=wanted)
    assert (before.is_patient, after.is_patient) == (True, False)


def test_stage_that_comes_back_to_the_line_is_there_once() -> None:
    line = ReadyLine()
    run = run_of("again")
    line.put(run)
    run.machine = "a machine"
    run.state = StageState.RUNNING
    assert line.candidates([{"CPU": 4.0}], wanted=wanted) == []
    run.wait_at_machine()
    line.put(run)
    assert len(line.candidates([{"CPU": 4.0}], wanted=wanted)) == 1

from collections.abc import Sequence

from measured import measured
from probe_stages import Probe, make_trial

from occse.artifacts.manifest import Manifest
from occse.stage import Resources
from sweeps.cluster.messages import (
    ActiveStage,
    CurvePoint,
    EventKind,
    News,
    StageEvent,
    Worker,
)
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import make_plan
from sweeps.progress.progress import Progress
from sweeps.spec.trials import Trial
from sweeps.text import duration

DATA = Probe(label="data")


class Training(Probe):
    epochs: int = 15


def trial_of(order: int) -> Trial:
    return make_trial(
        order,
        data=DATA,
        oc=Probe(label=f"oc {order}", upstream=("data",)),
        cam=Probe(label=f"cam {order}", upstream=("oc",)),
    )


def progress_of(
    *trials: Trial, stored: int = 0, history: Sequence[Manifest] = (), num_gpus: float = 0
) -> tuple[Progress, list[str]]:
    kept = [node.fingerprint for node in trials[0].nodes.values()][:stored]
    plan = make_plan(
        trials,
        stored=lambda nodes: [node.fingerprint for node in nodes if node.fingerprint in kept],
    )
    lines: list[str] = []
    progress = Progress(
        "s",
        history=PastRuns(history),
        called=lambda trial: f"{trial.variant} · s{trial.seed}",
        say=lines.append,
        command="again",
    )
    granted = dict.fromkeys(plan.nodes, Resources(num_cpus=1, num_gpus=num_gpus))
    progress.add(plan, granted=granted, machines=[{"CPU": 2, "GPU": 2}])
    return progress, lines


def ran(trial: Trial, *, seconds: float) -> list[Manifest]:
    """A store where stages like those of `trial` took so long."""
    return [measured(node, seconds=seconds) for node in trial.nodes.values()]


def event(
    trial: Trial, field: str, kind: EventKind, *, seconds: float = 0.0, text: str = ""
) -> StageEvent:
    return StageEvent(
        id=1,
        kind=kind,
        field=field,
        fingerprint=trial.nodes[field].fingerprint,
        seconds=seconds,
        text=text,
    )


def running_of(trial: Trial, *, seconds: float) -> ActiveStage:
    fingerprint = trial.nodes["data"].fingerprint
    worker = Worker(pid=1, node="node")
    return ActiveStage(field="data", fingerprint=fingerprint, worker=worker, seconds=seconds)


def news(
    *events: StageEvent,
    running: Sequence[ActiveStage] = (),
    points: Sequence[CurvePoint] = (),
) -> News:
    return News(pid=1, events=events, running=tuple(running), points=tuple(points))


def test_a_finished_stage_is_told_with_whom_it_is_for_and_what_is_left() -> None:
    one, two = trial_of(0), trial_of(1)
    progress, lines = progress_of(one, two)
    progress.update(news(event(one, "data", EventKind.DONE, seconds=4.0)))
    (line,) = lines
    fingerprint = one.nodes["data"].fingerprint[:8]
    assert line == (
        f"00:00  done     data      {fingerprint}   4.0 s   (variant 0 · s0, and 1 more)"
        " · 1 of 5 stages, 0 running, about 8.0 s left"
    )


def test_events_of_other_sweeps_are_passed_over() -> None:
    progress, lines = progress_of(trial_of(0))
    progress.update(news(event(trial_of(7), "oc", EventKind.DONE, seconds=4.0)))
    assert not lines


def test_a_failure_is_told_and_what_hangs_on_it_is_no_longer_waited_for() -> None:
    one, two = trial_of(0), trial_of(1)
    progress, lines = progress_of(one, two, stored=1, history=ran(trial_of(9), seconds=10.0))
    assert progress.time_left() == "about 20 s left"
    progress.update(news(event(one, "oc", EventKind.FAILED, text="no such image")))
    assert "FAILED" in lines[0]
    assert "no such image" in lines[0]
    progress.update(
        news(
            event(two, "oc", EventKind.DONE, seconds=10.0),
            event(two, "cam", EventKind.DONE, seconds=10.0),
        )
    )
    assert lines[-1].endswith(
        "3 of 5 stages, 1 from the store, 1 failed, 0 running, about 0.0 s left"
    )


def test_the_time_left_is_the_longest_chain_or_all_the_work() -> None:
    history = ran(trial_of(99), seconds=10.0)
    chain, _ = progress_of(trial_of(0), history=history)
    assert chain.time_left() == "about 30 s left"
    work, _ = progress_of(*(trial_of(order) for order in range(10)), history=history)
    assert work.time_left() == f"about {(1 + 20) * 10 / 2:.0f} s left"
    unmeasured, _ = progress_of(trial_of(0))
    assert unmeasured.time_left() == "time left unknown"


def test_what_already_ran_counts() -> None:
    one = trial_of(0)
    progress, _ = progress_of(one, history=ran(trial_of(9), seconds=10.0))
    progress.update(news(running=[running_of(one, seconds=7.0)]))
    assert progress.time_left() == "about 23 s left"


def test_durations_for_people() -> None:
    texts = [duration(seconds) for seconds in (0.04, 9.9, 9.96, 119, 121, 7199, 7201)]
    assert texts == ["0.0 s", "9.9 s", "10 s", "119 s", "2 min", "120 min", "2.0 h"]


def test_a_training_tells_its_epoch() -> None:
    one = make_trial(0, data=Training(label="data"))
    progress, _ = progress_of(one)
    fingerprint = one.nodes["data"].fingerprint
    running = [running_of(one, seconds=7.0)]
    progress.update(news(running=running))
    assert progress.status().running[0].epochs == ""
    progress.update(
        news(
            running=running,
            points=[
                CurvePoint(
                    id=1, fingerprint=fingerprint, values={"step": 3.0, "loss": 1.0}, at_ms=0
                )
            ],
        )
    )
    assert progress.status().running[0].epochs == "epoch 3 of 15"

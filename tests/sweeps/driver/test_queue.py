"""The queue of trials alone: no cluster, no store, no tracking server."""

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from probe_stages import Probe, Scored, make_trial

from sweeps.driver.queue import Need, Score, TrialQueue, TrialStep
from sweeps.selection.gatekeeper import Gate
from sweeps.spec.limits import Limits
from sweeps.spec.trials import Trial

FREE = Limits()


def trial_of(order: int, *, variant: str = "", seed: int = 0) -> Trial:
    trial = make_trial(
        order,
        data=Probe(label="data"),
        cam=Scored(label=f"cam {order}", upstream=("data",)),
        pseudo=Scored(label=f"pseudo {order}", upstream=("cam",)),
        seg=Scored(label=f"seg {order}", upstream=("pseudo",)),
    )
    if not variant:
        return trial
    return Trial(
        variant=variant,
        order=order,
        baseline=False,
        seed=seed,
        knobs={},
        pipeline=trial.pipeline,
        nodes=trial.nodes,
    )


@dataclass
class Outside:
    """Everything that a queue asks for and tells, as plain data.

    Attributes:
        miou: score of the stage in a field of the trial of an order.
        stored: orders of the trials of which everything is in the store, and when it was made.
        impossible: orders of the trials with a foreign artifact.
        lost: orders of the trials whose artifacts cannot be read.
    """

    miou: Mapping[tuple[int, str], float] = field(default_factory=dict)
    stored: Mapping[int, str] = field(default_factory=dict)
    impossible: Collection[int] = ()
    lost: Collection[int] = ()
    planned: list[tuple[list[int], set[str]]] = field(default_factory=list)
    recorded: list[tuple[int, str]] = field(default_factory=list)

    def plan(self, trials: Sequence[Trial], fields: Collection[str]) -> dict[str, Need]:
        self.planned.append(
            ([trial.order for trial in trials], set(fields) & trials[0].nodes.keys())
        )
        return {trial.identity: self.need(trial.order) for trial in trials}

    def need(self, order: int) -> Need:
        if order in self.impossible:
            return Need.IMPOSSIBLE
        return Need.NOTHING if order in self.stored else Need.RUN

    def score(self, trial: Trial, field: str) -> Score:
        if trial.order in self.lost:
            raise ValueError("its artifact was removed")
        made = self.stored.get(trial.order, f"2026-01-01T00:00:{trial.order:02}")
        return Score(miou=self.miou.get((trial.order, field), 0.5), made=made)

    def record(
        self, trial: Trial, failed: Mapping[str, str], stopped: tuple[str, str] | None
    ) -> None:
        text = "; ".join(f"{field}: {error}" for field, error in failed.items())
        self.recorded.append((trial.order, f"{stopped[0]}: {stopped[1]}" if stopped else text))

    def queue(
        self, *gates: Gate, limits: Limits = FREE, suggestions: "Suggested | None" = None
    ) -> TrialQueue:
        return TrialQueue(
            gates=gates,
            limits=limits,
            plan=self.plan,
            score=self.score,
            record=self.record,
            suggestions=suggestions,
        )


@dataclass
class Suggested:
    """A search that suggests what it is told to."""

    variants: list[list[Trial]]
    ended: list[tuple[str, list[int], bool]] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.variants)

    def ask(self) -> list[Trial]:
        return self.variants.pop(0)

    def end(self, variant: str, done: Sequence[Trial], *, stopped: bool) -> None:
        self.ended.append((variant, [trial.order for trial in done], stopped))


def next_of(queue: TrialQueue, *, gpu_s: float = 0.0, wall_s: float = 0.0) -> TrialStep | None:
    return queue.next(gpu_s=gpu_s, wall_s=wall_s)


def run(queue: TrialQueue, *, fails: Mapping[int, str] | None = None) -> list[tuple[int, int]]:
    """Run every step as soon as it is handed out; order and number of stages of each."""
    steps = []
    while (step := next_of(queue)) is not None:
        steps.append((step.trial.order, len(step.fields)))
        failed = {"cam": fails[step.trial.order]} if step.trial.order in (fails or {}) else {}
        queue.end(step, failed=failed)
    return steps


def test_queue_imports_neither_ray_nor_mlflow_nor_the_store() -> None:
    code = (
        "import sys, sweeps.driver.queue; "
        "print(*{'ray', 'mlflow', 'sweeps.store.store'}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_queue_without_gates_hands_out_whole_trials_in_order_and_records_each_once() -> None:
    outside = Outside()
    queue = outside.queue()
    queue.add([trial_of(order) for order in range(3)])
    assert queue.left == 3
    assert run(queue) == [(0, 4), (1, 4), (2, 4)]
    assert outside.recorded == [(0, ""), (1, ""), (2, "")]
    assert queue.finished
    assert (queue.left, queue.limit) == (0, "")


def test_queue_records_stored_trials_without_a_step() -> None:
    outside = Outside(stored={0: "2026-01-02", 1: "2026-01-01"})
    queue = outside.queue()
    queue.add([trial_of(order) for order in range(3)])
    assert sorted(outside.recorded) == [(0, ""), (1, "")]
    assert run(queue) == [(2, 4)]


def test_queue_is_not_finished_while_a_step_runs() -> None:
    queue = Outside().queue()
    queue.add([trial_of(0)])
    step = next_of(queue)
    assert step is not None
    assert next_of(queue) is None
    assert not queue.finished
    queue.end(step, failed={})
    assert queue.finished


def test_queue_records_a_failure_and_goes_on_with_the_others() -> None:
    outside = Outside()
    queue = outside.queue()
    queue.add([trial_of(order) for order in range(2)])
    assert run(queue, fails={0: "no such image"}) == [(0, 4), (1, 4)]
    assert outside.recorded == [(0, "cam: no such image"), (1, "")]


def test_queue_fails_a_trial_with_a_foreign_artifact_at_once() -> None:
    outside = Outside(impossible={0})
    queue = outside.queue()
    queue.add([trial_of(order) for order in range(2)])
    assert outside.recorded == [(0, "")], "the recorder reads from the store what is wrong"
    assert run(queue) == [(1, 4)]


def test_gate_lets_the_best_go_on_and_names_the_reason_for_the_others() -> None:
    miou = {(1, "cam"): 0.9, (2, "cam"): 0.1, (3, "cam"): 0.8}
    outside = Outside(miou=miou)
    queue = outside.queue(Gate(after="cam", top_k=1))
    queue.add([trial_of(order) for order in range(4)])
    steps = run(queue)
    assert steps[:4] == [(0, 2), (1, 2), (2, 2), (3, 2)]
    assert sorted(steps[4:]) == [(0, 4), (1, 4)], "the baseline takes no place"
    stopped = dict(outside.recorded)
    assert stopped[2].startswith("cam: 0.1000 is not among the best 1 of 3")
    assert (stopped[0], stopped[1]) == ("", "")
    assert outside.planned[0][1] == {"data", "cam"}
    assert all(fields == {"pseudo", "seg"} for _, fields in outside.planned[1:])


def test_gate_waits_for_all_seeds_and_judges_their_mean() -> None:
    miou = {(1, "cam"): 0.9, (2, "cam"): 0.1, (3, "cam"): 0.6, (4, "cam"): 0.6}
    outside = Outside(miou=miou)
    queue = outside.queue(Gate(after="cam", top_k=1))
    lucky = [trial_of(order, variant="lucky", seed=order) for order in (1, 2)]
    steady = [trial_of(order, variant="steady", seed=order) for order in (3, 4)]
    queue.add([*lucky, *steady])
    steps = run(queue)
    assert sorted(order for order, length in steps if length == 4) == [3, 4]


def test_gate_counts_the_seeds_that_are_left_where_one_failed() -> None:
    outside = Outside(miou={(1, "cam"): 0.9})
    queue = outside.queue(Gate(after="cam", top_k=1))
    pair = [trial_of(order, variant="pair", seed=order) for order in (1, 2)]
    queue.add([*pair, trial_of(3)])
    steps = run(queue, fails={2: "no such image"})
    assert (1, 4) in steps
    assert (3, 4) not in steps


def test_gate_loses_a_trial_whose_artifact_was_removed_in_between() -> None:
    outside = Outside(lost={1})
    queue = outside.queue(Gate(after="cam", top_k=2))
    queue.add([trial_of(order) for order in range(2)])
    run(queue)
    assert dict(outside.recorded) == {0: "", 1: "cam: its artifact was removed"}


def test_two_gates_open_one_after_the_other() -> None:
    miou = {(1, "cam"): 0.9, (2, "cam"): 0.8, (1, "pseudo"): 0.1, (2, "pseudo"): 0.9}
    outside = Outside(miou=miou)
    queue = outside.queue(Gate(after="pseudo", top_k=1), Gate(after="cam", top_k=2))
    queue.add([trial_of(order) for order in (1, 2, 3)])
    steps = run(queue)
    assert [step for step in steps if step[1] == 4] == [(2, 4)]
    assert {order: text.partition(":")[0] for order, text in outside.recorded} == {
        1: "pseudo",
        2: "",
        3: "cam",
    }


def test_second_gate_waits_for_all_seeds_and_judges_their_mean_there() -> None:
    # `first` is better at `cam`; at `pseudo` its first seed alone is, the mean of both is not.
    miou = {(1, "cam"): 0.9, (2, "cam"): 0.9, (3, "cam"): 0.2, (4, "cam"): 0.2}
    miou |= {(1, "pseudo"): 0.6, (2, "pseudo"): 0.1, (3, "pseudo"): 0.5, (4, "pseudo"): 0.5}
    outside = Outside(miou=miou)
    queue = outside.queue(Gate(after="cam", top_k=2), Gate(after="pseudo", top_k=1))
    first = [trial_of(order, variant="first", seed=order) for order in (1, 2)]
    second = [trial_of(order, variant="second", seed=order) for order in (3, 4)]
    queue.add([*first, *second])
    steps = run(queue)
    assert sorted(order for order, length in steps if length == 4) == [3, 4]


def test_replay_meets_an_asha_gate_in_the_order_of_the_artifacts() -> None:
    """A variant goes on if it is among the best half so far: the order decides, so it must stay."""
    miou = {(1, "cam"): 0.1, (2, "cam"): 0.2, (3, "cam"): 0.3, (4, "cam"): 0.4}
    gate = Gate(after="cam", asha=2)

    def ends(made: Mapping[int, str]) -> dict[int, str]:
        outside = Outside(miou=miou, stored=made)
        queue = outside.queue(gate)
        queue.add([trial_of(order) for order in (1, 2, 3, 4)])
        return {order: text.partition(":")[0] for order, text in outside.recorded}

    first = Outside(miou=miou)
    queue = first.queue(gate)
    queue.add([trial_of(order) for order in (1, 2, 3, 4)])
    steps = [next_of(queue) for _ in range(4)]
    for step in steps[::-1]:  # the last one ends first
        assert step is not None
        queue.end(step, failed={})
    run(queue)
    lived = {order: text.partition(":")[0] for order, text in first.recorded}
    replayed = ends({order: f"2026-01-01T00:00:0{9 - order}" for order in (1, 2, 3, 4)})
    assert replayed == lived


def test_limit_of_trials_stops_launching_but_lets_launched_trials_pass_their_gates() -> None:
    outside = Outside()
    queue = outside.queue(Gate(after="cam", margin=0.5), limits=Limits(trials=2))
    queue.add([trial_of(order) for order in range(3)])
    steps = run(queue)
    assert sorted(steps) == [(0, 2), (0, 4), (1, 2), (1, 4)]
    assert queue.limit == "limits.trials (2 trials)"
    assert queue.finished
    assert queue.left == 1


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        (Limits(gpu_hours=1), {"gpu_s": 3600.0}),
        (Limits(wall_hours=1), {"wall_s": 3600.0}),
    ],
)
def test_limit_of_hours_stops_launching(limits: Limits, spent: dict[str, float]) -> None:
    queue = Outside().queue(limits=limits)
    queue.add([trial_of(order) for order in range(2)])
    step = next_of(queue)
    assert step is not None
    assert next_of(queue, **spent) is None
    assert queue.limit
    assert not queue.finished, "what runs goes on to its end"
    queue.end(step, failed={})
    assert queue.finished


def test_limit_is_not_told_where_it_keeps_nothing_back() -> None:
    queue = Outside(stored={0: "2026"}).queue(limits=Limits(wall_hours=1))
    queue.add([trial_of(0)])
    assert next_of(queue, wall_s=9999.0) is None
    assert queue.limit == ""


def test_search_is_asked_when_nothing_waits_and_hears_every_variant_once() -> None:
    search = Suggested([[trial_of(1)], [trial_of(2)]])
    outside = Outside()
    queue = outside.queue(suggestions=search)
    queue.add([trial_of(0)])
    assert run(queue, fails={2: "no such image"}) == [(0, 4), (1, 4), (2, 4)]
    assert search.ended == [
        ("variant 0", [0], False),
        ("variant 1", [1], False),
        ("variant 2", [], False),
    ]
    assert queue.finished


def test_search_hears_that_a_gate_stopped_a_variant() -> None:
    search = Suggested([[trial_of(1)], [trial_of(2)]])
    outside = Outside(miou={(1, "cam"): 0.1, (2, "cam"): 0.9})
    queue = outside.queue(Gate(after="cam", top_k=1), suggestions=search)
    queue.add([trial_of(0)])
    run(queue)
    assert ("variant 1", [], True) in search.ended
    assert ("variant 2", [2], False) in search.ended


def test_requeue_lets_running_steps_wait_again_in_their_order() -> None:
    queue = Outside().queue()
    queue.add([trial_of(order) for order in range(3)])
    for _ in range(2):
        next_of(queue)
    queue.requeue_running()
    assert run(queue) == [(0, 4), (1, 4), (2, 4)]

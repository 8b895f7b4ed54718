"""Decide which step of which trial runs next, and which trials pass their gates.

A trial runs in steps, each up to its next gate, and holds no process between them. The queue does
no input or output: it gets plans and scores from the functions that it is made with, and hands out
steps. All its state is in memory. A sweep that is run again adds the same trials; the queue then
replays, from the scores of the stored artifacts, what happened at the gates before."""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from sweeps.plan.plan import stage_order
from sweeps.selection.gatekeeper import Gatekeeper, Verdict
from sweeps.spec.gates import Gate
from sweeps.spec.limits import Limits
from sweeps.spec.trials import Trial

if TYPE_CHECKING:  # the queue imports neither Ray nor MLflow
    from sweeps.tracking.tags import Stopped


@dataclass(frozen=True, kw_only=True)
class TrialStep:
    """Part of a trial that one coordinator sees through: the stages in `fields`, upstream first."""

    trial: Trial
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Score:
    """miou of a trial's stage, and when its artifact was made, as ISO 8601 text."""

    miou: float
    made: str


class Need(Enum):
    """Work that a trial needs to come to its next gate, or to its end."""

    #: At least one stage must run.
    RUN = "run"
    #: Every artifact is in the store.
    NOTHING = "nothing"
    #: An artifact in the store is not what it should be, so that the trial cannot succeed.
    IMPOSSIBLE = "impossible"


class End(Enum):
    """End of a trial."""

    #: Its last stage is done.
    DONE = "done"
    #: A gate held it back.
    STOPPED = "stopped"
    #: A stage failed.
    FAILED = "failed"


class Suggester(Protocol):
    """Source of more trials, such as `sweeps.selection.study.Search`."""

    @property
    def left(self) -> int:
        """Return how many variants are still to be suggested."""

    def ask(self) -> list[Trial]:
        """Return the trials of the next variant; empty where no other one is found."""

    def end(self, variant: str, done: Sequence[Trial], *, stopped: bool) -> None:
        """Take the outcome of a variant: its trials that are done; `stopped` by a gate."""


# Plans the stages in the fields of some trials, all at once; returns the need by trial identity.
PlanTrials = Callable[[Sequence[Trial], Collection[str]], Mapping[str, Need]]
# Returns the score of a trial's stage. Raises ValueError where the artifact is lost or damaged.
ScoreStage = Callable[[Trial, str], Score]
# Records a trial that ended: the errors by field, and the gate that stopped it, if one did.
RecordTrial = Callable[[Trial, Mapping[str, str], "Stopped | None"], None]


@dataclass(kw_only=True, eq=False)
class _Variant:
    """The trials of a variant, which pass a gate together.

    Attributes:
        level: how many gates it has passed.
        scores: by identity, of the trials that are at the next gate.
        ends: by identity, of the trials that ended.
    """

    trials: list[Trial] = field(default_factory=list)
    level: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """True once all its trials ended."""
        return len(self.ends) == len(self.trials)

    @property
    def complete(self) -> bool:
        """True once no trial is on its way to the next gate any more."""
        return len(self.scores) + len(self.ends) == len(self.trials)


class TrialQueue:
    """Hands out steps, and is told when they end.

    Args:
        gates: between stages, in any order.
        limits: when to launch nothing more.
        plan: see `PlanTrials`.
        score: see `ScoreStage`.
        record: see `RecordTrial`; called once for each trial.
        suggestions: source of more trials; None where the sweep has no search.

    Attributes:
        limit: the limit that is reached, for people; empty where none is.
        left: number of trials that have not ended.
    """

    def __init__(
        self,
        *,
        gates: Sequence[Gate],
        limits: Limits,
        plan: PlanTrials,
        score: ScoreStage,
        record: RecordTrial,
        suggestions: Suggester | None = None,
    ) -> None:
        self.limit = ""
        self.left = 0
        self._limits = limits
        self._suggestions = suggestions
        self._plan = plan
        self._score = score
        self._record = record
        order = stage_order()
        ordered = sorted(gates, key=lambda gate: order[gate.after])
        self._gates = [Gatekeeper(gate) for gate in ordered]
        self._variants: dict[str, _Variant] = {}
        # heap by the time of the artifact, so that a replay meets the gates in the first order
        self._arrivals: list[tuple[str, int, Trial, float]] = []
        self._waiting: deque[TrialStep] = deque()
        self._running: list[TrialStep] = []
        self._launched: set[str] = set()

    @property
    def finished(self) -> bool:
        """True once nothing runs and nothing will."""
        if self._running:
            return False
        return bool(self.limit) or not (self._waiting or self._to_come)

    def add(self, trials: Sequence[Trial]) -> None:
        """Take in trials, all those of a variant together."""
        for trial in trials:
            if trial.variant not in self._variants:
                self._variants[trial.variant] = _Variant()
                self._expect_at_gates(trial)
            self._variants[trial.variant].trials.append(trial)
            self.left += 1
        self._open(trials)
        self._settle()

    def next(self, *, gpu_s: float, wall_s: float) -> TrialStep | None:
        """Return the step that should run now.

        None where nothing can run until a step ends, or ever: see `finished`.

        Args:
            gpu_s: seconds that GPUs were held so far.
            wall_s: seconds since the start.
        """
        # Limits of time hold for every step. That of trials is looked at below, for it holds back
        # new trials only.
        over = self._limits.reached(trials=0, gpu_s=gpu_s, wall_s=wall_s)
        # a limit that keeps nothing back is not worth a word
        self.limit = over if self._waiting or self._to_come else ""
        while not self.limit:
            full = self._limits.reached(trials=len(self._launched), gpu_s=0, wall_s=0)
            for step in self._waiting:
                # a trial that was launched before goes on behind its gate
                if not full or step.trial.identity in self._launched:
                    return self._launch(step)
            if not (self._waiting or self._to_come):
                break
            if full:
                self.limit = full
            elif self._suggestions is not None:
                self.add(self._suggestions.ask())
        return None

    def end(self, step: TrialStep, *, failed: Mapping[str, str]) -> None:
        """Take the end of a step; `failed` has the errors of its stages by field."""
        self._running.remove(step)
        if failed:
            self._lose(step.trial, failed)
        else:
            self._arrive(step.trial)
        self._settle()

    def requeue_running(self) -> None:
        """Let every running step wait again, in the same order: the cluster gave up on them."""
        # `extendleft` turns the order round, so it gets them in reverse: at the head, as they were.
        self._waiting.extendleft(reversed(self._running))
        self._running.clear()

    @property
    def _to_come(self) -> int:
        return self._suggestions.left if self._suggestions is not None else 0

    def _expect_at_gates(self, trial: Trial) -> None:
        if self._gates:
            knobs = {name: node.stage.recorded() for name, node in trial.nodes.items()}
            for gate in self._gates:
                gate.expect(trial.variant, knobs=knobs, baseline=trial.baseline)

    def _launch(self, step: TrialStep) -> TrialStep:
        self._waiting.remove(step)
        self._running.append(step)
        self._launched.add(step.trial.identity)
        return step

    def _open(self, trials: Sequence[Trial]) -> None:
        """Plan the next step of `trials`, all at the same gate, and queue what must run."""
        if not trials:
            return
        level = self._variants[trials[0].variant].level
        reached = self._up_to(level)
        passed = self._up_to(level - 1) if level else set()
        needs = self._plan(trials, reached - passed)
        for trial in trials:
            need = needs[trial.identity]
            if need is Need.IMPOSSIBLE:
                self._lose(trial, {})
            elif need is Need.NOTHING:
                self._arrive(trial)
            else:
                fields = tuple(name for name in trial.nodes if name in reached)
                self._waiting.append(TrialStep(trial=trial, fields=fields))

    def _up_to(self, level: int) -> set[str]:
        """Return the fields up to the gate of `level`; all fields behind the last gate."""
        last = (
            stage_order()[self._gates[level].gate.after]
            if level < len(self._gates)
            else len(stage_order())
        )
        return {name for name, position in stage_order().items() if position <= last}

    def _arrive(self, trial: Trial) -> None:
        """Take in a trial that is at its next gate, or at its end."""
        level = self._variants[trial.variant].level
        score = Score(miou=0.0, made="")  # behind the last gate no score and no order matter
        if level < len(self._gates):
            after = self._gates[level].gate.after
            try:
                score = self._score(trial, after)
            except ValueError as error:
                self._lose(trial, {after: str(error)})
                return
        # The order breaks ties of one second, in which several artifacts may be made.
        heapq.heappush(self._arrivals, (score.made, trial.order, trial, score.miou))

    def _settle(self) -> None:
        """Take in the arrivals one by one; a trial that goes on may be at the next gate at once."""
        self._judge()
        while self._arrivals:
            _, _, trial, miou = heapq.heappop(self._arrivals)
            variant = self._variants[trial.variant]
            if variant.level < len(self._gates):
                variant.scores[trial.identity] = miou
                self._gather(trial.variant)
            else:
                self._record(trial, {}, None)
                self._close(trial, End.DONE)
            self._judge()

    def _gather(self, name: str) -> None:
        """Let a variant arrive at its gate once no trial of it is on its way any more."""
        variant = self._variants[name]
        # A mean over some of the seeds would depend on which trial was faster; a variant whose
        # trials all failed has no mean, and does not arrive.
        if variant.scores and variant.complete:
            self._gates[variant.level].arrive(name, fmean(variant.scores.values()))

    def _judge(self) -> None:
        for level, gate in enumerate(self._gates):
            for verdict in list(gate.verdicts(more=self._to_come)):
                self._apply(verdict, level)

    def _apply(self, verdict: Verdict, level: int) -> None:
        variant = self._variants[verdict.variant]
        trials = [trial for trial in variant.trials if trial.identity in variant.scores]
        # The scores were those of this gate; the next one starts without.
        variant.scores.clear()
        if verdict.goes_on:
            variant.level += 1
            self._open(trials)
            return
        for trial in trials:
            self._record(trial, {}, (self._gates[level].gate.after, verdict.why))
            self._close(trial, End.STOPPED)

    def _lose(self, trial: Trial, failed: Mapping[str, str]) -> None:
        self._record(trial, failed, None)
        self._close(trial, End.FAILED)
        self._gather(trial.variant)

    def _close(self, trial: Trial, end: End) -> None:
        """Note the end of a trial; tell gates and search when its variant has ended."""
        variant = self._variants[trial.variant]
        variant.ends[trial.identity] = end
        self.left -= 1
        if not variant.over:
            return
        for gate in self._gates:
            gate.lose(trial.variant)
        if self._suggestions is not None:
            ends = variant.ends
            done = [each for each in variant.trials if ends[each.identity] is End.DONE]
            stopped = End.STOPPED in ends.values()
            self._suggestions.end(trial.variant, done, stopped=stopped)

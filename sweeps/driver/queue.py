"""What of a sweep comes next: the driver's account of the trials that wait, of those at a gate, and
of what runs.

A trial runs in steps, each up to its next gate, and holds no process between them. All this is in
the driver's memory: a sweep that is run again replays it from the artifacts in the store, in the
order in which they were made."""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from sweeps.driver.recorder import Recorder
from sweeps.plan.plan import ORDER, Plan, make_plan
from sweeps.selection.gatekeeper import Gatekeeper, Verdict
from sweeps.selection.suggestions import Suggestions
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

End = Literal["done", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class TrialStep:
    """A part of a trial that one coordinator sees through: the stages in `fields`, upstream first."""

    trial: Trial
    fields: tuple[str, ...]


@dataclass(kw_only=True, eq=False)
class _Variant:
    """The trials of a variant, which pass a gate together.

    Attributes:
        level: how many gates it has passed.
        scores: of the trials that came to the next gate, by identity.
        ended: how the trials ended that did, by identity.
    """

    trials: list[Trial] = field(default_factory=list)
    level: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    ended: dict[str, End] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether all its trials ended."""
        return len(self.ended) == len(self.trials)


class TrialQueue:
    """Hands out steps, and is told when they end. What the store has already is recorded without a
    step.

    Args:
        spec: with gates and limits.
        store: where scores are.
        ledger: records the trials that end.
        suggestions: where more trials come from.

    Attributes:
        plans: what was planned and is not announced yet; whoever announces it takes it out.
        limit: the limit that is reached, for people; empty where none is.
    """

    def __init__(
        self, spec: Spec, *, store: Store, ledger: Recorder, suggestions: Suggestions | None = None
    ) -> None:
        self.plans: deque[Plan] = deque()
        self.limit = ""
        self._spec, self._store, self._ledger, self._suggestions = spec, store, ledger, suggestions
        self._gates = [
            Gatekeeper(gate) for gate in sorted(spec.gates, key=lambda gate: ORDER[gate.after])
        ]
        self._variants: dict[str, _Variant] = {}
        self._arrivals: list[tuple[str, int, Trial, float]] = []
        self._queue: deque[TrialStep] = deque()
        self._running: list[TrialStep] = []
        self._launched: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will."""
        return not self._running and (bool(self.limit) or not (self._queue or self._more))

    @property
    def left(self) -> int:
        """How many trials have not ended."""
        return sum(len(each.trials) - len(each.ended) for each in self._variants.values())

    def add(self, trials: Sequence[Trial]) -> None:
        """Take in trials, those of a variant together."""
        self._ledger.expect(trials)
        for trial in trials:
            if trial.variant not in self._variants:
                knobs = (
                    {name: node.stage.config() for name, node in trial.nodes.items()}
                    if self._gates
                    else {}
                )
                for gate in self._gates:
                    gate.expect(trial.variant, knobs=knobs, baseline=trial.baseline)
            self._variants.setdefault(trial.variant, _Variant()).trials.append(trial)
        self._open(trials)
        self._settle()

    def next(self, *, gpu_s: float, wall_s: float) -> TrialStep | None:
        """What should run now; None where nothing can, until a step ends, or ever, where a limit is
        reached.

        Args:
            gpu_s: seconds that GPUs were held so far.
            wall_s: seconds since the start.
        """
        over = self._spec.limits.reached(trials=0, gpu_s=gpu_s, wall_s=wall_s)
        self.limit = over if self._queue or self._more else ""
        while not self.limit:
            full = self._spec.limits.reached(trials=len(self._launched), gpu_s=0, wall_s=0)
            for step in self._queue:
                if not full or step.trial.identity in self._launched:
                    return self._launch(step)
            if not (self._queue or self._more):
                break
            if full:
                self.limit = full
            elif self._suggestions is not None:
                self.add(self._suggestions.ask())
        return None

    def end(self, step: TrialStep, *, failed: Mapping[str, str]) -> None:
        """`step` ran to its end; `failed` has the errors of its stages by field."""
        self._running.remove(step)
        if failed:
            self._lose(step.trial, failed)
        else:
            self._come(step.trial)
        self._settle()

    def again(self) -> None:
        """Nothing runs any more, because the cluster gave up: what ran waits again."""
        self._queue.extendleft(reversed(self._running))
        self._running.clear()

    @property
    def _more(self) -> int:
        return self._suggestions.left if self._suggestions is not None else 0

    def _launch(self, step: TrialStep) -> TrialStep:
        self._queue.remove(step)
        self._running.append(step)
        self._launched.add(step.trial.identity)
        return step

    def _open(self, trials: Sequence[Trial]) -> None:
        """Plan the next step of `trials`, all at the same gate, and queue those of which something
        must run.
        """
        if not trials:
            return
        level = self._variants[trials[0].variant].level
        reached, passed = self._up_to(level), self._up_to(level - 1) if level else set()
        resources = self._spec.resources_of
        plan = make_plan(
            trials, stored=self._store.present, resources=resources, fields=reached - passed
        )
        self.plans.append(plan)
        self._ledger.add(plan)
        for trial in trials:
            fields = tuple(name for name in trial.nodes if name in reached)
            needed = {trial.nodes[name].fingerprint for name in fields}
            if self._ledger.broken(needed):
                self._lose(trial, {})
            elif needed.isdisjoint(plan.reasons):
                self._come(trial)
            else:
                self._queue.append(TrialStep(trial=trial, fields=fields))

    def _up_to(self, level: int) -> set[str]:
        """The stages up to the gate of `level`, or all."""
        last = ORDER[self._gates[level].gate.after] if level < len(self._gates) else len(ORDER)
        return {name for name, place in ORDER.items() if place <= last}

    def _come(self, trial: Trial) -> None:
        """A trial is at its next gate, or at its end. A gate takes trials in the order of their
        artifacts.
        """
        made, score, level = "", 0.0, self._variants[trial.variant].level
        if level < len(self._gates):
            after = self._gates[level].gate.after
            try:
                manifest = self._store.manifest(trial.nodes[after])
            except ValueError as error:
                self._lose(trial, {after: str(error)})
                return
            if manifest is None:
                self._lose(
                    trial, {after: "its artifact was removed: the same command makes it again"}
                )
                return
            made, score = manifest.created, manifest.metrics["miou"]
        heapq.heappush(self._arrivals, (made, trial.order, trial, score))

    def _settle(self) -> None:
        """Take in who came, one after the other; whoever goes on may come to the next gate at once."""
        self._judge()
        while self._arrivals:
            _, _, trial, score = heapq.heappop(self._arrivals)
            variant = self._variants[trial.variant]
            if variant.level < len(self._gates):
                variant.scores[trial.identity] = score
                self._gather(trial.variant)
            else:
                self._ledger.end(trial, failed={})
                self._close(trial, "done")
            self._judge()

    def _gather(self, name: str) -> None:
        """Let a variant come to its gate once none of its trials is on its way, and not all of them
        are lost.
        """
        variant = self._variants[name]
        if variant.scores and len(variant.scores) + len(variant.ended) == len(variant.trials):
            self._gates[variant.level].arrive(name, fmean(variant.scores.values()))

    def _judge(self) -> None:
        for level, gate in enumerate(self._gates):
            for verdict in list(gate.verdicts(more=self._more)):
                self._apply(verdict, level)

    def _apply(self, verdict: Verdict, level: int) -> None:
        variant = self._variants[verdict.variant]
        trials = [trial for trial in variant.trials if trial.identity in variant.scores]
        variant.scores.clear()
        if verdict.goes_on:
            variant.level += 1
            self._open(trials)
            return
        for trial in trials:
            self._ledger.end(trial, failed={}, stopped=(self._gates[level].gate.after, verdict.why))
            self._close(trial, "stopped")

    def _lose(self, trial: Trial, failed: Mapping[str, str]) -> None:
        self._ledger.end(trial, failed=failed)
        self._close(trial, "failed")
        self._gather(trial.variant)

    def _close(self, trial: Trial, how: End) -> None:
        """A trial ended. With its last one a variant comes to no gate any more, and a search hears
        of it.
        """
        variant = self._variants[trial.variant]
        variant.ended[trial.identity] = how
        if not variant.over:
            return
        for gate in self._gates:
            gate.lose(trial.variant)
        if self._suggestions is not None:
            done = [each for each in variant.trials if variant.ended[each.identity] == "done"]
            self._suggestions.end(trial.variant, done, stopped="stopped" in variant.ended.values())

"""Gates between stages: variants go on to the expensive stages by the scores of the cheap ones."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweeps.plan.plan import stage_order
from sweeps.spec.gates import Gate
from sweeps.spec.trials import Trial

Knobs = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Decision of a gate on a variant, with the reason where it does not go on."""

    variant: str
    goes_on: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class _Known:
    group: str
    baseline: bool


class Gatekeeper:
    """Gives every variant that comes to a gate one verdict, once it is certain."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._known: dict[str, _Known] = {}
        self._scores: dict[str, float] = {}
        self._decided: set[str] = set()
        # number of variants of each group that may still come
        self._coming: Counter[str] = Counter()

    def expect(self, variant: str, *, knobs: Knobs, baseline: bool) -> None:
        """Note that a variant, with these active knobs by stage, may come."""
        known = _Known(group=group(self.gate, knobs), baseline=baseline)
        self._known[variant] = known
        if not baseline:
            self._coming[known.group] += 1

    def arrive(self, variant: str, score: float) -> None:
        """Take in a variant that has come with all its seeds."""
        self._scores[variant] = score
        self._no_longer_coming(self._known[variant])

    def lose(self, variant: str) -> None:
        """Note that a variant will not come, unless it has come."""
        if variant in self._known and variant not in self._scores:
            self._no_longer_coming(self._known.pop(variant))

    def verdicts(self, *, more: int) -> Iterator[Verdict]:
        """Yield the verdicts that have become certain.

        Args:
            more: number of variants that may come and are not known yet, of whatever group.
        """
        groups: dict[str, list[str]] = {}
        for variant in self._scores:
            if not self._known[variant].baseline:
                groups.setdefault(self._known[variant].group, []).append(variant)
            elif variant not in self._decided:
                yield self._decide(variant, goes_on=True)
        for name, members in groups.items():
            undecided = [variant for variant in members if variant not in self._decided]
            if undecided and self.gate.margin is not None:
                yield from self._against_baseline(undecided, margin=self.gate.margin)
            elif undecided:
                coming = self._coming[name] + more
                yield from self._ranked(undecided, members, name=name, coming=coming)

    def _no_longer_coming(self, known: _Known) -> None:
        if not known.baseline:
            self._coming[known.group] -= 1

    def _against_baseline(self, undecided: Sequence[str], *, margin: float) -> Iterator[Verdict]:
        baselines = [name for name, known in self._known.items() if known.baseline]
        scores = [self._scores[name] for name in baselines if name in self._scores]
        if baselines and not scores:
            return  # the baseline is still to come
        for variant in undecided:
            score = self._scores[variant]
            # where the baseline failed nothing speaks against the variant
            if not scores or score >= scores[0] - margin:
                yield self._decide(variant, goes_on=True)
                continue
            baseline = f"{margin:g} below the baseline's {scores[0]:.4f}"
            yield self._decide(variant, goes_on=False, why=f"{score:.4f} is more than {baseline}")

    def _ranked(
        self, undecided: Sequence[str], members: Sequence[str], *, name: str, coming: int
    ) -> Iterator[Verdict]:
        # by name where scores are equal, so that the ranking does not depend on arrival
        ranking = sorted(members, key=lambda variant: (-self._scores[variant], variant))
        ranks = {variant: rank for rank, variant in enumerate(ranking)}
        places = self._places(len(members), coming)
        for variant in undecided:
            rank = ranks[variant]
            # top_k is certain only once those still to come cannot push the variant out
            if rank < places and (self.gate.asha is not None or rank + coming < places):
                yield self._decide(variant, goes_on=True)
            # a variant that waits costs nothing, and the reason then names the final ranking
            elif rank >= places and not coming:
                score = self._scores[variant]
                last = self._scores[ranking[places - 1]]
                among = f"{len(members)} where {name}" if name else f"{len(members)}"
                best = f"the best {places} of {among}, which end at {last:.4f}"
                yield self._decide(variant, goes_on=False, why=f"{score:.4f} is not among {best}")

    def _places(self, arrived: int, coming: int) -> int:
        if self.gate.top_k is not None:
            return self.gate.top_k
        # of the last group at least one goes on
        least = 0 if coming else 1
        return max(_share(self.gate, arrived), least)

    def _decide(self, variant: str, *, goes_on: bool, why: str = "") -> Verdict:
        self._decided.add(variant)
        return Verdict(variant=variant, goes_on=goes_on, why=why)


def expected(trials: Sequence[Trial], gates: Sequence[Gate]) -> list[Trial]:
    """Return `trials` without the stages that gates will keep them from, as far as is known before.

    As many variants go on as the gates let, at most. Those that the file names first stand for
    them, and the baseline is among them.
    """
    variants: dict[str, list[Trial]] = {}
    for trial in trials:
        variants.setdefault(trial.variant, []).append(trial)
    # position of the last stage that the trials of a variant run
    ends = dict.fromkeys(variants, len(stage_order()))
    for gate in sorted(gates, key=lambda gate: stage_order()[gate.after]):
        groups: dict[str, list[str]] = {}
        for name, (first, *_) in variants.items():
            if ends[name] == len(stage_order()) and not first.baseline:
                knobs = {field: node.stage.recorded() for field, node in first.nodes.items()}
                groups.setdefault(group(gate, knobs), []).append(name)
        for members in groups.values():
            stopped = members[_num_passing(gate, len(members)) :]
            ends |= dict.fromkeys(stopped, stage_order()[gate.after])
    return [_up_to(trial, ends[trial.variant]) for trial in trials]


def group(gate: Gate, knobs: Knobs) -> str:
    """Return the group that a variant is ranked in; one without the knob has its own."""
    if gate.by is None:
        return ""
    field, _, name = gate.by.partition(".")
    return f"{gate.by} is {knobs.get(field, {}).get(name, 'without effect')}"


def _num_passing(gate: Gate, number: int) -> int:
    """Return how many of `number` variants of a group go on at most; all under a margin."""
    if gate.margin is not None:
        return number
    return min(number, gate.top_k or _share(gate, number) or 1)


def _share(gate: Gate, number: int) -> int:
    assert gate.asha is not None
    return int(number / gate.asha)


def _up_to(trial: Trial, last: int) -> Trial:
    nodes = {field: node for field, node in trial.nodes.items() if stage_order()[field] <= last}
    return replace(trial, nodes=nodes)

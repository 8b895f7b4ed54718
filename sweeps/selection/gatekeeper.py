"""Gates between stages: which variants go on to the expensive stages, judged by what the cheap ones
already scored.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.spec.gates import Gate


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a variant goes on, and why not."""

    variant: str
    goes_on: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class _Known:
    group: str
    baseline: bool


class Gatekeeper:
    """Who came to a gate, who is still to come, and who goes on. Every variant gets one verdict."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._known: dict[str, _Known] = {}
        self._scores: dict[str, float] = {}
        self._decided: set[str] = set()
        self._coming: Counter[str] = Counter()

    def expect(
        self, variant: str, *, knobs: Mapping[str, Mapping[str, object]], baseline: bool
    ) -> None:
        """A variant, with these active knobs by stage, may come."""
        self._known[variant] = known = _Known(group=group(self.gate, knobs), baseline=baseline)
        self._coming[known.group] += not baseline

    def arrive(self, variant: str, score: float) -> None:
        """A variant is there with all its seeds."""
        self._scores[variant] = score
        self._coming[self._known[variant].group] -= not self._known[variant].baseline

    def lose(self, variant: str) -> None:
        """A variant will not come, if it did not yet."""
        if variant in self._known and variant not in self._scores:
            known = self._known.pop(variant)
            self._coming[known.group] -= not known.baseline

    def verdicts(self, *, more: int) -> Iterator[Verdict]:
        """The verdicts that have become certain.

        Args:
            more: how many variants may come that are not known yet, of whatever group.
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
                yield from self._ranked(
                    undecided, members, where=name, coming=self._coming[name] + more
                )

    def _against_baseline(self, undecided: Sequence[str], *, margin: float) -> Iterator[Verdict]:
        scores = [
            self._scores[name]
            for name, known in self._known.items()
            if known.baseline and name in self._scores
        ]
        if not scores and any(known.baseline for known in self._known.values()):
            return  # it is on its way
        for variant in undecided:
            score = self._scores[variant]
            # where the baseline failed nothing speaks against it
            goes_on = not scores or score >= scores[0] - margin
            why = (
                ""
                if goes_on
                else f"{score:.4f} is more than {margin:g} below the baseline's {scores[0]:.4f}"
            )
            yield self._decide(variant, goes_on=goes_on, why=why)

    def _ranked(
        self, undecided: Sequence[str], members: Sequence[str], *, where: str, coming: int
    ) -> Iterator[Verdict]:
        # ties must have an order
        ranking = sorted(members, key=lambda name: (-self._scores[name], name))
        ranks, places = (
            {name: rank for rank, name in enumerate(ranking)},
            self._places(len(members), coming),
        )
        for variant in undecided:
            rank = ranks[variant]
            if rank < places and (self.gate.asha is not None or rank + coming < places):
                yield self._decide(variant, goes_on=True)
            # who waits costs nothing, and the reason names the final ranking
            elif rank >= places and not coming:
                score, last = self._scores[variant], self._scores[ranking[places - 1]]
                among = f"{len(members)}{f' where {where}' if where else ''}"
                why = f"{score:.4f} is not among the best {places} of {among}, which end at {last:.4f}"
                yield self._decide(variant, goes_on=False, why=why)

    def _places(self, arrived: int, coming: int) -> int:
        return self.gate.top_k or max(_share(self.gate, arrived), 0 if coming else 1)

    def _decide(self, variant: str, *, goes_on: bool, why: str = "") -> Verdict:
        self._decided.add(variant)
        return Verdict(variant=variant, goes_on=goes_on, why=why)


def passing(gate: Gate, number: int) -> int:
    """How many of `number` variants of a group go on, at most: all, where a margin decides."""
    if gate.margin is not None:
        return number
    return min(number, gate.top_k or _share(gate, number) or 1)


def _share(gate: Gate, number: int) -> int:
    assert gate.asha is not None
    return int(number / gate.asha)


def group(gate: Gate, knobs: Mapping[str, Mapping[str, object]]) -> str:
    """The group that a variant is ranked in: one without the knob has its own."""
    if gate.by is None:
        return ""
    field, _, name = gate.by.partition(".")
    return f"{gate.by} is {knobs.get(field, {}).get(name, 'without effect')}"

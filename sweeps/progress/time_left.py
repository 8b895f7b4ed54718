"""The time that is left of a sweep, kept up to date at the cost of what changes.

A sweep of 5,000 trials has tens of thousands of stages, and the driver asks after every few of
them, so that the chains are followed in arrays and not stage by stage."""

import bisect
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float

from occse.pipeline import Node

Expected = Callable[[Node], float | None]


class Durations:
    """Seconds of the stages of one class that ended, in order."""

    def __init__(self) -> None:
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Take in the duration of one more stage."""
        bisect.insort(self._sorted, seconds)

    @property
    def median(self) -> float:
        """Median of all durations, of which there is at least one."""
        middle = len(self._sorted) // 2
        if len(self._sorted) % 2:
            return self._sorted[middle]
        return (self._sorted[middle - 1] + self._sorted[middle]) / 2


class TimeLeft:
    """Stages that are still to be run, as arrays by their order of arrival.

    Upstream stages arrive before those that read them.

    Args:
        expected: returns the seconds that past runs lead to expect, None where none does.
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._index: dict[str, int] = {}
        self._kinds: dict[str, int] = {}
        self._ended: dict[int, Durations] = {}
        # one entry for each stage
        self._kind: list[int] = []
        self._share: list[float] = []
        self._past: list[float] = []
        self._level: list[int] = []
        self._inputs: list[list[int]] = []
        self._pending = np.zeros(0, bool)
        self._lost = np.zeros(0, bool)
        self._arrays: _Arrays | None = None

    def add(self, nodes: Mapping[str, Node], shares: Mapping[str, float]) -> None:
        """Take in stages, upstream first.

        Args:
            nodes: the stages by fingerprint. Those that are known already stay as they are.
            shares: part of the cluster that a stage occupies; those without are not to be run.
        """
        pending = []
        for fingerprint, node in nodes.items():
            if fingerprint in self._index:
                continue
            inputs = [self._index[need] for need in node.inputs.values() if need in self._index]
            self._index[fingerprint] = len(self._kind)
            self._kind.append(self._kinds.setdefault(node.kind, len(self._kinds)))
            self._inputs.append(inputs)
            self._level.append(1 + max((self._level[need] for need in inputs), default=-1))
            wanted = fingerprint in shares
            past = self._expected(node) if wanted else 0.0
            self._past.append(np.nan if past is None else past)
            self._share.append(shares.get(fingerprint, 1.0))
            pending.append(wanted)
        self._pending = np.concatenate([self._pending, np.array(pending, bool)])
        self._lost = np.concatenate([self._lost, np.zeros(len(pending), bool)])
        self._arrays = None

    def end(self, fingerprint: str, seconds: float | None = None) -> None:
        """Take note that a stage is done, and how long it took, if that is known."""
        index = self._index[fingerprint]
        self._pending[index] = False
        self._lost[index] = False  # one that failed may be run again by another trial
        if seconds is not None:
            self._ended.setdefault(self._kind[index], Durations()).add(seconds)

    def lose(self, fingerprint: str) -> None:
        """Take note that a stage failed: those that read it will not run."""
        self._lost[self._index[fingerprint]] = True

    def seconds(self, elapsed: Mapping[str, float]) -> tuple[float, int]:
        """Return the seconds that are left, and the number of stages whose time is unknown.

        The seconds are the larger of the work that is left for the whole cluster, and the longest
        chain of stages that is left.

        Args:
            elapsed: seconds since the start of the stages that run, by fingerprint.
        """
        if self._arrays is None:
            self._arrays = _Arrays(self._kind, self._share, self._past, self._level, self._inputs)
        arrays = self._arrays
        each = arrays.past.copy()
        # What this sweep has measured stands before the estimate from past runs.
        for kind, durations in self._ended.items():
            each[arrays.kind == kind] = durations.median
        lost = arrays.spread(self._lost)
        pending = self._pending & ~lost
        unknown = int(np.isnan(each[pending]).sum())
        left = np.where(pending, np.nan_to_num(each), 0.0)
        for fingerprint, seconds in elapsed.items():
            if fingerprint in self._index:
                index = self._index[fingerprint]
                left[index] = max(left[index] - seconds, 0.0)
        work = float((left * arrays.share).sum())
        return max(work, arrays.longest_chain(left)), unknown


class _Arrays:
    """The graph of the stages, level by level: a stage reads stages of lower levels only."""

    def __init__(
        self,
        kind: list[int],
        share: list[float],
        past: list[float],
        level: list[int],
        inputs: list[list[int]],
    ) -> None:
        self.kind = np.array(kind, int)
        self.share = np.array(share, float)
        self.past = np.array(past, float)
        levels = np.array(level, int)
        most = max(map(len, inputs), default=0)
        # Short rows are filled with a stage behind the last, which takes no time and never fails.
        table = np.full((len(inputs), max(most, 1)), len(inputs))
        for index, needs in enumerate(inputs):
            table[index, : len(needs)] = needs
        members = [np.flatnonzero(levels == value) for value in range(levels.max(initial=-1) + 1)]
        self._levels = [(stages, table[stages]) for stages in members]

    def spread(self, lost: Bool[np.ndarray, " stages"]) -> Bool[np.ndarray, " stages"]:
        """Return which stages are lost, those that read a lost one among them."""
        if not lost.any():
            return lost
        reached = np.append(lost, False)
        for stages, needs in self._levels:
            reached[stages] |= reached[needs].any(axis=1)
        return reached[:-1]

    def longest_chain(self, left: Float[np.ndarray, " stages"]) -> float:
        """Return the seconds of the longest chain, given those of each stage."""
        ends = np.append(left, 0.0)
        for stages, needs in self._levels:
            ends[stages] += ends[needs].max(axis=1)
        return float(ends.max())

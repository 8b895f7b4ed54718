"""Decide which stages start next, and on which machine.

All functions are pure: the scheduler calls them for the cluster, the simulation of a plan for a
made-up one. Resources are plain mappings such as `{"CPU": 4.0, "GPU": 0.5}`, as Ray gives them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

Amounts = Mapping[str, float]
# Sums of fractions of a GPU are off by rounding; Ray itself counts in steps of 1e-4.
EXACT = 1e-6
# A cloud starts a machine within two to four minutes; CPU work on a GPU machine costs ten times as
# much, and may keep the GPU idle.
PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A stage whose inputs are there.

    Attributes:
        needs: what it occupies on one machine while it runs.
        path_s: seconds to the end of the longest chain of stages that begins with it.
        waited_s: seconds since its inputs are there.
        sweep: name of the sweep that asked first.
        weight: of that sweep; one of weight 2 gets twice the share of the cluster.
    """

    fingerprint: str
    needs: Amounts
    path_s: float = 0.0
    waited_s: float = 0.0
    sweep: str = ""
    weight: float = 1.0

    @property
    def is_patient(self) -> bool:
        """True while it may still wait for a machine that suits it better."""
        return self.waited_s < PATIENCE_S

    @cached_property
    def kind(self) -> tuple[object, ...]:
        """The same for stages that find room in the same places."""
        return (self.is_patient, *self.needs.items())


def longest_paths(
    inputs: Mapping[str, Iterable[str]], seconds: Mapping[str, float]
) -> dict[str, float]:
    """Return, for each stage, the seconds to the end of the longest chain that begins with it.

    Args:
        inputs: the fingerprints that each stage reads, upstream first; those that are no key are
            there already.
        seconds: how long each stage takes; a stage that is not a key takes no time.
    """
    paths = {fingerprint: seconds.get(fingerprint, 0.0) for fingerprint in inputs}
    for fingerprint in reversed(list(inputs)):
        for need in inputs[fingerprint]:
            if need in paths:
                paths[need] = max(paths[need], seconds.get(need, 0.0) + paths[fingerprint])
    return paths


def cpus_beside_gpus(
    inputs: Mapping[str, Iterable[str]], needs: Mapping[str, Amounts]
) -> dict[str, float]:
    """Return, for each stage, the most CPUs per GPU that it or a stage behind it needs.

    0 where no GPU is needed any more.

    Args:
        inputs: as for `longest_paths`.
        needs: what each stage occupies.
    """
    most = {fingerprint: _per_gpu(needs[fingerprint]) for fingerprint in inputs}
    for fingerprint in reversed(list(inputs)):
        for need in inputs[fingerprint]:
            if need in most:
                most[need] = max(most[need], most[fingerprint])
    return most


def choose(
    waiting: Iterable[Waiting],
    free: Sequence[Amounts],
    *,
    totals: Sequence[Amounts] | None = None,
    kept: float = 0.0,
    growing: bool = False,
    held: Mapping[str, float] | None = None,
) -> list[tuple[Waiting, int]]:
    """Return the stages to start now, each with the index of its machine.

    Stages that need a GPU come first, so that no GPU idles for want of CPUs; then those of the
    sweep that holds the smallest part of the cluster for its weight; then the longest path. A stage
    that fits nowhere lets others pass, with one exception: the first stage that waits for GPUs
    reserves a machine against stages that need fewer. Without it, a stage of several GPUs would
    wait until all smaller ones have run, for never are several GPUs free at once.

    A stage without a GPU goes where the fewest GPUs are, and leaves the CPUs that the GPUs will
    need. Where no machine could ever take it then, it takes what is free; but where machines may
    still be started it waits for one for `PATIENCE_S` first.

    Args:
        waiting: the stages whose inputs are there.
        free: what each machine has left.
        totals: what each machine has when nothing runs; by default nothing does.
        kept: CPUs to keep for each free GPU, as long as a stage that needs one may still come.
        growing: whether more machines may come.
        held: part of the cluster that each sweep's running stages hold, divided by its weight.
    """
    totals = totals or free
    left = [dict(machine) for machine in free]
    reservation = None
    chosen = []
    line = _Line(waiting, held or {}, totals)
    for stage in line:
        keep = kept
        if stage.needs.get("GPU"):
            keep = 0.0
        elif not (growing and stage.is_patient):
            keep = _affordable(stage.needs, totals, kept)
        index = _best_machine(stage.needs, left, totals, kept=keep, reservation=reservation)
        if index is not None:
            # Taken at once, so that the next stage in line does not see the same room as free.
            for name, amount in stage.needs.items():
                left[index][name] = left[index].get(name, 0.0) - amount
            chosen.append((stage, index))
            line.start(stage)
            continue
        # Room only shrinks here, so that what found none finds none later. Thousands of stages may
        # wait, of a handful of kinds.
        line.drop_kind(stage)
        # Only the first one that does not fit: with a reservation for each, machines would stand
        # empty for stages far back in line.
        if reservation is None and stage.needs.get("GPU"):
            reservation = _reserve(stage.needs, left, totals)
    return chosen


class _Line:
    """The waiting stages in the order in which they may start, given what was started before."""

    def __init__(
        self,
        waiting: Iterable[Waiting],
        held: Mapping[str, float],
        totals: Sequence[Amounts],
    ) -> None:
        self._held = dict(held)
        self._totals = totals
        # By sweep and kind, the longest path last. Stages of one kind need the same.
        self._stages: dict[tuple[str, tuple[object, ...]], list[Waiting]] = {}
        self._order: dict[str, int] = {}
        for stage in waiting:
            self._order[stage.fingerprint] = len(self._order)
            self._stages.setdefault((stage.sweep, stage.kind), []).append(stage)
        for stages in self._stages.values():
            # of equal paths the one that asked first comes first: the sort keeps their order
            stages.sort(key=lambda stage: -stage.path_s)
            stages.reverse()

    def __iter__(self) -> Iterator[Waiting]:
        while self._stages:
            key = min(self._stages, key=self._rank)
            stage = self._stages[key].pop()
            if not self._stages[key]:
                del self._stages[key]
            yield stage

    def start(self, stage: Waiting) -> None:
        """Note that a stage starts: its sweep holds more of the cluster now."""
        part = share_of(stage.needs, self._totals) / stage.weight
        self._held[stage.sweep] = self._held.get(stage.sweep, 0.0) + part

    def drop_kind(self, stage: Waiting) -> None:
        """Leave out all stages of the kind of `stage`: there is no room for them."""
        for key in [key for key in self._stages if key[1] == stage.kind]:
            del self._stages[key]

    def _rank(self, key: tuple[str, tuple[object, ...]]) -> tuple[bool, float, float, int]:
        first = self._stages[key][-1]
        needs_no_gpu = not first.needs.get("GPU")
        held = self._held.get(first.sweep, 0.0)
        return needs_no_gpu, held, -first.path_s, self._order[first.fingerprint]


def most_at_once(needs: Amounts, free: Sequence[Amounts]) -> float:
    """Return how many stages that need `needs` find room; infinity for those that need nothing."""
    asked = {name: amount for name, amount in needs.items() if amount}
    if not asked:
        return inf
    total = 0.0
    for machine in free:
        room = min((machine.get(name, 0.0) + EXACT) // amount for name, amount in asked.items())
        # below 0 where Ray put a stage on a machine that was full
        total += max(0.0, room)
    return total


def share_of(needs: Amounts, totals: Sequence[Amounts]) -> float:
    """Return the part of the whole cluster that a stage occupies, in [0, 1]."""
    parts = [0.0]
    for name, amount in needs.items():
        whole = sum(machine.get(name, 0.0) for machine in totals)
        if amount and whole:
            # The scarcest resource counts (dominant resource fairness, Ghodsi et al., NSDI 2011): a
            # sweep that holds all GPUs holds the cluster, however few CPUs it has.
            parts.append(amount / whole)
    return min(1.0, max(parts))


@dataclass(frozen=True, kw_only=True)
class _Reservation:
    """Machine that is kept for the first stage in line, and what that stage needs."""

    index: int
    needs: Amounts

    def allows(self, needs: Amounts, machine: Amounts) -> bool:
        """Return whether another stage may start on the machine, of which `machine` is free."""
        gpus = needs.get("GPU", 0.0)
        if gpus:
            # one that needs as many GPUs gains nothing by passing, and the first was asked first
            return gpus >= self.needs.get("GPU", 0.0)
        rest = machine.get("CPU", 0.0) - needs.get("CPU", 0.0)
        return rest + EXACT >= self.needs.get("CPU", 0.0)


def _reserve(
    needs: Amounts, left: Sequence[Amounts], totals: Sequence[Amounts]
) -> _Reservation | None:
    """Reserve the machine on which the fewest GPUs are missing; None where none is large enough.

    As nobody takes from it any more, the next choice reserves the same machine."""
    able = [index for index, machine in enumerate(totals) if fits(needs, machine)]
    if not able:
        return None
    index = max(able, key=lambda index: (left[index].get("GPU", 0.0), -index))
    return _Reservation(index=index, needs=needs)


def _affordable(needs: Amounts, totals: Sequence[Amounts], kept: float) -> float:
    """Return `kept`, or 0 where no machine could ever take a stage beside what is kept on it."""
    return kept if any(fits(needs, _without_kept(machine, kept)) for machine in totals) else 0.0


def _best_machine(
    needs: Amounts,
    left: Sequence[Amounts],
    totals: Sequence[Amounts],
    *,
    kept: float,
    reservation: _Reservation | None,
) -> int | None:
    """Return the index of the fullest machine that has room, so that wide stages find one too."""
    gpus = left if needs.get("GPU") else totals
    order = []
    for index, machine in enumerate(left):
        reserved = reservation is not None and reservation.index == index
        if reserved and reservation is not None and not reservation.allows(needs, machine):
            continue
        if fits(needs, _without_kept(machine, kept)):
            # A GPU stage takes the machine with the fewest free GPUs, any other the one that has
            # the fewest at all: whole GPU machines stay free for stages that need several.
            order.append((gpus[index].get("GPU", 0.0), machine.get("CPU", 0.0), index))
    return min(order)[-1] if order else None


def _without_kept(machine: Amounts, kept: float) -> Amounts:
    return {**machine, "CPU": machine.get("CPU", 0.0) - kept * machine.get("GPU", 0.0)}


def _per_gpu(needs: Amounts) -> float:
    gpus = needs.get("GPU", 0.0)
    return needs.get("CPU", 0.0) / gpus if gpus else 0.0


def fits(needs: Amounts, free: Amounts) -> bool:
    """Return whether a machine with `free` resources can take a stage now."""
    return all(amount <= free.get(name, 0.0) + EXACT for name, amount in needs.items())

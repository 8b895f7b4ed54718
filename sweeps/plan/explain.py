"""The reason why an artifact is not in the store: the knobs in which the nearest one differs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from occse.artifacts.manifest import Manifest
from occse.artifacts.source import changes
from occse.naming.counts import number
from occse.pipeline import Node
from sweeps.spec.knobs import show
from sweeps.spec.trials import Trial, distinct_nodes
from sweeps.text import duration, table

# More do not fit beside a trial or stage on one line; `explain SPEC TRIAL STAGE` lists all.
MOST_DIFFERENCES = 3


@dataclass(frozen=True, order=True)
class Difference:
    """One difference between a planned artifact and one in the store."""

    what: str
    here: str
    there: str

    def __str__(self) -> str:
        return f"{self.what}: {self.here} here, {self.there} there"


class Explainer:
    """Compares planned artifacts with those of a store.

    Args:
        trials: the sweep.
        manifests: of all artifacts in the store.
    """

    def __init__(self, trials: Iterable[Trial], manifests: Iterable[Manifest]) -> None:
        self._nodes = distinct_nodes(trials)
        self._found = {manifest.fingerprint: manifest for manifest in manifests}
        self._changed = changes(self._found, self._nodes)
        self._compared: dict[tuple[str, str], frozenset[Difference]] = {}

    def stored(self, node: Node) -> Manifest | None:
        """Return the manifest of this artifact, or None where it is not in the store."""
        return self._found.get(node.fingerprint)

    def origin(self, made: Manifest) -> str:
        """Return the time, the machine and the duration of an artifact, and its code if another."""
        changed = self._changed.get(made.fingerprint)
        return _origin(made) + (f"; {changed}" if changed else "")

    def nearest(self, node: Node) -> tuple[Manifest, list[Difference]] | None:
        """Return the artifact of the same class with the fewest differences, and these.

        The youngest of several is taken; None where the store has none of that class."""
        near = [manifest for manifest in self._found.values() if manifest.stage == node.kind]
        if not near:
            return None
        # The youngest first, since `min` keeps the first of equals.
        near.sort(key=lambda manifest: manifest.created, reverse=True)
        best = min(near, key=lambda manifest: len(self._differences(node, manifest)))
        return best, sorted(self._differences(node, best))

    def _differences(self, node: Node, made: Manifest) -> frozenset[Difference]:
        key = (node.fingerprint, made.fingerprint)
        if key not in self._compared:
            self._compared[key] = (
                frozenset(self._compare(node, made)) if key[0] != key[1] else frozenset()
            )
        return self._compared[key]

    def _compare(self, node: Node, made: Manifest) -> Iterator[Difference]:
        if node.kind != made.stage:
            yield Difference(node.field, node.kind, made.stage)
            return
        if node.stage.version != made.version:
            yield Difference(
                f"version of {node.field}'s code", str(node.stage.version), str(made.version)
            )
        knobs = list(_knobs(node.field, node.stage.config(), made.config))
        yield from knobs
        for field in sorted(node.inputs.keys() | made.inputs.keys()):
            here = node.inputs.get(field)
            there = made.inputs.get(field)
            if here and there and here != there:
                yield from self._upstream(field, here, there)
            elif here != there and not knobs:  # a knob such as `source` would say it already
                yield Difference(
                    f"{node.field} reads {field}", "yes" if here else "no", "yes" if there else "no"
                )

    def _upstream(self, field: str, here: str, there: str) -> Iterable[Difference]:
        if there in self._found:
            return self._differences(self._nodes[here], self._found[there])
        return [Difference(field, here[:8], f"{there[:8]} (not in the store any more)")]


def _knobs(
    field: str, here: Mapping[str, object], there: Mapping[str, object]
) -> Iterator[Difference]:
    for knob in sorted(here.keys() | there.keys()):
        if here.get(knob) != there.get(knob) or (knob in here) != (knob in there):
            values = (
                show(values[knob]) if knob in values else "absent" for values in (here, there)
            )
            yield Difference(f"{field}.{knob}", *values)


def choose_trial(
    trials: Sequence[Trial], wanted: str, *, short_name: Callable[[Trial], str] | None = None
) -> Trial:
    """Return the trial with that number, or with that text in its name.

    Args:
        trials: of the sweep.
        wanted: a number, or a part of one trial's name.
        short_name: gives the name of a trial's run in MLflow, which is taken as well.

    Raises:
        ValueError: no trial, or several.
    """
    if wanted.isdecimal() and int(wanted) < len(trials):
        return trials[int(wanted)]
    names = {trial.order: [trial.name] for trial in trials}
    if short_name is not None:
        for trial in trials:
            names[trial.order].append(short_name(trial))
    found = [trial for trial in trials if wanted in names[trial.order]] or [
        trial for trial in trials if any(wanted in name for name in names[trial.order])
    ]
    if len(found) != 1:
        some = "; ".join(f"{trial.order} ({trial.name})" for trial in (found or trials)[:5])
        many = f"is {len(found)} trials" if found else "is not a trial"
        raise ValueError(
            f"{wanted!r} {many} of this sweep; give a number up to {len(trials) - 1} or a name, "
            f"as {some}"
        )
    return found[0]


def explain_sweep(trials: Sequence[Trial], explainer: Explainer) -> str:
    """Return one line per trial: the stages that it lacks, and why."""
    lines = []
    for trial in trials:
        missing = [node for node in trial.nodes.values() if explainer.stored(node) is None]
        why = (
            f"{missing[0].field}: {_why(missing[0], explainer)}" if missing else "all in the store"
        )
        lines.append((f"  {trial.order}", trial.name, f"{len(missing)} of {len(trial.nodes)}", why))
    return "\n".join(table(("  trial", "name", "to run", "why the first of them"), lines))


def explain_trial(trial: Trial, explainer: Explainer) -> str:
    """Return one line per stage of a trial: hit or miss, and why."""
    lines = []
    for field, node in trial.nodes.items():
        made = explainer.stored(node)
        why = explainer.origin(made) if made else _why(node, explainer)
        lines.append((f"  {field}", "hit" if made else "miss", node.fingerprint[:8], why))
    return "\n".join(
        [f"Trial {trial.order}: {trial.name}", *table(("  stage", "", "artifact", "why"), lines)]
    )


def explain_stage(trial: Trial, field: str, explainer: Explainer) -> str:
    """Return all that is known of one stage of a trial.

    Raises:
        ValueError: the trial has no such stage.
    """
    if field not in trial.nodes:
        raise ValueError(
            f"trial {trial.order} has no stage {field!r}; it has {', '.join(trial.nodes)}"
        )
    node = trial.nodes[field]
    head = f"{field} of trial {trial.order} ({trial.name}) is {node.kind}/{node.fingerprint}"
    if (made := explainer.stored(node)) is not None:
        return f"{head}.\nHit: {explainer.origin(made)}."
    lines = [f"{head}.", "Miss: it is not in the store."]
    if (near := explainer.nearest(node)) is None:
        return "\n".join([*lines, f"No {node.kind} was ever made in this store."])
    manifest, differences = near
    lines.append(
        f"The nearest is {node.kind}/{manifest.fingerprint}, {_origin(manifest)}. It differs in"
    )
    lines += [f"  {difference}" for difference in differences]
    inputs = [
        need
        for need in node.inputs
        if (upstream := trial.nodes.get(need)) and explainer.stored(upstream) is None
    ]
    return "\n".join(
        [*lines, f"Before it, {', '.join(inputs)} must run." if inputs else "Its inputs are there."]
    )


def _origin(made: Manifest) -> str:
    return f"made {made.created[:16].replace('T', ' ')} on {made.host} in {duration(made.seconds)}"


def _why(node: Node, explainer: Explainer) -> str:
    if (near := explainer.nearest(node)) is None:
        return f"no {node.kind} in the store"
    manifest, differences = near
    shown = "; ".join(map(str, differences[:MOST_DIFFERENCES]))
    more = len(differences) - MOST_DIFFERENCES
    return f"nearest {manifest.fingerprint[:8]}: {shown}" + (
        f"; and {number(more, 'other difference')}" if more > 0 else ""
    )

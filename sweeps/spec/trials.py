"""A sweep as a user writes it, and the trials that come out."""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from occse.pipeline import Node, Pipeline, override, pipeline_class, plan
from occse.plugins import load_plugins
from occse.stage import Stage
from occse.stages.data import InPlace
from occse.stages.trained import with_digest
from sweeps.spec.axes import knobs_of
from sweeps.spec.document import SpecDocument, read_document
from sweeps.spec.knobs import active, label, matching, spelled_out
from sweeps.spec.model import Overrides, Spec
from sweeps.spec.validate import explain, faults
from sweeps.spec.variants import SpecError, Writing, writings

__all__ = ["Spec", "Trial", "load_spec", "trials"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One pipeline to run: a variant and a seed.

    Attributes:
        variant: what the trial tries, the same text for all its seeds. order: position of the trial
        among the trials of the sweep; variants stand in the order of the file. baseline: whether
        the others are compared with this variant. knobs: values of the varied knobs that can change
        this trial's result. nodes: the artifacts it needs, by pipeline field, upstream first.
    """

    variant: str
    order: int
    baseline: bool
    seed: int
    knobs: Mapping[str, Any]
    pipeline: Pipeline
    nodes: Mapping[str, Node]

    @property
    def name(self) -> str:
        """Variant and seed, for people."""
        return f"{self.variant} · seed {self.seed}"

    @cached_property
    def identity(self) -> str:
        """Hash of the artifacts by field: trials that need the same artifacts at the same places
        are one trial.
        """
        text = "\n".join(
            sorted(f"{field}={node.fingerprint}" for field, node in self.nodes.items())
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_spec(path: Path) -> Spec:
    """The sweep in the YAML file `path`, with every value and every combination of values checked.

    A relative `data_root` or `weights` starts from the file's folder.

    Raises:
        ValueError: one line per fault: `FILE:LINE: key: what is wrong; what is allowed`.
    """
    document = read_document(path)
    _load_plugins(document)
    try:
        spec = Spec.model_validate(document.values)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, document))) from None
    if spec.data_root is not None:
        spec = spec.model_copy(update={"data_root": path.parent / spec.data_root.expanduser()})
    if spec.weights is not None:
        spec = spec.model_copy(update={"weights": path.parent / spec.weights.expanduser()})
    if found := [f"{document.where(location)}: {message}" for location, message in faults(spec)]:
        raise ValueError("\n".join(found))
    try:
        _check_writings(spec)
    except SpecError as error:
        raise ValueError(f"{document.where(error.location)}: {error}") from None
    return spec


def _load_plugins(document: SpecDocument) -> None:
    """Load what `plugins` names, before the knobs of its stages are checked."""
    names = document.values.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return  # the model refuses it, with its line
    try:
        load_plugins(names)
    except ValueError as error:
        raise ValueError(f"{document.where(('plugins',))}: {error}") from None


def trials(spec: Spec) -> list[Trial]:
    """The distinct trials of `spec`, baseline first, then in the order of the file, seeds
    innermost.

    Trials with the same identity collapse into the first of them: a knob of a stage that is not
    planned, or that is inactive, makes no difference.

    Raises:
        ValueError: the spec is at fault, values exclude each other, or a named variant is the same
        as another.
    """
    if wrong := [f"sweep {spec.name}: {message}" for _, message in faults(spec)]:
        raise ValueError("\n".join(wrong))
    found: dict[str, Trial] = {}
    same: dict[str, str] = {}
    expand = expansion(spec)
    for trial in itertools.chain.from_iterable(map(expand, writings(spec, spec.base_pipeline()))):
        first = found.setdefault(trial.identity, trial)
        same.setdefault(trial.variant, first.variant)
        if trial.baseline and not first.baseline:
            found[trial.identity] = replace(first, baseline=True)
    if not spec.grid:
        _check_names(spec, same)
    ordered = sorted(found.values(), key=lambda trial: not trial.baseline)
    return [replace(trial, order=order) for order, trial in enumerate(ordered)]


def _check_writings(spec: Spec) -> None:
    """Make every pipeline of the sweep but for its data and seeds, which refuses values that
    exclude each other.
    """
    pipeline_with, written = _pipelines(spec, data_root=None, weights=None), 0
    for written, writing in enumerate(writings(spec, spec.base_pipeline()), start=1):  # noqa: B007 - counted
        try:
            plan(pipeline_with(writing.changes), targets=spec.targets)
        except ValueError as error:
            shown = label(writing.changes, list(writing.changes))
            raise SpecError(writing.place, f"{shown}: {error}") from None
    if not written and not spec.search:
        raise SpecError(
            ("constraints",), "constraints: no trial satisfies all of them; expected at least one"
        )


def _check_names(spec: Spec, same: Mapping[str, str]) -> None:
    for variant, first in same.items():
        if variant != first:
            raise ValueError(
                f"sweep {spec.name}: variants.{variant}: needs the same artifacts as {first!r}; "
                "remove one of them, or change a knob that makes a difference"
            )


def expansion(spec: Spec) -> Callable[[Writing], list[Trial]]:
    """A function from a variant, as it is written down, to its trials: one for each seed."""
    pipeline_with = _pipelines(spec, data_root=spec.data_root, weights=spec.weights)
    axes = [knob for key in spec.axes() for knob in knobs_of(key)]
    varied = [*axes, *spelled_out(itertools.chain(*spec.named().values()), without=axes)]

    def made(writing: Writing, seed: int, seeds: Overrides) -> Trial:
        pipeline = pipeline_with(writing.changes | seeds)
        nodes = plan(pipeline, targets=spec.targets)
        knobs = active(nodes, varied)
        shown = label({axis: knobs[axis] for axis in writing.shown if axis in knobs}, axes)
        return Trial(
            variant=", ".join(part for part in (writing.name, shown) if part) or "default",
            order=0,
            baseline=writing.baseline,
            seed=seed,
            knobs=knobs,
            pipeline=pipeline,
            nodes=nodes,
        )

    return lambda writing: [made(writing, seed, seeds) for seed, seeds in spec.replicates()]


def _pipelines(
    spec: Spec, *, data_root: Path | None, weights: Path | None
) -> Callable[[Overrides], Pipeline]:
    """A function from overrides to pipelines that checks each distinct stage once: trials share
    most of them.
    """
    base, with_data_digest = spec.base_pipeline(), _digests(data_root)
    made: dict[str, Stage] = {}

    def build(changes: Overrides) -> Pipeline:
        by_field: dict[str, Overrides] = {}
        for key, value in changes.items():
            for knob in matching(key):
                by_field.setdefault(knob.split(".")[0], {})[key] = value
        stages = {field: base.stage(field) for field in pipeline_class().model_fields}
        for field, own in by_field.items():
            if (key := f"{field} {own!r}") not in made:
                made[key] = override(base, changes).stage(field)
            stages[field] = made[key]
        found = {field: with_digest(stage, weights) for field, stage in stages.items()}
        return pipeline_class().model_validate(found | {"data": with_data_digest(stages["data"])})

    return build


def _digests(data_root: Path | None) -> Callable[[Stage], Stage]:
    """A function that puts a digest of the user's files into the identity of data that is read in
    place.
    """

    @cache  # reading a tree takes seconds
    def resolved(data: InPlace, root: Path) -> Stage:
        return data.resolved(root)

    def fill(data: Stage) -> Stage:
        return (
            resolved(data, data_root)
            if data_root is not None and isinstance(data, InPlace)
            else data
        )

    return fill

"""The trials of a sweep file: read, checked and expanded."""

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from occse.naming.variants import BASELINE
from occse.pipeline import (
    DATA,
    Node,
    Pipeline,
    doubts,
    override,
    pipeline_class,
    plan,
    stage_classes,
)
from occse.plugins import load_plugins
from occse.stage import Stage
from occse.stages.data import InPlace
from occse.stages.seg import Segment
from occse.stages.trained import with_digest
from sweeps.spec.axes import knobs_of
from sweeps.spec.document import Location, SpecDocument, in_bounds, read_document, shortened
from sweeps.spec.expectations import side_text
from sweeps.spec.knobs import active, label, matching, spelled_out
from sweeps.spec.model import Overrides, Spec
from sweeps.spec.validate import explain, faults
from sweeps.spec.variants import SpecError, Writing, section, writings

__all__ = ["Spec", "Trial", "load_spec", "load_sweep", "trials"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One pipeline to run: a variant and a seed."""

    #: Name of the variant, the same text for all its seeds.
    variant: str
    #: Position among the trials of the sweep; variants stand in the order of the file.
    order: int
    #: True where the others are compared with this variant.
    baseline: bool
    seed: int
    #: Values of the varied knobs that can change this trial's result.
    knobs: Mapping[str, Any]
    pipeline: Pipeline
    #: Artifacts that the trial needs, by pipeline field, upstream first.
    nodes: Mapping[str, Node]

    @property
    def name(self) -> str:
        """Variant and seed as one text."""
        return f"{self.variant} · seed {self.seed}"

    @cached_property
    def identity(self) -> str:
        """Hash of the artifacts by field: trials that agree in all of them are one trial."""
        lines = [f"{field}={node.fingerprint}" for field, node in self.nodes.items()]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def doubts_about(trials: Iterable[Trial]) -> list[str]:
    """Return the reasons for which results of trials may be useless, each once."""
    found: dict[str, None] = {}
    for trial in trials:
        found |= dict.fromkeys(doubts(trial.nodes))
    return list(found)


def load_spec(path: Path) -> Spec:
    """Read the YAML file `path`, and check every value and every combination of values.

    A relative `data_root` or `weights` starts from the file's folder. Neither is read.

    Raises:
        ValueError: one line per fault: `FILE:LINE: key: what is wrong; what is allowed`.
    """
    document, spec = _parse(path)
    with _in_words_of(document):
        # Without its folders, so that a check of the file reads no data set.
        _expand(spec.model_copy(update={"data_root": None, "weights": None}))
    return spec


def load_sweep(
    path: Path, *, data_root: Path | None = None, weights: Path | None = None
) -> tuple[Spec, list[Trial]]:
    """Read the YAML file `path`, check it and expand it, each of them once.

    Args:
        path: the file.
        data_root: the user's data set, instead of the spec's.
        weights: folder of the weight files, instead of the spec's.

    Returns:
        The sweep, and its trials as `trials` returns them.

    Raises:
        ValueError: one line per fault, see `load_spec`; or the data or the weights are at fault.
    """
    document, spec = _parse(path)
    if data_root is not None:
        spec = spec.model_copy(update={"data_root": data_root})
    if weights is not None:
        spec = spec.model_copy(update={"weights": weights})
    with _in_words_of(document):
        return spec, _expand(spec)


def trials(spec: Spec) -> list[Trial]:
    """Return the distinct trials of `spec`: baseline first, in the order of the file, seeds
    innermost.

    Trials with the same identity collapse into the first of them: a knob of a stage that is not
    planned, or that is inactive, makes no difference.

    Raises:
        ValueError: the spec is at fault, values exclude each other, or a named variant is the same
            as another.
    """
    if said := in_bounds(f"sweep {spec.name}: {message}" for _, message in faults(spec)):
        raise ValueError(said)
    try:
        return _expand(spec)
    except SpecError as error:
        raise ValueError(f"sweep {spec.name}: {error}") from None


def distinct_nodes(trials: Iterable[Trial]) -> dict[str, Node]:
    """Return the artifacts of all trials by fingerprint, each once."""
    nodes: dict[str, Node] = {}
    for trial in trials:
        nodes |= {node.fingerprint: node for node in trial.nodes.values()}
    return nodes


def _parse(path: Path) -> tuple[SpecDocument, Spec]:
    """Read a file, and check every value alone."""
    document = read_document(path)
    _load_plugins(document)
    try:
        spec = Spec.model_validate(document.values)
    except ValidationError as error:
        raise ValueError(in_bounds(explain(error, document))) from None
    folders = {"data_root": spec.data_root, "weights": spec.weights}
    absolute = {key: path.parent / folder.expanduser() for key, folder in folders.items() if folder}
    spec = spec.model_copy(update=absolute)
    lines = (f"{document.where(location)}: {message}" for location, message in faults(spec))
    if said := in_bounds(lines):
        raise ValueError(said)
    return document, spec


def _load_plugins(document: SpecDocument) -> None:
    """Load what `plugins` names, before the knobs of its stages are checked."""
    names = document.values.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return  # the model refuses it, with its line
    try:
        load_plugins(names)
    except ValueError as error:
        raise ValueError(f"{document.where(('plugins',))}: {error}") from None


@contextmanager
def _in_words_of(document: SpecDocument) -> Iterator[None]:
    """Give a fault of the sweep its line in the file."""
    try:
        yield
    except SpecError as error:
        raise ValueError(in_bounds([f"{document.where(error.location)}: {error}"])) from None


def _expand(spec: Spec) -> list[Trial]:
    """Return the trials of a sweep whose values are good alone.

    Raises:
        SpecError: values exclude each other, no trial is left, or two named variants are the same.
    """
    distinct: dict[str, Trial] = {}
    first_variants: dict[str, str] = {}
    expand = expansion(spec)
    for writing in writings(spec, spec.base_pipeline()):
        for trial in expand(writing):
            first = distinct.setdefault(trial.identity, trial)
            first_variants.setdefault(trial.variant, first.variant)
            # The baseline may be a point of the grid too: that trial keeps its name and becomes it.
            if trial.baseline and not first.baseline:
                distinct[trial.identity] = replace(first, baseline=True)
    if not distinct and not spec.search:
        raise SpecError(
            ("constraints",), "constraints: no trial satisfies all of them; expected at least one"
        )
    # Points of a grid may fall together in knobs without effect. Two names of a person should not.
    if not spec.grid:
        _check_names(first_variants)
    # The trials of a search do not exist yet.
    if not spec.search:
        _check_claims(spec, distinct.values())
    _check_data_root(spec, distinct.values())
    _check_scores(spec, distinct.values())
    # False comes first, and sorting is stable: the baseline, then the order of the file.
    ordered = sorted(distinct.values(), key=lambda trial: not trial.baseline)
    return [replace(trial, order=order) for order, trial in enumerate(ordered)]


def _check_claims(spec: Spec, trials: Collection[Trial]) -> None:
    """Refuse a claim about trials that the sweep does not have."""
    for index, claim in enumerate([] if isinstance(spec.expect, str) else spec.expect):
        if isinstance(claim, str):
            continue
        for name, side in (("compare", claim.compare), ("against", claim.against)):
            if side is not None and not any(_meant(side, trial) for trial in trials):
                variants = ", ".join(dict.fromkeys(trial.variant for trial in trials))
                raise SpecError(
                    ("expect", index, name),
                    f"expect.{index}.{name}: no trial is meant by {side_text(side)}; "
                    f"the variants are {shortened(variants)}",
                )


def _check_data_root(spec: Spec, trials: Collection[Trial]) -> None:
    """Refuse a folder of data that no trial reads: the data are not those that were meant."""
    if spec.data_root is None or not trials:
        return
    if not any(isinstance(trial.pipeline.data, InPlace) for trial in trials):
        kinds = " or ".join(kind for kind, layout in DATA.items() if issubclass(layout, InPlace))
        raise SpecError(
            ("data_root",),
            f"data_root: no trial reads {spec.data_root}; expected data.kind: {kinds} in base",
        )


def _check_scores(spec: Spec, trials: Collection[Trial]) -> None:
    """Refuse a gate, an objective or a claim whose score no trial has, or needs masks that the data
    has not.
    """
    data = [trial.pipeline.data for trial in trials]
    if not data:
        # Nothing is suggested yet.
        data.append(_pipelines(spec, data_root=spec.data_root, weights=spec.weights)({}).data)
    for location, field in _judged(spec):
        path = ".".join(map(str, location))
        if trials and not any(field in trial.nodes for trial in trials):
            raise SpecError(
                location, f"{path}: expected a stage that a trial of this sweep needs, got {field}"
            )
        split = stage_classes(field)[0].scored_split
        if split and any(stage.num_scored_images(split) == 0 for stage in data):
            raise SpecError(
                location,
                f"{path}: expected a score of {field}, but no image of {split} has a mask: draw "
                "masks for some of them, or remove this key",
            )


def _judged(spec: Spec) -> Iterator[tuple[Location, str]]:
    """Yield the fields whose scores decide something, with the location of the decision."""
    for index, gate in enumerate(spec.gates):
        yield ("gates", index, "after"), gate.after
    for objective in spec.search.objectives if spec.search else ():
        field, slash, _ = objective.partition("/")
        if slash:
            yield ("search", "objectives", objective), field
    for index, claim in enumerate([] if isinstance(spec.expect, str) else spec.expect):
        if not isinstance(claim, str):
            yield ("expect", index, "metric"), claim.metric.partition("/")[0]


def _meant(side: str | Mapping[str, Any], trial: Trial) -> bool:
    """Tell whether one side of a claim is about this trial."""
    if isinstance(side, str):
        return trial.variant == side or (trial.baseline and side == BASELINE)
    return active(trial.nodes, list(side)) == side


def _check_names(first_variants: Mapping[str, str]) -> None:
    """Refuse a named variant that needs the same artifacts as an earlier one."""
    for variant, first in first_variants.items():
        if variant != first:
            raise SpecError(
                section(variant),
                f"variants.{variant}: needs the same artifacts as {first!r}; "
                "remove one of them, or change a knob that makes a difference",
            )


def expansion(spec: Spec) -> Callable[[Writing], list[Trial]]:
    """Return a function from a variant, as it is written down, to its trials, one for each seed."""
    pipeline_with = _pipelines(spec, data_root=spec.data_root, weights=spec.weights)
    known: dict[tuple[str, ...], Node] = {}
    axes = list(itertools.chain.from_iterable(map(knobs_of, spec.axes())))
    varied = [*axes, *spelled_out(itertools.chain(*spec.named().values()), without=axes)]

    def trial(writing: Writing, seed: int, seeds: Overrides) -> Trial:
        try:
            pipeline = pipeline_with(writing.changes | seeds)
            nodes = plan(pipeline, targets=spec.targets, known=known)
        except ValueError as error:
            shown = label(writing.changes, list(writing.changes))
            told = f"{shown}: {error}" if shown else str(error)
            raise SpecError(writing.place, told) from None
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

    return lambda writing: [trial(writing, seed, seeds) for seed, seeds in spec.replicates()]


def _pipelines(
    spec: Spec, *, data_root: Path | None, weights: Path | None
) -> Callable[[Overrides], Pipeline]:
    """Return a function from overrides to pipelines.

    It checks each distinct stage once, because trials share most of them.
    """
    base = spec.base_pipeline()
    with_data_digest = _digests(data_root)
    checked: dict[str, Stage] = {}

    def build(changes: Overrides) -> Pipeline:
        by_field: dict[str, Overrides] = {}
        for key, value in changes.items():
            for knob in matching(key):
                by_field.setdefault(knob.split(".")[0], {})[key] = value
        stages = {field: base.stage(field) for field in pipeline_class().model_fields}
        for field, overrides in by_field.items():
            # As text, since values may be lists, which have no hash.
            key = f"{field} {overrides!r}"
            if key not in checked:
                checked[key] = override(base, changes).stage(field)
            stages[field] = checked[key]
        found = {field: with_digest(stage, weights) for field, stage in stages.items()}
        data = found["data"] = with_data_digest(stages["data"])
        if data_root is not None and isinstance(data, InPlace):
            segment = found["seg"]
            assert isinstance(segment, Segment)
            found["seg"] = segment.resolved(data, data_root)
        # Checked as a whole: stages that are good alone may not fit each other.
        return pipeline_class().model_validate(found)

    return build


def _digests(data_root: Path | None) -> Callable[[Stage], Stage]:
    """Return a function that adds a digest of the user's files to data that is read in place."""

    @cache  # reading a tree takes seconds, and all trials share it
    def resolved(data: InPlace, root: Path) -> Stage:
        return data.resolved(root)

    def fill(data: Stage) -> Stage:
        if data_root is None or not isinstance(data, InPlace):
            return data
        return resolved(data, data_root)

    return fill

"""Makes a trial again from its record in MLflow alone, and compares the metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from mlflow.entities import Run
from pydantic import TypeAdapter, ValidationError

from occse.artifacts.provenance import git_state, package_versions
from occse.data.reading import parse_json
from occse.pipeline import DATA, Node, pipeline_class
from occse.stage import Machine, Stage, fingerprint
from sweeps.store.store import Store
from sweeps.text import Say, duration, table
from sweeps.tracking.query import FINGERPRINT

# The report lists every metric of this name, and of the others those that differ.
SHOWN = "miou"


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One metric as recorded and as it came out here, None where it did not come out at all."""

    name: str
    recorded: float
    here: float | None
    agrees: bool


def rebuild(run: Run) -> dict[str, Node]:
    """Return the stages of a trial by field, upstream first, from the params of its run.

    Params hold the active knobs; the others cannot change a result and take this code's defaults.

    Raises:
        ValueError: the run was imported, a stage, a knob or a value is unknown here, or an input is
            not recorded.
    """
    if source := run.data.tags.get("occse.imported"):
        raise ValueError(
            f"run {run.info.run_id} was imported from {source}; no code here can make it again"
        )
    knobs: dict[str, dict[str, str]] = {}
    for key, text in run.data.params.items():
        field, _, knob = key.partition(".")
        knobs.setdefault(field, {})[knob] = text
    if not knobs or not run.data.metrics:
        raise ValueError(
            f"run {run.info.run_id} has no {'metrics' if knobs else 'params'}: "
            "did its trial come to an end?"
        )
    nodes: dict[str, Node] = {}
    for field in pipeline_class().model_fields:
        # In the order of the pipeline, so that the fingerprints of the inputs are known.
        if field in knobs:
            stage = _stage(field, knobs.pop(field))
            missing = [need for need in stage.needs() if need not in nodes]
            if missing:
                raise ValueError(
                    f"run {run.info.run_id}: {field} needs {', '.join(missing)}, "
                    "but its params have none of their knobs"
                )
            inputs = {need: nodes[need].fingerprint for need in stage.needs()}
            nodes[field] = Node(
                field=field, stage=stage, inputs=inputs, fingerprint=fingerprint(stage, inputs)
            )
    if knobs:
        raise ValueError(
            f"run {run.info.run_id}: this code has no stage {', '.join(knobs)}; {_commit(run)}"
        )
    return nodes


def differences(run: Run, nodes: Mapping[str, Node]) -> Iterator[str]:
    """Yield a line for each stage to which this code gives another fingerprint than the recorded.

    The line names the reason as far as the record tells."""
    recorded = {field: run.data.tags.get(FINGERPRINT + field, "none") for field in nodes}
    changed = [field for field in nodes if nodes[field].fingerprint != recorded[field]]
    for field in changed:
        node = nodes[field]
        new = [knob for knob in node.stage.config() if f"{field}.{knob}" not in run.data.params]
        old = [knob for knob in _recorded_knobs(run, field) if knob not in node.stage.recorded()]
        waits = [need for need in node.inputs if need in changed]
        reasons = [f"the knob {knob} is new here" for knob in new] + [
            f"{knob} has no effect here" for knob in old
        ]
        reasons += [f"it is made from {', '.join(waits)}"] if waits else []
        why = (
            "; ".join(reasons)
            or f"its knobs are the same, so the version of its code was not {node.stage.version}"
        )
        yield f"{field}: recorded {recorded[field]}, here {node.fingerprint}: {why}"


def surroundings(run: Run) -> Iterator[str]:
    """Yield a line for each difference of code and packages from the recorded ones."""
    sha = run.data.tags.get("occse.git.sha", "")
    here = git_state()
    if sha != here["sha"]:
        yield f"commit: recorded {sha[:12] or 'unknown'}, here {here['sha'][:12] or 'unknown'}"
    if run.data.tags.get("occse.git.dirty") == "true" or here["diff"]:
        yield "there are uncommitted changes " + (
            "here" if here["diff"] else "in what was recorded"
        )
    recorded: dict[str, str] = _by_name(run, "occse.packages", kind=str)
    for package, version in package_versions().items():
        if recorded.get(package, version) != version:
            yield f"{package}: recorded {recorded[package]}, here {version}"


def run_again(
    run: Run,
    nodes: Mapping[str, Node],
    store: Store,
    *,
    say: Say,
    machine: Machine,
) -> dict[str, float]:
    """Run the trial's stages in this process; return their metrics as MLflow names them.

    A sum of floating-point numbers depends on the number of threads: each stage gets as many as are
    recorded, else one, and its batches in as many parts."""
    import torch

    threads: dict[str, int] = _by_name(run, "occse.threads", kind=int)
    parts: dict[str, int] = _by_name(run, "occse.accumulated", kind=int)
    metrics: dict[str, float] = {}
    for number, (field, node) in enumerate(nodes.items(), start=1):
        # Set for each stage: a sweep may have given each of them another number of CPUs.
        torch.set_num_threads(threads.get(field) or 1)
        found = store.manifest(node)
        manifest = store.execute(node, machine=replace(machine, accumulate=parts.get(field, 1)))
        how = "made already" if found else duration(manifest.seconds)
        say(f"[{number}/{len(nodes)}] {field:<9} {node.fingerprint}  {how}")
        metrics |= {f"{field}/{name}": value for name, value in manifest.metrics.items()}
    return metrics


def compare(run: Run, metrics: Mapping[str, float], *, tolerance: float) -> list[MetricComparison]:
    """Return every recorded metric beside the one that came out here; NaN equals NaN."""
    return [
        MetricComparison(
            name=name,
            recorded=recorded,
            here=metrics.get(name),
            agrees=_agree(recorded, metrics.get(name), tolerance),
        )
        for name, recorded in sorted(run.data.metrics.items())
    ]


def report(found: Sequence[MetricComparison]) -> list[str]:
    """Return lines for the scores, and for every other metric that differs."""
    shown = [each for each in found if each.name.endswith(f"/{SHOWN}") or not each.agrees]
    rows = [
        (
            each.name,
            repr(each.recorded),
            "missing" if each.here is None else repr(each.here),
            "" if each.here is None else f"{each.here - each.recorded:+.3g}",
            "agrees" if each.agrees else "DIFFERS",
        )
        for each in shown
    ]
    lines = table(("metric", "recorded", "here", "difference", ""), rows) if rows else []
    agreeing = [each for each in found if each.agrees]
    return [*lines, f"{len(agreeing)} of {len(found)} metrics agree"]


def _stage(field: str, texts: Mapping[str, str]) -> Stage:
    kind = texts.get("kind", "")
    annotation: Any = (
        DATA.get(kind) if field == "data" else pipeline_class().model_fields[field].annotation
    )
    if annotation is None:
        raise ValueError(f"data.kind is {kind!r}; this code knows {', '.join(DATA)}")
    unknown = [knob for knob in texts if knob not in annotation.model_fields]
    if unknown:
        raise ValueError(
            f"this code has no knob {', '.join(f'{field}.{knob}' for knob in unknown)}"
        )
    try:
        stage: Stage = annotation.model_validate(
            {knob: _value(annotation, knob, text) for knob, text in texts.items()}
        )
    except ValidationError as error:
        raise ValueError(f"{field}: {error.errors()[0]['msg']} (recorded: {dict(texts)})") from None
    return stage


def _by_name(run: Run, tag: str, *, kind: type) -> dict[str, Any]:
    """Return the values by name that a tag holds as JSON; none where the run has no such tag.

    Raises:
        ValueError: the tag holds something else.
    """
    text = run.data.tags.get(tag, "{}")
    try:
        return {str(name): kind(value) for name, value in parse_json(text).items()}
    except (ValueError, TypeError, AttributeError):
        what = "counts" if kind is int else "texts"
        raise ValueError(
            f"run {run.info.run_id}: tag {tag} is {text[:200]!r}, expected {what} by name"
        ) from None


def _value(stage: type[Stage], knob: str, text: str) -> object:
    """Return the value of a recorded param.

    Text is recorded as it is, everything else as JSON; the knob's type tells which of the two."""
    annotation: Any = stage.model_fields[knob].annotation
    try:
        TypeAdapter(annotation).validate_python(text, strict=True)
    except ValidationError:
        try:
            return parse_json(text)
        except ValueError as error:
            raise ValueError(f"{knob}: recorded as {text[:200]!r}: {error}") from None
    return None if text == "null" and type(None) in get_args(annotation) else text


def _agree(recorded: float, here: float | None, tolerance: float) -> bool:
    if here is None:
        return False
    # NaN is not equal to itself.
    return abs(here - recorded) <= tolerance or (here != here and recorded != recorded)


def _recorded_knobs(run: Run, field: str) -> list[str]:
    return [key.removeprefix(f"{field}.") for key in run.data.params if key.startswith(f"{field}.")]


def _commit(run: Run) -> str:
    return f"it was recorded at commit {run.data.tags.get('occse.git.sha', '')[:12] or 'unknown'}"

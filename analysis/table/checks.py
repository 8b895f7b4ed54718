"""Which cells of a table are stale, or could not be made again, and why."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.table.model import Cell, Column, Table

# a stage rests on those before it
PIPELINE = (
    "data", "pretrain", "oc", "cgnet", "cam", "crf_low", "crf_high", "crf", "affinity", "pseudo", "deeplab", "seg",
)  # fmt: skip
SHOWN = 4
Run = Mapping[Any, Any]


def check(
    table: Table, trials: pd.DataFrame, *, counted: Mapping[str, frozenset[str]]
) -> list[str]:
    """A line per reason, with the cells that it concerns; none where every number can be made
    again.

    Args:
        table: of `trials`.
        trials: from `load`.
        counted: by run id, the stages of which MLflow has counts per image.
    """
    runs = {run["run_id"]: run for run in trials.to_dict("records")}
    cells = list(_cells(table))
    used = [
        (runs[source.run_id], column.metric) for _, column, cell in cells for source in cell.sources
    ]
    usual_code = _most(code for run, metric in used for code in _code(run, metric))
    usual = json.loads(_most(run["packages"] for run, _ in used if run["packages"]) or "{}")
    found: dict[str, list[str]] = {}
    for name, column, cell in cells:
        reasons = list(_incomplete(cell))
        for source in cell.sources:
            reasons += _of_run(
                runs[source.run_id], column.metric, usual_code=usual_code, usual=usual
            )
            if column.score and column.metric.partition("/")[0] not in counted[source.run_id]:
                reasons.append("no counts per image in MLflow: no interval, no other threshold")
        for reason in dict.fromkeys(reasons):
            found.setdefault(reason, []).append(name)
    return [f"{_which(names, len(cells))}: {reason}" for reason, names in found.items()]


def _cells(table: Table) -> Iterator[tuple[str, Column, Cell]]:
    """The cells of ours that should have a number, with the names of row and column."""
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if not column.paper and cell.status != "empty":
                yield f"{', '.join(row.labels)} · {column.label}", column, cell


def _incomplete(cell: Cell) -> Iterator[str]:
    if cell.status in ("failed", "pending"):
        yield f"{cell.planned - cell.n} of {cell.planned} seeds {cell.status}"


def _of_run(run: Run, metric: str, *, usual_code: str, usual: Mapping[str, str]) -> Iterator[str]:
    if run["imported"]:
        yield "imported, so that nothing here can make it again"
        return
    fingerprint = run.get(f"fingerprint.{metric.partition('/')[0]}")
    if not isinstance(fingerprint, str) or not fingerprint:
        yield "no fingerprint of the artifact"
    code = _code(run, metric)
    if not all(code):
        yield "the commit of the code is not known"
    for each in code:
        if each.endswith("+"):
            yield f"made by code with uncommitted changes ({each})"
        elif each and each != usual_code:
            yield f"made by the code of commit {each}, most others by {usual_code}"
    packages = json.loads(run["packages"] or "{}")
    for name in sorted(packages.keys() | usual.keys()):
        if packages.get(name) != usual.get(name):
            yield f"made with {name} {packages.get(name, 'unknown')}, most others with {usual.get(name, 'unknown')}"


def _code(run: Run, metric: str) -> list[str]:
    """The commits that made an artifact and what it rests on; of old records that of the recording
    code.
    """
    field = metric.partition("/")[0]
    before = PIPELINE[: PIPELINE.index(field) + 1] if field in PIPELINE else PIPELINE
    known = [code for each in before if isinstance(code := run.get(f"code.{each}"), str)]
    return sorted(set(known)) or [run["sha"][:12] + "+" * bool(run["dirty"])]


def _most(values: Iterable[str]) -> str:
    ranked = Counter(values).most_common(1)
    return ranked[0][0] if ranked else ""


def _which(names: list[str], total: int) -> str:
    if len(names) == total:
        return f"all {total} cells"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def provenance(table: Table) -> str:
    """Every number and the runs behind it: seed, run id, commit, fingerprint of the artifact that
    was scored.
    """
    lines = []
    for name, column, cell in _cells(table):
        if cell.mean is None:
            continue
        deviation = "" if cell.std is None else f" ± {column.text(cell.std)}"
        lines.append(f"{name} = {column.text(cell.mean)}{deviation}")
        lines += [
            f"  seed {source.seed}  run {source.run_id}  code {source.sha or 'unknown'}  "
            f"artifact {source.fingerprint or 'unknown'}"
            for source in cell.sources
        ]
    return "\n".join(lines)

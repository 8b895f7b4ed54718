"""Say which cells of a table are stale or could not be made again, and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.read.json_text import parse_json
from analysis.read.pipeline import Pipeline, pipeline_of
from analysis.table.model import Cell, Column, Table

#: Cells that a line names; a line of more would fill the screen with one reason.
SHOWN = 4
Run = Mapping[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Usual:
    """Code and packages of most numbers of a table; a check names what differs from them."""

    code: str
    packages: Mapping[str, str]


def check(
    table: Table, trials: pd.DataFrame, *, counted: Mapping[str, frozenset[str]]
) -> list[str]:
    """Return a line per reason with the cells that it concerns; none where all is well.

    Args:
        table: of `trials`.
        trials: from `load`.
        counted: by run id, the stages of which MLflow has counts per image.
    """
    runs = {run["run_id"]: run for run in trials.to_dict("records")}
    pipeline = pipeline_of(trials)
    cells = list(_cells(table))
    used: list[tuple[Run, Column]] = []
    for _, column, cell in cells:
        used += [(runs[source.run_id], column) for source in cell.sources]
    # Held against the majority of the table, not against the code at hand: a table may be checked
    # on any checkout, and what matters is that its numbers belong together.
    usual = _usual(used, pipeline)
    found: dict[str, list[str]] = {}
    for name, column, cell in cells:
        reasons = list(_incomplete(cell))
        for source in cell.sources:
            reasons += _of_run(runs[source.run_id], column, usual=usual, pipeline=pipeline)
            if column.score and column.field not in counted[source.run_id]:
                reasons.append("no counts per image in MLflow: no interval, no other threshold")
        # The seeds of a cell mostly share their reasons.
        for reason in dict.fromkeys(reasons):
            found.setdefault(reason, []).append(name)
    return [f"{_names(names, len(cells))}: {reason}" for reason, names in found.items()]


def _cells(table: Table) -> Iterator[tuple[str, Column, Cell]]:
    """Yield the cells of ours that should have a number, with the names of row and column."""
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if not column.paper and cell.status != "empty":
                yield f"{', '.join(row.labels)} · {column.label}", column, cell


def _usual(used: Iterable[tuple[Run, Column]], pipeline: Pipeline) -> Usual:
    codes = Counter[str]()
    packages = Counter[str]()
    for run, column in used:
        codes.update(_code(run, column, pipeline))
        if run["packages"]:
            # The whole set of versions is counted: the most common version of each package by
            # itself might be a set that no run had.
            packages[run["packages"]] += 1
    return Usual(code=_most(codes), packages=parse_json(_most(packages) or "{}"))


def _most(counter: Counter[str]) -> str:
    ranked = counter.most_common(1)
    return ranked[0][0] if ranked else ""


def _incomplete(cell: Cell) -> Iterator[str]:
    if cell.status in ("failed", "pending"):
        yield f"{cell.planned - cell.n} of {cell.planned} seeds {cell.status}"


def _of_run(run: Run, column: Column, *, usual: Usual, pipeline: Pipeline) -> Iterator[str]:
    if run["imported"]:
        yield "imported, so that nothing here can make it again"
        return
    fingerprint = run.get(f"fingerprint.{column.field}")
    if not isinstance(fingerprint, str) or not fingerprint:
        yield "no fingerprint of the artifact"
    code = _code(run, column, pipeline)
    if not all(code):
        yield "the commit of the code is not known"
    for commit in code:
        # Two equal commits with uncommitted changes may be different code: these are not compared.
        if commit.endswith("+"):
            yield f"made by code with uncommitted changes ({commit})"
        elif commit and commit != usual.code:
            yield f"made by the code of commit {commit}, most others by {usual.code}"
    for field in pipeline.upstream(column.field):
        reason = run.get(f"other_code.{field}")
        if isinstance(reason, str):
            yield f"{field} was {reason}; `run --changed-code rerun` makes it again"
    packages = parse_json(run["packages"] or "{}")
    for name in sorted(packages.keys() | usual.packages.keys()):
        here = packages.get(name, "unknown")
        elsewhere = usual.packages.get(name, "unknown")
        if here != elsewhere:
            yield f"made with {name} {here}, most others with {elsewhere}"


def _code(run: Run, column: Column, pipeline: Pipeline) -> list[str]:
    """Return the commits that made an artifact and those upstream.

    Old records have no commit by stage: theirs is the commit of the code that recorded the trial.
    """
    # Stages upstream count too: their artifacts may come from the store, made by older code.
    commits = [run.get(f"code.{field}") for field in pipeline.upstream(column.field)]
    known = {commit for commit in commits if isinstance(commit, str)}
    if known:
        return sorted(known)
    # As many digits as the commits by stage have, with which it is compared.
    return [run["sha"][:12] + ("+" if run["dirty"] else "")]


def _names(names: list[str], total: int) -> str:
    if len(names) == total:
        return f"all {total} cells"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def provenance(table: Table) -> str:
    """Return every number and the runs behind it: seed, run id, commit, and the fingerprint of the
    artifact that was scored.
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

"""Old results as a CSV file, one row per run: `variant,seed,cam/miou,cgnet.lambda_start,...`."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from occse.data.reading import read_text
from occse.pipeline import pipeline_class
from sweeps.imports.runs import PROTOCOL, UNKNOWN, OldRun, normalized, sha256
from sweeps.spec.knobs import matching

REQUIRED = ("variant", "seed")
KEYS = (*REQUIRED, "baseline", "source")
SCORES = frozenset({"miou", "miou_multi", "iou", "precision", "recall"})
# Longer than any knob; YAML can make much of little text, as with anchors.
MAX_VALUE = 100
# Percent that are all below this are fractions under a wrong name.
LEAST_PERCENT = 0.01
UNITS = {"fraction": 1, "percent": 100}
ALLOWED = (
    f"{', '.join(KEYS)}, metrics such as cam/miou, knobs such as cgnet.lambda_start, and "
    f"{', '.join(PROTOCOL)} (of all scored stages, or of one, as in cam/split)"
)
Cells = Mapping[str, str]


def table_runs(path: Path, *, unit: str | None) -> list[OldRun]:
    """Return the runs in the CSV file `path`; an empty cell stands for an unknown value.

    Args:
        path: the file; its first line names the columns.
        unit: of all scores, `fraction` or `percent`.

    Raises:
        ValueError: a column or a value is not what it should be; the message names file, line
            and column.
    """
    text = read_text(path, expected="a CSV file of old results")
    # `restval`: the cells that a short row lacks are empty, and so unknown.
    reader = csv.DictReader(io.StringIO(text), strict=True, restval="")
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    _check_columns(path, columns)
    made = int(path.stat().st_mtime * 1000)
    source = f"{path} sha256:{sha256(text.encode())}"
    runs = []
    try:
        for row in reader:
            if row.get(None):  # csv puts surplus cells there
                raise ValueError(f"more cells than the {len(columns)} columns")
            cells = {column: text.strip() for column, text in row.items() if text.strip()}
            runs.append(_run(cells, unit, source=source, made=made))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    _check_unit(path, runs, unit)
    return runs


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; it has {', '.join(columns) or 'none'}"
        )
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]!r} twice")
    for name in columns:
        stage = name.partition("/")[0]
        known = (
            name in KEYS
            or name in PROTOCOL
            or ("/" in name and stage in pipeline_class().model_fields)
        )
        if not known and name not in matching("*"):
            raise ValueError(f"{path} has a column {name!r}; allowed are {ALLOWED}")


def _run(cells: Cells, unit: str | None, *, source: str, made: int) -> OldRun:
    missing = [name for name in REQUIRED if name not in cells]
    if missing:
        raise ValueError(f"no {missing[0]}")
    if not cells["seed"].isdecimal():
        raise ValueError(f"seed: {cells['seed']!r} is not a number from 0 on")
    if cells.get("baseline", "false") not in ("true", "false"):
        raise ValueError(f"baseline: {cells['baseline']!r}; allowed are true and false")
    scores = dict(_scores(cells, unit))
    protocol = {
        stage: _protocol(cells, stage)
        for stage in dict.fromkeys(name.partition("/")[0] for name in scores)
    }
    if not protocol:
        raise ValueError("no metric; there must be one such as cam/miou")
    return OldRun(
        variant=cells["variant"],
        seed=int(cells["seed"]),
        baseline=cells.get("baseline") == "true",
        source=source,
        made=made,
        content=repr(sorted(cells.items())) + str(unit),
        scores=scores,
        params={name: _knob(name, text) for name, text in cells.items() if name in matching("*")},
        protocol=protocol,
        pixel_truth=[
            f"{stage}.threshold on {known['split']}"
            for stage, known in protocol.items()
            if _picked(known)
        ],
        notes=[cells["source"]] if "source" in cells else [],
    )


def _scores(cells: Cells, unit: str | None) -> Iterator[tuple[str, float]]:
    for name, text in cells.items():
        stage, slash, metric = name.partition("/")
        if not slash or metric in PROTOCOL:
            continue
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{name}: {text!r} is not a number") from None
        score = metric.partition("/")[0] in SCORES
        if score and unit is None:
            raise ValueError(f"{name}: say with --unit whether scores are a fraction or percent")
        value = value / UNITS[unit] if score and unit else value
        if not math.isfinite(value) or (score and not 0 <= value <= 1):
            raise ValueError(f"{name}: {text} is not a score in the unit {unit}")
        yield f"{stage}/{metric}", value


def _protocol(cells: Cells, stage: str) -> dict[str, str]:
    known = {name: cells.get(f"{stage}/{name}", cells.get(name, UNKNOWN)) for name in PROTOCOL}
    return known | ({"pixel_truth": UNKNOWN} if known["threshold_rule"] == UNKNOWN else {})


def _picked(known: Cells) -> bool:
    """Tell whether the threshold is the best on the split that scores it."""
    return known["threshold_rule"].startswith("best on ")


# Rows repeat their values, and each is checked by making a pipeline of it.
@lru_cache(maxsize=10_000)
def _knob(name: str, text: str) -> str:
    """Return the value of a knob, which is written as in a sweep's file."""
    if len(text) > MAX_VALUE:
        raise ValueError(
            f"{name}: {text[:20]!r}... has {len(text)} characters; expected at most {MAX_VALUE}"
        )
    try:
        return normalized(name, yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"{name}: {text!r} is not a value as a sweep's file has it") from None


def _check_unit(path: Path, runs: Sequence[OldRun], unit: str | None) -> None:
    """Refuse percent that can only be fractions."""
    scores = []
    for run in runs:
        for name, value in run.scores.items():
            if name.split("/")[1] in SCORES:
                scores.append(value)
    if unit == "percent" and scores and max(scores) < LEAST_PERCENT:
        raise ValueError(
            f"{path}: no score is above 1 percent; if they are fractions, give --unit fraction"
        )

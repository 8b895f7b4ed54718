"""Saved views of a sweep on MLflow's page of runs: score columns, runs by variant, and charts.

MLflow 3.15 and later keep a named view as a tag of the experiment, `mlflow.sharedViewState.<id>`,
and open it by `?viewStateShareKey=<id>` in the address. The format of the tag is that of the page
itself, which documents it nowhere: a test opens a view in a browser. Servers that do not know
named views get none."""

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from occse.data.reading import parse_json
from occse.pipeline import scored_fields
from sweeps.spec.trials import Trial

if TYPE_CHECKING:  # importing it takes a second that other commands do without
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
# The first version whose page keeps views with a name.
FIRST_VERSION = (3, 15)
# A server that does not tell its version within seconds does not get views.
VERSION_S = 5.0
# MLflow takes as many characters of an experiment's tag.
TAG_CHARACTERS = 5000
# Charts with more lines than these are a blur, and take the page seconds.
MOST_RUNS = 100
# Section of the parallel coordinates, whose axes need the whole width.
KNOBS_SECTION = "occse-knobs"
# Pixels; the page takes 360 for charts that share the width.
KNOBS_HEIGHT = 400
# What the page of an experiment shows above its runs; a text of a person stays.
NOTE = "mlflow.note.content"
# Parallel coordinates of more knobs are not read.
MOST_KNOBS = 6
SECTION = "occse-scores"
# The page's own ids of its first columns: names, then when a run was made and how long it took.
NAME_COLUMN = "attributes.`Run Name`"
LAST_COLUMNS = ("runDateAndNestInfo", "duration")
# Pixels in which the page shows some thirty letters. By default it has 190, and cuts names of
# variants that differ at their ends.
NAME_WIDTH = 250
# Pixels of a letter of a heading, and of what stands around it; the page has 100 for all of it.
LETTER_WIDTH = 7.5
HEAD_WIDTH = 30
LEAST_WIDTH = 100
Card = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """A named view of the runs of a sweep.

    Attributes:
        key: its id in the address.
        name: in the page's list of views.
        by_variant: whether the runs are grouped, so that columns and charts show means.
        charts: cards of the page of charts.
    """

    key: str
    name: str
    by_variant: bool
    charts: Sequence[Card] = field(default_factory=tuple)


def write_views(
    client: "MlflowClient",
    experiment_id: str,
    trials: Sequence[Trial],
    knobs: Sequence[str],
    *,
    parent: str,
    uri: str,
) -> list[View]:
    """Write the views of a sweep to its experiment, over those of the same ids, and return them.

    None are written for a server that does not know them, or where no stage is scored.

    Args:
        client: of the tracking server.
        experiment_id: of the sweep.
        trials: of the sweep.
        knobs: params, those that vary in the sweep.
        parent: id of the sweep's run.
        uri: of the tracking server.
    """
    planned: set[str] = set()
    for trial in trials:
        planned |= trial.nodes.keys()
    scores = [f"{field}/miou" for field in scored_fields() if field in planned]
    if not scores or version_of(uri) < FIRST_VERSION:
        return []
    known = client.get_experiment(experiment_id).tags
    views = _views(trials, scores, knobs)
    written = []
    for view in views:
        state = _packed(_state(view, scores, knobs, parent=parent))
        old = _envelope(known.get(f"{TAG}{view.key}", ""))
        now_ms = int(1000 * time.time())
        envelope = {
            "name": view.name,
            "createdAt": old.get("createdAt", now_ms),
            "updatedAt": now_ms,
            "state": state,
        }
        text = json.dumps(envelope)
        # a view of dozens of knobs does not fit; the others do
        if len(text) > TAG_CHARACTERS:
            continue
        if old.get("state") != state:
            client.set_experiment_tag(experiment_id, f"{TAG}{view.key}", text)
        written.append(view)
    if written and NOTE not in known:
        links = [f"[{view.name}]({address('', experiment_id, view)[1:]})" for view in written]
        client.set_experiment_tag(experiment_id, NOTE, f"Results: {' · '.join(links)}")
    return written


def _views(trials: Sequence[Trial], scores: Sequence[str], knobs: Sequence[str]) -> list[View]:
    variants = len({trial.variant for trial in trials})
    bars = [_bars(metric, min(max(variants, 10), MOST_RUNS)) for metric in scores]
    own = [_bars(metric, min(max(len(trials), 10), MOST_RUNS)) for metric in scores]
    if len(scores) > 1:
        own.insert(0, _scatter(scores[0], scores[-1]))
    if knobs:
        own.insert(0, _parallel(knobs[:MOST_KNOBS], scores))
    return [
        View(key="occse-variants", name="Variants: mean scores", by_variant=True, charts=bars),
        View(key="occse-trials", name="Trials: knobs and scores", by_variant=False, charts=own),
    ]


def address(server: str, experiment_id: str, view: View) -> str:
    """Return the address of a view on the pages of a server."""
    mode = "" if view.by_variant else "&compareRunsMode=CHART"
    query = f"workflowType=machine_learning&viewStateShareKey={view.key}{mode}"
    return f"{server}/#/experiments/{experiment_id}/runs?{query}"


def version_of(uri: str) -> tuple[int, ...]:
    """Return the version of the MLflow that shows the pages; nothing where it does not tell.

    A database is shown by the MLflow that is installed here.
    """
    if not uri.startswith(("http://", "https://")):
        from mlflow import __version__

        return _numbers(__version__)
    try:
        with urlopen(f"{uri.rstrip('/')}/version", timeout=VERSION_S) as answer:
            return _numbers(answer.read(100).decode(errors="replace"))
    except (URLError, HTTPException, OSError, ValueError):
        return ()


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.strip().split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _state(
    view: View, scores: Sequence[str], knobs: Sequence[str], *, parent: str
) -> dict[str, Any]:
    """Return what the page keeps of a view; it has defaults for the rest."""
    columns = [*(f"metrics.`{key}`" for key in scores), *(f"params.`{key}`" for key in knobs)]
    group = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "occse.label"}],
    }
    widths = {NAME_COLUMN: NAME_WIDTH}
    for column in columns:
        # without `metrics.` or `params.`, which stands above
        heading = column.partition(".")[2]
        widths[column] = max(LEAST_WIDTH, round(LETTER_WIDTH * len(heading)) + HEAD_WIDTH)
    return {
        "searchFilter": "tags.`occse.kind` = 'trial' AND tags.`occse.current` = 'true'",
        "orderByKey": f"metrics.`{scores[-1]}`",
        "orderByAsc": False,
        # the page shows the run above the trials whatever the filter is: it is no point of a chart
        "runsExpanded": {parent: True},
        "runsVisibilityMap": {parent: False},
        "selectedColumns": columns,
        "columnOrder": [NAME_COLUMN, *columns, *LAST_COLUMNS],
        "columnWidths": widths,
        "groupBy": group if view.by_variant else None,
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunCharts": list(view.charts),
        "compareRunSections": [
            _section(KNOBS_SECTION, "Knobs and scores", columns=1, cardHeight=KNOBS_HEIGHT),
            _section(SECTION, "Scores"),
            *_folded(scores),
        ],
    }


def _folded(scores: Sequence[str]) -> list[Card]:
    """Return the sections into which the page puts a chart of every other metric, folded."""
    fields = [score.partition("/")[0] for score in scores]
    names: list[str] = []
    for name in fields:
        names += [name, f"{name}/iou", f"best/{name}", f"mean/{name}"]
    return [_section(f"occse-{name}", name, is_open=False) for name in names]


def _section(uuid: str, name: str, *, is_open: bool = True, **more: object) -> Card:
    return {
        "uuid": uuid,
        "name": name,
        "display": is_open,
        "isReordered": True,
        "deleted": False,
        "isGenerated": not is_open,
        **more,
    }


def _card(kind: str, name: str, **more: object) -> Card:
    return {
        "uuid": f"occse-{kind}-{name}".lower(),
        "type": kind,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "displayName": name,
        **more,
    }


def _bars(metric: str, runs: int) -> Card:
    return _card("BAR", metric, metricKey=metric, runsCountToCompare=runs)


def _scatter(first: str, last: str) -> Card:
    axes = {"xaxis": {"key": first, "type": "METRIC"}, "yaxis": {"key": last, "type": "METRIC"}}
    return _card("SCATTER", f"{last} by {first}", runsCountToCompare=MOST_RUNS, **axes)


def _parallel(knobs: Sequence[str], scores: Sequence[str]) -> Card:
    return _card(
        "PARALLEL",
        "Knobs and scores",
        metricSectionId=KNOBS_SECTION,
        selectedParams=list(knobs),
        selectedMetrics=list(scores),
        showAllRuns=True,
        runsCountToCompare=MOST_RUNS,
    )


def _packed(state: Mapping[str, object]) -> str:
    """Return a state as text, which the page unpacks: a tag is shorter than a plain one."""
    packed = zlib.compress(json.dumps(state).encode(), 9)
    return f"deflate;{base64.b64encode(packed).decode()}"


def _envelope(text: str) -> dict[str, Any]:
    try:
        found = parse_json(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

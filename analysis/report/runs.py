"""Where the numbers come from: the runs, what they rest on, and with which code they were made."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.read.mlflow import tracking_uri
from analysis.read.pipeline import pipeline_of
from analysis.read.tidy import tidy
from analysis.report.blocks import Block, Listing, Section, Text
from analysis.report.material import Material, packages
from analysis.report.words import listed
from analysis.table.grid import Grid, GridCell, cell
from analysis.table.html import VIEW

ABOUT = ("data", "split", "threshold_rule", "crf", "scales", "init", "pixel_truth")


def ledger(material: Material) -> Section:
    """What the numbers of each stage were measured on, and what the pixel ground truth had a hand
    in.
    """
    frame = tidy(material.current)
    frame = frame[frame["subset"] == "all"]
    groups = frame.fillna({"pixel_truth": ""}).groupby(["stage", *ABOUT], sort=False, dropna=False)
    stages = pipeline_of(material.current).scored
    order = sorted(groups, key=lambda item: stages.index(str(item[0][0])))
    rows = [
        [*(cell(value or "nothing") for value in key), cell(group["run_id"].nunique())]
        for key, group in order
    ]
    uses = sorted({use for text in frame["pixel_truth"] for use in text.split(", ") if use})
    chosen = (
        f"Chosen with pixel ground truth: {listed(uses)}."
        if uses
        else "Nothing was chosen with pixel ground truth."
    )
    heads = ["stage", *(name.replace("_", " ") for name in ABOUT[:-1]), "pixel truth chose", "runs"]
    grid = Grid(
        name="supervision", caption="What each stage's score rests on", heads=heads, rows=rows
    )
    text = Text(
        paragraphs=[
            f"Training sees image labels alone; pixel ground truth scores the results. {chosen}"
        ]
    )
    return Section(key="supervision", title="Supervision", blocks=[text, grid])


def environment(material: Material) -> Section:
    """Commits, packages and devices."""
    trials = material.trials
    commits = Counter(zip(trials["sha"], trials["dirty"], strict=True))
    rows = [
        [cell(sha or "not recorded"), cell("yes" if dirty else "no"), cell(count)]
        for (sha, dirty), count in commits.items()
    ]
    blocks: list[Block] = [
        Grid(
            name="commits",
            caption="Commits of the code",
            heads=["commit", "uncommitted changes", "trials"],
            rows=rows,
        )
    ]
    if versions := packages(trials):
        cells = [[cell(package), cell(", ".join(found))] for package, found in versions.items()]
        blocks.append(
            Grid(name="packages", caption="Packages", heads=["package", "version"], rows=cells)
        )
    return Section(key="environment", title="Environment", blocks=blocks)


def again(material: Material) -> Section:
    """The commands that make the runs, and this report, again."""
    lines = []
    for sweep in material.sweeps:
        if sweep.sha:
            lines.append(f"git checkout {sweep.sha}")
        if sweep.command:
            lines.append(sweep.command)
    reproduce = "What is in the store is not made again. One run: python -m sweeps reproduce RUN, by the ids above."
    files = (
        "Beside this page: report.pdf and report.tex; tables/*.tex to \\input, and tables/*.csv; report.xlsx with a "
        "sheet per table; figures/ as PDF and PNG."
    )
    return Section(
        key="again",
        title="How to make it again",
        blocks=[
            Listing(text="\n".join([*lines, material.again])),
            Text(paragraphs=[reproduce, files]),
        ],
    )


def anchors(trials: pd.DataFrame) -> dict[str, str]:
    """The id of the place in the section of runs where those of a variant start, by run, and by
    variant.
    """
    pairs = list(dict.fromkeys(zip(trials["experiment"], trials["variant"], strict=True)))
    places = {pair: f"runs-{number}" for number, pair in enumerate(pairs, start=1)}
    by_run = {
        run["run_id"]: places[run["experiment"], run["variant"]]
        for run in trials.to_dict("records")
    }
    return {variant: place for (_, variant), place in places.items()} | by_run


def provenance(material: Material) -> Section:
    """Every run, variant by variant: the places that the cells of the results link to."""
    trials = material.current
    places = anchors(trials)
    runs = sorted(
        trials.to_dict("records"), key=lambda run: int(places[run["run_id"]].removeprefix("runs-"))
    )
    starts = [places[run["run_id"]] for run in runs]
    ids = [place if place not in starts[:row] else "" for row, place in enumerate(starts)]
    lines = [_about(run, material) for run in runs]
    told = [head for head in lines[0] if any(line[head].text for line in lines)] if lines else []
    grid = Grid(
        name="runs",
        caption="All runs, by variant",
        heads=told,
        rows=[[line[head] for head in told] for line in lines],
        ids=ids,
    )
    text = "A cell of the results leads to the runs that it is the mean of. Run ids are those of MLflow."
    return Section(key="provenance", title="Provenance", blocks=[Text(paragraphs=[text]), grid])


def _about(run: Mapping[Any, Any], material: Material) -> dict[str, GridCell]:
    """The cells of a run by heading; a column without any text is left out."""
    status = f"stopped after {run['stopped']}" if run["stopped"] else str(run["status"]).lower()
    page = f"{tracking_uri(material.tracking)}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}{VIEW}"
    return {
        "variant": GridCell(text=str(run["variant"])),
        "experiment": GridCell(text=str(run["experiment"]) if len(material.sweeps) > 1 else ""),
        "seed": cell(run["seed"]),
        **{
            f"{stage}/miou": _value(run, f"{stage}/miou")
            for stage in pipeline_of(material.trials).scored
        },
        "status": GridCell(text=f"failed: {run['failed']}" if run["failed"] else status),
        "run": GridCell(
            text=str(run["run_id"]), link=page if page.startswith(("http://", "https://")) else ""
        ),
        "commit": GridCell(text=str(run["sha"])[:7] + " with changes" * bool(run["dirty"])),
        "imported from": GridCell(text=str(run["imported"])),
    }


def _value(run: Mapping[Any, Any], metric: str) -> GridCell:
    value = run.get(metric)
    return cell(f"{100 * value:.2f}" if isinstance(value, float) and value == value else "")

"""The origin of the numbers: the runs, what they rest on, and with which code they were made."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.read.pipeline import pipeline_of
from analysis.read.tidy import tidy
from analysis.report.blocks import Block, Folded, Listing, Section, Text
from analysis.report.material import Material, packages
from analysis.table.grid import Grid, GridCell, cell, named
from analysis.table.pixel_truth import use_name
from occse.naming.counts import listed

# Columns of the tidy frame that tell what a score rests on.
PROTOCOL = ("data", "split", "threshold_rule", "crf", "scales", "init", "pixel_truth")


def supervision(material: Material) -> Section:
    """Return what each score was measured on, and what was chosen with pixel ground truth."""
    frame = tidy(material.current)
    labels = material.labels
    frame = frame[frame["subset"] == "all"].fillna({"pixel_truth": ""})
    # pandas drops a group whose key has a missing value, unless it is told not to.
    groups = frame.groupby(["stage", *PROTOCOL], sort=False, dropna=False)
    stages = pipeline_of(material.current).scored
    # An item is a key and its rows, and the key begins with the stage.
    ranked = sorted(groups, key=lambda item: stages.index(str(item[0][0])))
    rows = []
    for key, group in ranked:
        stage, *told = map(str, key)
        *about, used = told
        truth = ", ".join(use_name(use, labels) for use in used.split(", ") if use)
        cells = [named(labels.stage(stage), stage), *map(cell, about)]
        cells.append(named(truth or "nothing", used))
        rows.append([*cells, cell(group["run_id"].nunique())])
    uses: set[str] = set()
    for text in frame["pixel_truth"]:
        uses |= {use_name(use, labels) for use in text.split(", ") if use}
    chosen = "Nothing was chosen with pixel ground truth."
    if uses:
        chosen = f"Chosen with pixel ground truth: {listed(sorted(uses))}."
    heads = [name.replace("_", " ") for name in PROTOCOL[:-1]]
    grid = Grid(
        name="supervision",
        caption="Data, split, threshold and CRF behind each stage's score",
        heads=["stage", *heads, "pixel truth chose", "runs"],
        rows=rows,
    )
    line = f"Training sees image labels alone; pixel ground truth scores the results. {chosen}"
    blocks: list[Block] = [
        Text(paragraphs=[line]),
        Folded(title="What each stage's score rests on", blocks=[grid]),
    ]
    return Section(key="supervision", title="Supervision", blocks=blocks)


def environment(material: Material) -> Section:
    """Return commits, packages and devices."""
    trials = material.trials
    commits = Counter(zip(trials["sha"], trials["dirty"], strict=True))
    rows = [
        [cell(sha or "not recorded"), cell("yes" if dirty else "no"), cell(count)]
        for (sha, dirty), count in commits.items()
    ]
    grid = Grid(
        name="commits",
        caption="Commits of the code",
        heads=["commit", "uncommitted changes", "trials"],
        rows=rows,
    )
    blocks: list[Block] = [grid]
    versions = packages(trials)
    if versions:
        rows = [[cell(package), cell(", ".join(found))] for package, found in versions.items()]
        installed = Grid(
            name="packages", caption="Versions", heads=["package", "version"], rows=rows
        )
        blocks.append(Folded(title="Packages", blocks=[installed]))
    return Section(key="environment", title="Environment", blocks=blocks)


def again(material: Material) -> Section:
    """Return the commands that make the runs, and this report, again."""
    lines = []
    mixed = []
    for sweep in material.sweeps:
        # The sweep's own run has the commit of its last start, which may have made nothing.
        commits = Counter(sha for sha in sweep.trials["sha"] if sha)
        if commits:
            lines.append(f"git checkout {commits.most_common(1)[0][0]}")
        if len(commits) > 1:
            mixed.append(
                f"{sweep.prefix}The trials were recorded by {len(commits)} commits; the command "
                "has that of most. The others are listed above."
            )
        if sweep.command:
            lines.append(sweep.command)
    reproduce = (
        "What is in the store is not made again. One run: python -m sweeps reproduce RUN, by the "
        "ids above."
    )
    files = (
        "Beside this page: report.pdf and report.tex; tables/*.tex to \\input, and tables/*.csv; "
        "report.xlsx with a sheet per table; figures/ as PDF and PNG."
    )
    listing = Listing(text="\n".join([*lines, material.again]))
    blocks: list[Block] = [listing, Text(paragraphs=[*mixed, reproduce, files])]
    return Section(key="again", title="How to make it again", blocks=blocks)


def anchors(trials: pd.DataFrame) -> dict[str, str]:
    """Return the id of the first row of a variant in the table of runs, by run and by variant."""
    pairs = list(zip(trials["experiment"], trials["variant"], strict=True))
    ids = {pair: f"runs-{number}" for number, pair in enumerate(dict.fromkeys(pairs), start=1)}
    by_variant = {variant: row_id for (_, variant), row_id in ids.items()}
    by_run = {run: ids[pair] for run, pair in zip(trials["run_id"], pairs, strict=True)}
    return by_variant | by_run


def provenance(material: Material) -> Section:
    """Return every run, variant by variant: the rows that the cells of the results link to."""
    trials = material.current
    targets = anchors(trials)
    # By the number in the id: as texts, `runs-10` would come before `runs-2`.
    runs = sorted(
        trials.to_dict("records"), key=lambda run: int(targets[run["run_id"]].partition("-")[2])
    )
    ids: list[str] = []
    known: set[str] = set()
    for run in runs:
        target = targets[run["run_id"]]
        # An id stands once in a page: on the first row of each variant.
        ids.append("" if target in known else target)
        known.add(target)
    names: dict[tuple[str, str], str] = {}
    for sweep in material.sweeps:
        names |= {(sweep.name, variant): name for variant, name in sweep.names.items()}
    lines = [_cells(run, material, names[run["experiment"], run["variant"]]) for run in runs]
    heads: list[str] = []
    if lines:  # a column without any text is left out
        heads = [head for head in lines[0] if any(line[head].text for line in lines)]
    grid = Grid(
        name="runs",
        caption="All runs, by variant; scores in percent",
        heads=[material.labels.metric(head) for head in heads],
        keys=heads,
        rows=[[line[head] for head in heads] for line in lines],
        ids=ids,
    )
    text = (
        "A cell of the results leads to the runs that it is the mean of. Run ids are those of "
        "MLflow."
    )
    return Section(key="provenance", title="All runs", blocks=[Text(paragraphs=[text]), grid])


def _cells(run: Mapping[Any, Any], material: Material, name: str) -> dict[str, GridCell]:
    """Return the cells of a run by heading."""
    stage_name = material.labels.stage
    status = str(run["status"]).lower()
    if run["stopped"]:
        status = f"stopped after {stage_name(run['stopped'])}"
    if run["failed"]:
        status = f"failed: {stage_name(run['failed'])}"
    commit = str(run["sha"])[:7]
    if run["dirty"]:
        commit += " with changes"
    several = len(material.sweeps) > 1
    stages = pipeline_of(material.trials).scored
    return {
        "variant": named(name, str(run["variant"])),
        "experiment": GridCell(text=str(run["experiment"]) if several else ""),
        "seed": cell(run["seed"]),
        **{f"{stage}/miou": _score(run, f"{stage}/miou") for stage in stages},
        "status": GridCell(text=status),
        "run": GridCell(text=str(run["run_id"]), run=f"{run['experiment_id']}/{run['run_id']}"),
        "commit": GridCell(text=commit),
        "imported from": GridCell(text=str(run["imported"])),
    }


def _score(run: Mapping[Any, Any], metric: str) -> GridCell:
    value = run.get(metric)
    if not isinstance(value, float) or value != value:
        return cell("")
    return cell(f"{100 * value:.2f}")

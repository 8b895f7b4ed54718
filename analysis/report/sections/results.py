"""The results table, and what of it is more than noise."""

from collections.abc import Mapping, Sequence

from analysis.read.artifacts import counted_stages
from analysis.report.blocks import (
    Block,
    Folded,
    Section,
    Text,
    beside,
    method_block,
    passage_blocks,
)
from analysis.report.findings import Finding
from analysis.report.material import Material, Sweep
from analysis.report.pictures import attempt, differences
from analysis.report.sections.runs import anchors
from analysis.studies.compare import comparison_passage
from analysis.table.build import build
from analysis.table.checks import check
from analysis.table.formats.cell_texts import GLYPHS, Notation, cell_text, header_texts, name_texts
from analysis.table.formats.csv_file import to_csv
from analysis.table.formats.latex import latex
from analysis.table.formats.legend import legend, summary
from analysis.table.grid import Grid, GridCell, Passage, cell
from analysis.table.model import Cell, Column, Row, Table

PLAIN = Notation(
    escape=lambda text: " ".join(text.split()),
    # The best is marked by the cell, for the page and for paper, and not in its text.
    bold=str,
    second=str,
    second_is="underlined",
    plus_minus="±",
    minus="−",
    dagger="†",
    section="§",
    glyphs=GLYPHS,
)


def results(material: Material) -> Section:
    """Return mean and deviation of every variant; each number leads to its runs."""
    table = build(material.trials, allow_mixed=True)
    targets = anchors(material.current)
    failures = [f"{PLAIN.glyphs['failed']} {failure}" for failure in table.failures]
    grid = Grid(
        name="results",
        caption="Mean and deviation of every variant",
        heads=header_texts(table, PLAIN),
        rows=[_row(row, table, targets) for row in table.rows],
        notes=[*legend(table, PLAIN), *summary(table, PLAIN), *failures],
        latex=latex(table),
        csv=to_csv(table),
    )
    title = "Is everything recorded that is needed to make these numbers again?"
    checked = Folded(title=title, blocks=[Text(paragraphs=_checked(table, material))])
    return Section(key="results", title="Results", blocks=[grid, checked])


def _checked(table: Table, material: Material) -> list[str]:
    """Return the findings of `python -m analysis table --check`."""
    runs: set[str] = set()
    for row in table.rows:
        for own in row.cells:
            runs |= {source.run_id for source in own.sources}
    try:
        counted = {run: counted_stages(run, tracking=material.tracking) for run in runs}
    except (ValueError, ConnectionError) as error:
        return [f"Not checked: {error}."]
    faults = [f"{line}." for line in check(table, material.trials, counted=counted)]
    return faults or [
        "Yes: they come from one commit and one set of packages, and all counts per image are in "
        "MLflow. Another kind of processor rounds differently, so its digits may differ."
    ]


def comparisons(material: Material, found: Mapping[str, Sequence[Finding]]) -> Section:
    """Return every variant against the baseline of its sweep, score by score."""
    blocks: list[Block] = []
    passages: list[Passage] = []
    for sweep in material.sweeps:
        for finding in found[sweep.name]:
            if finding.why_not:
                reason = f"nothing is compared: {finding.why_not}."
                blocks.append(Text(paragraphs=[f"{sweep.prefix}{finding.metric}: {reason}"]))
            if finding.comparisons:
                passage = comparison_passage(finding.comparisons, finding.stage, sweep.naming)
                passages.append(passage)
                blocks += _with_picture(sweep, finding, passage)
            if finding.multi:
                passage = comparison_passage(
                    finding.multi, finding.stage, sweep.naming, subset="multi"
                )
                title = f"{sweep.prefix}{finding.metric} on the images with several classes"
                own = _blocks(sweep, passage)
                blocks.append(Folded(title=title, blocks=own))
    blocks += method_block(passages)
    return Section(key="comparisons", title="Comparisons with the baseline", blocks=blocks)


def _blocks(sweep: Sweep, passage: Passage) -> list[Block]:
    return passage_blocks(passage, prefix=sweep.prefix, suffix=sweep.suffix)


def _with_picture(sweep: Sweep, finding: Finding, passage: Passage) -> list[Block]:
    # The grid, with the notes below it, is the last block of a passage.
    *others, grid = _blocks(sweep, passage)
    picture = None
    if finding.stage != sweep.last_stage:  # that of the last stage stands on the first page
        picture = attempt(sweep, "differences", lambda: differences(finding, sweep.names), [])
    return [*others, *beside(grid, picture)]


def _row(row: Row, table: Table, targets: Mapping[str, str]) -> list[GridCell]:
    """Return a row whose numbers link to the runs of its variant."""
    target = targets.get(row.names[-1], "")
    # Two sweeps may have a variant of one name: a run behind a number tells which one is meant.
    for own in row.cells:
        if own.sources:
            target = targets[own.sources[0].run_id]
            break
    names = [GridCell(text=text) for text in name_texts(row, PLAIN)]
    numbers = [
        _number(own, column, row, target)
        for own, column in zip(row.cells, table.columns, strict=True)
    ]
    return [*names, cell(row.seeds), *numbers]


def _number(own: Cell, column: Column, row: Row, target: str) -> GridCell:
    return GridCell(
        text=cell_text(own, column, row, PLAIN),
        sort=own.mean,
        link=f"#{target}" if target else "",
        best=own.best,
        second=own.second,
    )

"""The results table, and what of it is more than noise."""

from collections.abc import Mapping, Sequence

from analysis.read.artifacts import counted_stages
from analysis.report.blocks import Block, Section, Text, passage_blocks
from analysis.report.findings import Finding
from analysis.report.material import Material
from analysis.report.runs import anchors
from analysis.studies.compare import comparison_passage
from analysis.table.build import build
from analysis.table.checks import check
from analysis.table.grid import Grid, GridCell, cell
from analysis.table.latex import latex
from analysis.table.markdown import (
    Style,
    cell_text,
    header_texts,
    legend,
    name_texts,
    summary,
    to_csv,
)
from analysis.table.model import Cell, Column, Row, Table

PLAIN = Style(
    escape=lambda text: " ".join(text.split()),
    bold=str,
    second=str,
    second_is="underlined",
    plus_minus="±",
    minus="−",
    dagger="†",
    section="§",
    glyphs={"failed": "✗", "pending": "…", "stopped": "⊘", "empty": "–", "unknown": "?"},
)


def results(material: Material) -> Section:
    """Mean and deviation of every variant; each number leads to its runs."""
    table = build(material.trials, allow_mixed=True)
    places = anchors(material.current)
    failures = [f"{PLAIN.glyphs['failed']} {failure}" for failure in table.failures]
    grid = Grid(
        name="results",
        caption="Results",
        heads=header_texts(table, PLAIN),
        rows=[_row(row, table, places) for row in table.rows],
        notes=[*legend(table, PLAIN), *summary(table, PLAIN), *failures],
        latex=latex(table),
        csv=to_csv(table),
    )
    checked = Text(title="Can these numbers be made again?", paragraphs=_checked(table, material))
    return Section(key="results", title="Results", blocks=[grid, checked])


def _checked(table: Table, material: Material) -> list[str]:
    """What `python -m analysis table --check` says."""
    runs = {source.run_id for row in table.rows for cell in row.cells for source in cell.sources}
    try:
        counted = {run: counted_stages(run, tracking=material.tracking) for run in runs}
    except (ValueError, ConnectionError) as error:
        return [f"Not checked: {error}."]
    faults = [f"{line}." for line in check(table, material.trials, counted=counted)]
    return faults or [
        "Yes: they come from one commit and one set of packages, and all counts per image are in MLflow."
    ]


def comparisons(material: Material, found: Mapping[str, Sequence[Finding]]) -> Section:
    """Return every variant against the baseline of its sweep, stage by stage."""
    blocks: list[Block] = []
    methods: list[str] = []
    several = len(material.sweeps) > 1
    for sweep in material.sweeps:
        prefix = f"{sweep.name}: " if several else ""
        suffix = f"_{sweep.key}" if several else ""
        for finding in found[sweep.name]:
            if finding.why_not:
                line = (
                    f"{prefix}{finding.stage}/miou: nothing is compared, since {finding.why_not}."
                )
                blocks.append(Text(paragraphs=[line]))
            for subset, compared in (("all", finding.comparisons), ("multi", finding.multi)):
                if compared:
                    passage = comparison_passage(compared, finding.stage, subset=subset)
                    blocks += passage_blocks(passage, prefix=prefix, suffix=suffix)
                    methods += passage.method
    if methods:
        blocks.append(Text(paragraphs=list(dict.fromkeys(methods))))
    return Section(key="comparisons", title="Comparisons", blocks=blocks)


def _row(row: Row, table: Table, places: Mapping[str, str]) -> list[GridCell]:
    """A row whose numbers link to the runs of its variant."""
    of_row = next(
        (places[run.run_id] for each in row.cells for run in each.sources),
        places.get(row.names[-1], ""),
    )
    names = [cell(text) for text in name_texts(row, PLAIN)]
    return [
        *names,
        cell(row.seeds),
        *(
            _number(each, column, row, of_row)
            for each, column in zip(row.cells, table.columns, strict=True)
        ),
    ]


def _number(found: Cell, column: Column, row: Row, place: str) -> GridCell:
    text = cell_text(found, column, row, PLAIN)
    return GridCell(
        text=text,
        sort=found.mean,
        link=f"#{place}" if place else "",
        best=found.best,
        second=found.second,
    )

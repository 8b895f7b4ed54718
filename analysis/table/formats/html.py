"""A `Table` as a fragment of HTML that needs nothing else: its own style, and links from numbers to
their runs.
"""

from html import escape

from analysis.table.formats.cell_texts import GLYPHS, Notation, cell_texts, header_texts, name_texts
from analysis.table.formats.legend import legend, summary
from analysis.table.model import Cell, Row, Source, Table

VIEW = "?workflowType=machine_learning"  # by default MLflow shows its pages for language models
HTML = Notation(
    escape=lambda text: escape(" ".join(text.split())),
    bold=lambda text: f"<strong>{text}</strong>",
    second=lambda text: f"<u>{text}</u>",
    second_is="underlined",
    plus_minus="±",
    minus="−",
    dagger="<sup>†</sup>",
    section="<sup>§</sup>",
    glyphs=GLYPHS,
)
STYLE = """<style>
.occse-table { margin: 1em 0; overflow-x: auto; font-variant-numeric: tabular-nums; }
.occse-table table { border-collapse: collapse; border-block: 2px solid currentColor; }
.occse-table thead { border-bottom: 1px solid currentColor; }
.occse-table th, .occse-table td { padding: 0.25em 0.75em; text-align: right; font-weight: normal; }
.occse-table td { white-space: nowrap; }
.occse-table .name { text-align: left; white-space: normal; min-width: 6em; }
.occse-table td a { color: inherit; text-decoration: none; }
.occse-table td a:hover, .occse-table td a:focus { text-decoration: underline; }
.occse-table .runs { font-size: 75%; opacity: 0.75; }
.occse-table .runs a { text-decoration: underline; }
.occse-table caption { text-align: left; font-weight: bold; padding-bottom: 0.5em; }
.occse-table figcaption { font-size: 85%; max-width: 60em; }
.occse-table figcaption p { margin: 0.25em 0; }
</style>"""


def html(table: Table, *, server: str = "", style: bool = True) -> str:
    """The table with its notes in a `figure`.

    Args:
        table: what to show.
        server: where readers see MLflow; a cell links to each of its runs, if it is known.
        style: include the style; a page with several tables needs it once.
    """
    heads = [
        f'<th scope="col"{_name(place, table)}>{text}</th>'
        for place, text in enumerate(header_texts(table, HTML))
    ]
    failures = [f"{HTML.glyphs['failed']} {HTML.escape(failure)}" for failure in table.failures]
    notes = [*legend(table, HTML), *summary(table, HTML), *failures]
    return "\n".join(
        [
            *([STYLE] if style else []),
            '<figure class="occse-table">',
            "<table>",
            *([f"<caption>{HTML.escape(table.title)}</caption>"] if table.title else []),
            f"<thead><tr>{''.join(heads)}</tr></thead>",
            "<tbody>",
            *(_row(row, table, server) for row in table.rows),
            "</tbody>",
            "</table>",
            f"<figcaption>{''.join(f'<p>{note}</p>' for note in notes)}</figcaption>",
            "</figure>\n",
        ]
    )


def _row(row: Row, table: Table, server: str) -> str:
    names = [f'<th scope="row" class="name">{text}</th>' for text in name_texts(row, HTML)]
    cells = [
        f"<td{_value(cell)}>{text}{_links(cell, server)}</td>"
        for cell, text in zip(row.cells, cell_texts(table, row, HTML), strict=True)
    ]
    return f"<tr>{''.join(names)}<td>{row.seeds}</td>{''.join(cells)}</tr>"


def _name(place: int, table: Table) -> str:
    return ' class="name"' if place < len(table.heads) else ""


def _value(cell: Cell) -> str:
    """The number in full precision, for scripts that sort."""
    return "" if cell.mean is None else f' data-value="{cell.mean!r}"'


def _links(cell: Cell, server: str) -> str:
    """A link to each run, named by its seed."""
    links = [_link(run, server) for run in cell.sources]
    return f' <span class="runs">{" ".join(links)}</span>' if links else ""


def _link(run: Source, server: str) -> str:
    if not server:
        return f'<span title="seed {run.seed}, run {escape(run.run_id)}">{run.seed}</span>'
    # MLflow's pages are one program in the browser, which reads the address behind `#`.
    place = f"experiments/{escape(run.experiment_id)}/runs/{escape(run.run_id)}"
    return (
        f'<a href="{escape(server)}/#/{place}{VIEW}" '
        f'title="seed {run.seed}, run {escape(run.run_id)}">{run.seed}</a>'
    )

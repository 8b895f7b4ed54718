"""A `Table` as Markdown and as CSV, and the wording that Markdown and LaTeX share."""

import csv
import io
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.tables import Cell, Column, Status, Table

MEANING: Mapping[Status, str] = {
    "failed": "failed",
    "pending": "pending: not there yet",
    "empty": "empty: the trial does not have this stage",
}
CSV_HEADER = ("variant", "metric", "mean", "std", "n", "planned", "status")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a format writes what the table says."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    plus_minus: str
    dagger: str
    glyphs: Mapping[Status, str]


MARKDOWN = Style(
    escape=lambda text: " ".join(text.split()).replace("|", r"\|"),
    bold=lambda text: f"**{text}**",
    plus_minus="±",
    dagger="†",
    glyphs={"failed": "✗", "pending": "…", "empty": "–"},
)


def header_texts(table: Table, style: Style) -> list[str]:
    """The names of the columns, with a dagger where pixel ground truth was used."""
    metrics = [style.escape(column.metric) + style.dagger * bool(column.pixel_truth) for column in table.columns]
    return ["variant", "n", *metrics]


def row_texts(table: Table, style: Style) -> list[list[str]]:
    """The cells below the header, label and number of seeds included."""
    return [
        [
            style.escape(row.label) + (" (baseline)" if row.baseline else ""),
            str(row.seeds),
            *(_cell_text(cell, column, style) for cell, column in zip(row.cells, table.columns, strict=True)),
        ]
        for row in table.rows
    ]


def _cell_text(cell: Cell, column: Column, style: Style) -> str:
    glyph = style.glyphs.get(cell.status, "")
    if cell.mean is None:
        return glyph
    text = column.text(cell.mean)
    if cell.std is not None:
        text += f" {style.plus_minus} {column.text(cell.std)}"
    if cell.best:
        text = style.bold(text)
    return text if cell.n == cell.planned else f"{text} (n={cell.n} of {cell.planned} {glyph})"


def legend(table: Table, style: Style) -> list[str]:
    """What the glyphs and daggers of this table mean; nothing where it has none."""
    used = {cell.status for row in table.rows for cell in row.cells}
    glyphs = [f"{style.glyphs[status]} {style.escape(text)}" for status, text in MEANING.items() if status in used]
    lines = ["; ".join(glyphs) + "."] if glyphs else []
    for column in table.columns:
        for use in column.pixel_truth:
            chosen, _, split = use.partition(" on ")
            where = f" of {split}" if split else ""
            note = f"{chosen} was chosen with the pixel ground truth{where}: "
            note += f"{column.metric} is more than image labels alone can give."
            lines.append(f"{style.dagger} {style.escape(note)}")
    return lines


def summary(table: Table, style: Style) -> list[str]:
    """What the numbers are and which runs they come from."""
    best = " The best mean of a column is bold, ties as printed." if any(c.score for c in table.columns) else ""
    runs = ", ".join(f"{count} {status.lower()}" for status, count in table.runs.items())
    lines = [f"Mean {style.plus_minus} sample standard deviation over n seeds; scores in percent.{best}"]
    if table.common:
        lines.append(f"All variants: {style.escape(', '.join(table.common))}.")
    lines.append(f"Experiment {style.escape(table.experiment)}: {sum(table.runs.values())} trials ({runs}).")
    if table.left_out:
        lines.append(f"Left out: {table.left_out} trials that the sweep's file no longer asks for.")
    return lines


def markdown(table: Table) -> str:
    """GitHub Markdown with columns aligned for a terminal, and the notes below."""
    header, rows = header_texts(table, MARKDOWN), row_texts(table, MARKDOWN)
    widths = [max(3, *(display_width(text) for text in column)) for column in zip(header, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    failures = [f"{MARKDOWN.glyphs['failed']} {MARKDOWN.escape(failure)}" for failure in table.failures]
    notes = [*legend(table, MARKDOWN), *summary(table, MARKDOWN), *failures]
    return "\n".join([*(_line(texts, widths) for texts in (header, rule, *rows)), "", *notes]) + "\n"


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    """The first column is flush left, numbers are flush right."""
    padding = [" " * (width - display_width(text)) for text, width in zip(texts, widths, strict=True)]
    cells = [texts[0] + padding[0], *(pad + text for text, pad in zip(texts[1:], padding[1:], strict=True))]
    return f"| {' | '.join(cells)} |"


def display_width(text: str) -> int:
    """How many terminal cells `text` takes."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def to_csv(table: Table) -> str:
    """One line per variant and metric with the numbers in full precision; scores in percent, as in the table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            writer.writerow([row.variant, column.metric, cell.mean, cell.std, cell.n, cell.planned, cell.status])
    return text.getvalue()

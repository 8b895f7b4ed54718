"""A `Table` as Markdown and as CSV, and the wording that the formats for readers share."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from scipy.special import stdtrit

from analysis.table.grid import in_markdown
from analysis.table.model import Cell, Column, Row, Status, Table
from analysis.table.pixel_truth import NOT_KNOWN

MEANING: Mapping[Status, str] = {
    "failed": "failed",
    "pending": "pending: not there yet",
    "stopped": "stopped by a gate",
    "empty": "empty: no such trial, or it does not have this stage",
    "unknown": "not known",
}
NUMBERS = ("mean", "std", "n", "planned", "status")
MORE = ("unit", "low", "high", "baseline")
# With more seeds an agreement to the printed digit says that the spread is small.
FEW_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Style:
    """Notation of a format. `dagger` marks pixel ground truth, `section` what is not comparable."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    second: Callable[[str], str]
    second_is: str
    plus_minus: str
    minus: str
    dagger: str
    section: str
    glyphs: Mapping[Status, str]


MARKDOWN = Style(
    escape=in_markdown,
    bold=lambda text: f"**{text}**",
    second=lambda text: f"_{text}_",
    second_is="in italics",
    plus_minus="±",
    minus="-",
    dagger="†",
    section="§",
    glyphs={"failed": "✗", "pending": "…", "stopped": "⊘", "empty": "–", "unknown": "?"},
)


def header_texts(table: Table, style: Style) -> list[str]:
    """Return the headings, with a dagger for pixel ground truth and a section sign where rows
    cannot be compared.
    """
    columns = [_heading(column, style) for column in table.columns]
    return [*map(style.escape, table.titles), "n", *columns]


def _heading(column: Column, style: Style) -> str:
    dagger = style.dagger if column.pixel_truth else ""
    section = style.section if column.mixed else ""
    return style.escape(column.label) + dagger + section


def row_texts(table: Table, style: Style) -> list[list[str]]:
    """Return the cells below the header, names and number of seeds included."""
    return [
        [*name_texts(row, style), str(row.seeds), *cell_texts(table, row, style)]
        for row in table.rows
    ]


def name_texts(row: Row, style: Style) -> list[str]:
    """Return the names of a row."""
    *first, last = map(style.escape, row.labels)
    return [*first, last + (" (baseline)" if row.baseline else "")]


def cell_texts(table: Table, row: Row, style: Style) -> list[str]:
    """Return the numbers of a row."""
    return [
        cell_text(cell, column, row, style)
        for cell, column in zip(row.cells, table.columns, strict=True)
    ]


def cell_text(cell: Cell, column: Column, row: Row, style: Style) -> str:
    """Return mean, deviation of two or more seeds, and the remarks that this cell needs."""
    # "done" has no glyph.
    glyph = style.glyphs.get(cell.status, "")
    if cell.mean is None:
        return glyph
    text = column.text(cell.mean)
    if cell.std is not None:
        text += f" {style.plus_minus} {column.text(cell.std)}"
    if cell.best or cell.second:
        text = style.bold(text) if cell.best else style.second(text)
    if cell.delta is not None:
        text += f" ({_signed(cell.delta, column, style)})"
    if cell.chosen:
        text += f" {style.escape(f'[{cell.chosen}]')}"
    if cell.n != cell.planned:
        return f"{text} (n={cell.n} of {cell.planned} {glyph})"
    # A stage whose inputs do not depend on the seed has fewer artifacts than the row has seeds, and
    # the row's n would be taken for theirs.
    return text if cell.n == row.seeds or column.paper else f"{text} (n={cell.n})"


def _signed(delta: float, column: Column, style: Style) -> str:
    size = column.text(abs(delta))
    # zero has no sign, whichever side it was rounded from
    if float(size) == 0:
        return size
    return f"+{size}" if delta > 0 else f"{style.minus}{size}"


def _cells(table: Table) -> Iterator[Cell]:
    return chain.from_iterable(row.cells for row in table.rows)


def legend(table: Table, style: Style) -> list[str]:
    """Return the meaning of the glyphs and marks of this table; nothing where it has none."""
    used = {cell.status for cell in _cells(table)}
    glyphs = [
        f"{style.glyphs[status]} {style.escape(text)}"
        for status, text in MEANING.items()
        if status in used
    ]
    lines = ["; ".join(glyphs) + "."] if glyphs else []
    for use in dict.fromkeys(chain.from_iterable(column.pixel_truth for column in table.columns)):
        metrics = list(
            dict.fromkeys(column.name for column in table.columns if use in column.pixel_truth)
        )
        verb = "is" if len(metrics) == 1 else "are"
        if use == NOT_KNOWN:
            verb = "may be"
        note = f"{use}: {', '.join(metrics)} {verb} more than image labels alone can give."
        lines.append(f"{style.dagger} {style.escape(note)}")
    paper = chain.from_iterable(column.paper for column in table.columns)
    lines += [f"Paper, {style.escape(line)}." for line in paper]
    mixed = dict.fromkeys(chain.from_iterable(column.mixed for column in table.columns))
    lines += [
        f"{style.section} {style.escape(line)}: these numbers cannot be compared." for line in mixed
    ]
    return lines


def summary(table: Table, style: Style) -> list[str]:
    """Return sentences on what the numbers are and which runs they come from."""
    numbers = f"Mean {style.plus_minus} sample standard deviation over n seeds; scores in percent."
    if any(cell.best for cell in _cells(table)):
        seconds = any(cell.second for cell in _cells(table))
        second = f", the second {style.second_is}" if seconds else ""
        numbers += f" The best mean of a metric is bold{second}, ties as printed."
    runs = ", ".join(f"{count} {status.lower()}" for status, count in table.runs.items())
    lines = [numbers]
    if _agrees_by_luck(table):
        lines.append(
            f"{style.plus_minus} 0.0: the seeds agree to the digit that is printed; of two or "
            "three seeds that is luck, not a small spread."
        )
    if metrics := {
        column.name
        for column in table.columns
        if column.knobs and not column.label.startswith(column.name)
    }:
        lines.append(f"The numbers are {style.escape(', '.join(sorted(metrics)))}.")
    lines += [style.escape(note) for note in table.notes]
    if table.common:
        lines.append(f"All variants: {style.escape(', '.join(table.common))}.")
    noun = "Experiments" if len(table.experiments) > 1 else "Experiment"
    experiments = f"{noun} {style.escape(', '.join(table.experiments))}"
    lines.append(f"{experiments}: {sum(table.runs.values())} trials ({runs}).")
    if table.left_out:
        lines.append(f"Left out: {table.left_out} trials that the sweep's file no longer asks for.")
    return lines


def markdown(table: Table) -> str:
    """Return GitHub Markdown with columns aligned for a terminal, and the notes below."""
    header = header_texts(table, MARKDOWN)
    rows = row_texts(table, MARKDOWN)
    widths = [
        max(3, *(display_width(text) for text in column))
        for column in zip(header, *rows, strict=True)
    ]
    names = len(table.heads)
    rule = [
        f":{'-' * (width - 1)}" if index < names else f"{'-' * (width - 1)}:"
        for index, width in enumerate(widths)
    ]
    failures = [
        f"{MARKDOWN.glyphs['failed']} {MARKDOWN.escape(failure)}" for failure in table.failures
    ]
    notes = [*legend(table, MARKDOWN), *summary(table, MARKDOWN), *failures]
    title = [MARKDOWN.escape(table.title), ""] if table.title else []
    lines = (_line(texts, widths, names=names) for texts in (header, rule, *rows))
    return "\n".join([*title, *lines, "", *notes]) + "\n"


def _line(texts: Sequence[str], widths: Sequence[int], *, names: int) -> str:
    """Return a line in which names are flush left and numbers are flush right."""
    padded = []
    for place, (text, width) in enumerate(zip(texts, widths, strict=True)):
        padding = " " * (width - display_width(text))
        padded.append(text + padding if place < names else padding + text)
    return f"| {' | '.join(padded)} |"


def display_width(text: str) -> int:
    """Return the number of terminal cells that `text` takes."""
    return sum(_letter_width(letter) for letter in text)


def _letter_width(letter: str) -> int:
    # An accent stands on the letter before it; Chinese, Japanese and Korean letters take two cells.
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def inert(text: str) -> str:
    """Return a text that a spreadsheet does not run as a formula; numbers stay as they are."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _agrees_by_luck(table: Table) -> bool:
    """Return True if a deviation of two or three seeds is printed as zero."""
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            # Judged by what is printed, as the reader sees it.
            is_few = cell.std is not None and cell.n <= FEW_SEEDS
            if is_few and column.score and float(column.text(cell.std or 0.0)) == 0:
                return True
    return False


def to_csv(table: Table) -> str:
    """Return one line per cell with the numbers in full precision, for programs.

    Scores are in percent, as in the table; `low` and `high` are the ends of the 95 % t-interval of
    the mean over seeds. Texts that a spreadsheet would run as a formula begin with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    knobs = [name for name, _ in table.columns[0].knobs]
    extra = [
        name for name in ("delta", "chosen") if any(getattr(cell, name) for cell in _cells(table))
    ]
    writer.writerow([*table.heads, *knobs, "metric", *NUMBERS, *MORE, *extra])
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            values = [value for _, value in column.knobs] or [""] * len(knobs)
            writer.writerow(
                [
                    *map(inert, (*row.names, *values, column.metric)),
                    *(getattr(cell, name) for name in NUMBERS),
                    "%" if column.score else "",
                    *interval_of(cell),
                    str(row.baseline).lower(),
                    *(getattr(cell, name) for name in extra),
                ]
            )
    return text.getvalue()


def interval_of(cell: Cell) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of a cell's mean over seeds; nothing for one seed."""
    if cell.mean is None or cell.std is None:
        return None, None
    reach = float(stdtrit(cell.n - 1, 0.975)) * cell.std / cell.n**0.5
    return cell.mean - reach, cell.mean + reach

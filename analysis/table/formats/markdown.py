"""A table as GitHub Markdown, aligned so that it can be read as it is."""

from analysis.table.formats.cell_texts import GLYPHS, Notation, header_texts, row_texts
from analysis.table.formats.legend import legend, summary
from analysis.table.grid import in_markdown, markdown_lines
from analysis.table.model import Table

MARKDOWN = Notation(
    escape=in_markdown,
    bold=lambda text: f"**{text}**",
    second=lambda text: f"_{text}_",
    second_is="in italics",
    plus_minus="±",
    minus="-",
    dagger="†",
    section="§",
    glyphs=GLYPHS,
)


def markdown(table: Table) -> str:
    """Return the table with its notes below it."""
    header = header_texts(table, MARKDOWN)
    is_number = [index >= len(table.heads) for index in range(len(header))]
    failures = [
        f"{MARKDOWN.glyphs['failed']} {MARKDOWN.escape(failure)}" for failure in table.failures
    ]
    notes = [*legend(table, MARKDOWN), *summary(table, MARKDOWN), *failures]
    title = [MARKDOWN.escape(table.title), ""] if table.title else []
    lines = markdown_lines(header, row_texts(table, MARKDOWN), is_number=is_number)
    return "\n".join([*title, *lines, "", *notes]) + "\n"

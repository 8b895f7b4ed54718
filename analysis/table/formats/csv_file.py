"""A table as CSV: a line per cell, for programs."""

import csv
import io

from analysis.table.formats.records import Value, record_heads, records
from analysis.table.model import Table


def to_csv(table: Table) -> str:
    """Return the records of a table.

    Texts that a spreadsheet would run as a formula begin with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(record_heads(table))
    writer.writerows([_plain(value) for value in record] for record in records(table))
    return text.getvalue()


def inert(text: str) -> str:
    """Return a text that a spreadsheet does not run as a formula; numbers stay as they are."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _plain(value: Value) -> Value:
    if isinstance(value, bool):
        return str(value).lower()
    return inert(value) if isinstance(value, str) else value

"""The numbers of a grid in columns of their own, for CSV and Excel."""

import re
from collections.abc import Sequence

from analysis.table.formats.cell_texts import GLYPHS
from analysis.table.grid import Grid

Number = str | int | float | None
_NUMBER = r"[-+−]?\d[\d,]*\.?\d*"
# A printed number with what may come with it: "< 0.001", "54.4 ± 0.6", "1.2 to 3.4", "100 %",
# "0.90 (0.11 to 1.00)", "1.00 (5 groups, no interval)", "2.1 *".
PRINTED = re.compile(
    rf"(?P<sign>[<>])?\s*(?P<value>{_NUMBER})"
    rf"(?:\s*±\s*(?P<std>{_NUMBER}))?"
    rf"(?:\s+to\s+(?P<end>{_NUMBER}))?"
    r"(?:\s*(?P<unit>%))?"
    rf"(?:\s*\((?P<low>{_NUMBER}) to (?P<high>{_NUMBER})\))?"
    r"(?:\s*\((?P<note>[^)]*)\))?"
    r"(?:\s*(?P<mark>[*†]))?"
)
# Parts that are numbers, and what follows the heading above each.
PARTS = {
    "value": "",
    "std": "std",
    "low": "low",
    "high": "high",
    "sign": "sign",
    "unit": "unit",
    "note": "note",
    "mark": "mark",
}
# Follows the heading above what names for people are names of.
KEY = "key"
NUMERIC = ("value", "std", "low", "high")
# What a grid prints where there is no number.
NOTHING = ("", "–")
# A spreadsheet keeps 15 digits of a number and no zeros in front: as a number an id would change.
ID = re.compile(r"0\d+|\d{15,}")


def number_columns(grid: Grid, titles: Sequence[str]) -> tuple[list[str], list[list[Number]]]:
    """Return headings and rows in which no cell holds more than one number.

    A column whose cells are all printed numbers becomes a column for each part that they have. Any
    other column stays as it is, and a plain number in it, such as a knob's value among those of
    other knobs, is a number. Behind names for people stands what they are names of.

    Args:
        grid: of texts.
        titles: headings of its columns, for people or for programs.
    """
    heads: list[str] = []
    columns: list[list[Number]] = []
    for index, title in enumerate(titles):
        cells = [row[index] for row in grid.rows]
        parts = [_parts(cell.text) for cell in cells]
        # A column of empty cells alone has no part. As numbers it would vanish, so it stays text.
        if any(parts) and all(found is not None for found in parts):
            for part, suffix in PARTS.items():
                values = [(found or {}).get(part) for found in parts]
                if any(value is not None for value in values):
                    heads.append(f"{title} {suffix}".strip())
                    columns.append(values)
        else:
            heads.append(title)
            columns.append([_plain_number(cell.text) for cell in cells])
        if any(cell.key for cell in cells):
            heads.append(f"{title} {KEY}")
            columns.append([_plain_number(cell.key or cell.text) for cell in cells])
    rows = [list(row) for row in zip(*columns, strict=True)]
    return heads, rows


def _parts(text: str) -> dict[str, Number] | None:
    """Return the parts of a printed number; none of an empty cell, and None for any other text."""
    words = text.strip()
    # Before the glyphs: the dash of an empty cell is one of them.
    if words in NOTHING:
        return {}
    if words in GLYPHS.values():
        return {"note": words}
    found = PRINTED.fullmatch(words)
    # Digits behind a zero, or very many, are an id.
    if found is None or ID.fullmatch(words):
        return None
    parts: dict[str, Number] = {
        name: value for name, value in found.groupdict().items() if value is not None
    }
    if "end" in parts:
        # "1.2 to 3.4" is an interval without a value.
        parts |= {"low": parts.pop("value"), "high": parts.pop("end")}
    return {name: _plain(name, value) for name, value in parts.items()}


def _plain_number(text: str) -> Number:
    """Return a text that is a number as one, unless it would be printed otherwise then."""
    parts = _parts(text)
    number = parts["value"] if parts is not None and parts.keys() == {"value"} else None
    return number if number is not None and str(number) == text.replace("−", "-") else text


def _plain(name: str, value: Number) -> Number:
    if name not in NUMERIC or not isinstance(value, str):
        return value
    digits = value.replace("−", "-").replace(",", "")
    return float(digits) if "." in digits else int(digits)

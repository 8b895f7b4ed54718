"""Grids: what a cell is sorted by, and how they read as Markdown."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import analysis
from analysis.statistics.bootstrap import Interval
from analysis.studies.compare import ends
from analysis.table.digits import rounded, signed, with_minus
from analysis.table.grid import Passage, cell, grid_markdown, passages_markdown, text_grid
from analysis.table.grid_numbers import number_columns


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("54.4 ± 0.6", 54.4),
        ("-3.9 to -1.1", -3.9),
        ("+5.9", 5.9),
        ("< 0.001", 0.001),
        ("1,464", 1464),
        ("5.2 *", 5.2),
        ("70a7e9b", None),
        ("0.5 1 mirrored", None),
        ("alpha 6", None),
        ("…", None),
    ],
)
def test_cell_is_sorted_by_a_number_and_not_by_what_only_starts_with_one(
    text: str, sort: float | None
) -> None:
    assert cell(text).sort == sort


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(-0.04, "0.0", "0.0"), (0.04, "0.0", "0.0"), (-0.06, "-0.1", "-0.1"), (3.0, "3.0", "+3.0")],
)
def test_number_that_is_rounded_to_zero_has_no_sign(
    value: float, plain: str, with_sign: str
) -> None:
    assert (rounded(value, 1), signed(value, 1)) == (plain, with_sign)


def test_ends_of_an_interval_are_never_minus_zero() -> None:
    interval = Interval(
        value=0.0, low=-0.0004, high=0.02, p=0.06, seeds=2, images=9, images_sd=0.1, seed_sd=0.1
    )
    assert ends(interval) == "0.0 to +2.0"
    assert with_minus(ends(replace(interval, low=-0.02, high=-0.0004))) == "−2.0 to 0.0"


def test_signs_of_numbers_are_printed_in_one_place() -> None:
    folder = Path(analysis.__file__).parent
    own = [path for path in folder.rglob("*.py") if re.search(r":\+z?\.", path.read_text())]
    assert [path.name for path in own] == ["digits.py"]


def test_grid_markdown_keeps_a_bar_within_its_cell_and_numbers_flush_right() -> None:
    grid = text_grid("t", "caption", ["variant", "score"], [["a | b", "1.0"], ["c", "…"]])
    assert grid.numeric == (False, True)
    assert grid_markdown(grid).splitlines() == [
        "| variant | score |",
        "| :------ | ----: |",
        r"| a \| b  |   1.0 |",
        "| c       |     … |",
    ]


def test_passages_markdown_prints_a_shared_method_once_and_last() -> None:
    grid = text_grid("t", "caption", ["n"], [["1"]])
    one = Passage(
        title="a=1", lead=["Mean 2.", "Of 3."], grids=[grid], notes=["A note."], method=["Method."]
    )
    other = Passage(title="a=2", notes=["No knob varies here."], method=["Method."])
    assert passages_markdown([one, other]).split("\n\n") == [
        "**a=1**: Mean 2. Of 3.",
        "|   n |\n| --: |\n|   1 |",
        "A note.",
        "**a=2**",
        "No knob varies here.",
        "Method.",
    ]


def test_plain_numbers_in_a_column_of_words_are_numbers_that_print_as_they_did() -> None:
    texts = ["1", "CSE", "0.5", "0.10", "007", "2.1 *", "−3"]
    grid = text_grid("means", "", ["value"], [[text] for text in texts])
    _, rows = number_columns(grid, grid.heads)
    assert [value for (value,) in rows] == [1, "CSE", 0.5, "0.10", "007", "2.1 *", -3]

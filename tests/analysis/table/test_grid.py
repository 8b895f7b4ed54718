"""Grids: what a cell is sorted by, and how they read as Markdown."""

import pytest

from analysis.table.grid import Passage, cell, grid_markdown, passages_markdown, text_grid


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

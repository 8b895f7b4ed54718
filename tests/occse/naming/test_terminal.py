"""Text on terminals of all kinds, and in the encodings of all locales."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from occse.naming.terminal import (
    BOLD,
    PLAIN,
    column_widths,
    display_width,
    shows_styles,
    table,
    visible,
)

PRINT = """
from occse.naming.terminal import print_anywhere
print_anywhere()
print("± † λ é … → µ 猫")
"""


@pytest.mark.parametrize(
    ("text", "width"),
    [("50.0 ± 0.1", 10), ("λ", 1), ("猫", 2), ("e\u0301", 1), ("…", 1), (f"{BOLD}ab{PLAIN}", 2)],
)
def test_display_width_counts_what_a_terminal_shows(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nλ 猫 e\u0301", "a\tb\nλ 猫 e\u0301"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\rb\x9bc", r"a\rb\x9bc"),
        ("evil\u202ecod", r"evil\u202ecod"),
        (f"{BOLD}best{PLAIN}", f"{BOLD}best{PLAIN}"),
    ],
)
def test_visible_shows_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_table_aligns_bold_and_wide_letters() -> None:
    lines = table(
        ["name", "n"], [["猫", "10"], [f"{BOLD}long name{PLAIN}", "2"]], is_number=[False, True]
    )
    assert lines == ["name        n", "猫         10", f"{BOLD}long name{PLAIN}   2"]
    assert column_widths([["a", "bc"]], least=2) == [2, 2]


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "± † λ é … → µ 猫"),
        ("latin-1", "± ^ lambda é ... -> µ \\u732b"),
        ("ascii", "+- ^ lambda e ... -> mu \\u732b"),
    ],
)
def test_letters_that_an_encoding_lacks_are_spelled(encoding: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode(encoding).strip() == printed


def test_styles_are_for_terminals_that_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    outer, inner = os.openpty()
    with os.fdopen(inner, "w") as terminal, Path(os.devnull).open("w") as file:
        assert shows_styles(terminal)
        assert not shows_styles(file)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not shows_styles(terminal)
    os.close(outer)

"""Text on a terminal: aligned tables, bold where it is shown, and letters in any locale."""

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

# Escape codes of terminals for a weight, a line below, and the end of both.
BOLD = "\033[1m"
UNDERLINED = "\033[4m"
PLAIN = "\033[0m"
ESCAPE_CODE = re.compile(r"\033\[\d*m")
# Those that we write ourselves; of others a terminal may do anything.
OWN_CODE = re.compile("|".join(map(re.escape, (BOLD, UNDERLINED, PLAIN))))
# Characters that are not printable, and stand in every text.
SPACES = "\t\n"
# Signs of our own texts by what an output without them shows.
SPELLED = {
    "±": "+-",
    "µ": "mu",
    "†": "^",
    "§": "$",
    "–": "-",
    "−": "-",
    "…": "...",
    "·": "*",
    "×": "x",
    "✗": "x",
    "⊘": "/",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "²": "2",
    "Δ": "delta",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
    "°": " deg",
}
GREEK = "GREEK SMALL LETTER "
# Name among Python's codecs of the treatment of letters that an encoding lacks.
SPELL = "spelled"


@runtime_checkable
class Output(Protocol):
    """A stream that knows whether it is a terminal."""

    def isatty(self) -> bool:
        """Tell whether a person sees it."""


def print_anywhere() -> None:
    """Make standard output and errors print what their encoding lacks in other letters.

    A locale without ± or λ must not end a command, nor an output that was closed from the start.
    """
    # Python has None for one that was closed, as by `>&-`.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELL)


def visible(text: str) -> str:
    """Return a text whose control characters are shown, such as `\\x1b`, for a terminal.

    A name in somebody else's runs may hold escape codes, which a terminal obeys. Our own codes for
    bold and underlined text stay.
    """
    found = []
    start = 0
    for code in OWN_CODE.finditer(text):
        found += [_without_control(text[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*found, _without_control(text[start:])])


def _without_control(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in SPACES else repr(letter)[1:-1]
        for letter in text
    )


def shows_styles(stream: Output) -> bool:
    """Tell whether a stream is a terminal that shows bold text; a pipe and a file are none."""
    # Conventions that most programs follow: https://no-color.org, and TERM of an editor's shell.
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_plain


def display_width(text: str) -> int:
    """Return the number of terminal cells that `text` takes on standard output."""
    shown = ESCAPE_CODE.sub("", text)
    encoding = sys.stdout.encoding or "utf-8"
    if not shown.isascii() and not encoding.lower().startswith("utf"):
        # What is spelled out there is longer, and columns must be aligned as they are printed.
        shown = shown.encode(encoding, SPELL).decode(encoding)
    return sum(map(_letter_width, shown))


def column_widths(lines: Sequence[Sequence[str]], *, least: int = 0) -> list[int]:
    """Return the width of the widest text of each column."""
    return [max(least, *map(display_width, column)) for column in zip(*lines, strict=True)]


def padded(texts: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> list[str]:
    """Return the texts of a line as wide as their columns, numbers to the right."""
    cells = []
    for text, width, flush_right in zip(texts, widths, is_number, strict=True):
        padding = " " * (width - display_width(text))
        cells.append(padding + text if flush_right else text + padding)
    return cells


def table(
    head: Sequence[str], lines: Sequence[Sequence[str]], *, is_number: Sequence[bool]
) -> list[str]:
    """Return the lines of a table without rules, its columns two spaces apart.

    Args:
        head: headings.
        lines: texts, as many in each line as there are headings.
        is_number: by column, True where it is flush right.
    """
    widths = column_widths([head, *lines])
    return ["  ".join(padded(line, widths, is_number)).rstrip() for line in (head, *lines)]


def _letter_width(letter: str) -> int:
    # An accent stands on the letter before it; Chinese, Japanese and Korean letters take two cells.
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return other letters for those that an encoding lacks, as Python's codecs ask for them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_ascii, letters)), error.end


def _ascii(letter: str) -> str:
    if letter in SPELLED:
        return SPELLED[letter]
    name = unicodedata.name(letter, "")
    if name.startswith(GREEK):
        # Python's names have LAMDA
        return name.removeprefix(GREEK).lower().replace("lamda", "lambda")
    base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return base or letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(SPELL, _spelled)

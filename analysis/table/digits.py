"""Numbers as text: rounded, with a sign where it says something, and never as minus zero."""

import re

# A hyphen before a number that belongs to no word and to no range.
HYPHEN = re.compile(r"(?<![\w.)-])-(?=\d)")


def rounded(value: float, places: int) -> str:
    """Return a number with `places` decimals; what is rounded to zero has no sign."""
    return f"{value:z.{places}f}"


def signed(value: float, places: int) -> str:
    """Return a number with `places` decimals and its sign, which zero does not have.

    Zero has none whichever side it was rounded from.
    """
    text = f"{value:+z.{places}f}"
    return text if float(text) else text.removeprefix("+")


def points(value: float) -> str:
    """Return a difference of scores, which are fractions, in points."""
    return signed(100 * value, 1)


def with_minus(text: str) -> str:
    """Return a text whose negative numbers have a minus sign, not a hyphen."""
    return HYPHEN.sub("−", text)

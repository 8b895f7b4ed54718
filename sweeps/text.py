"""Numbers, durations and tables as text."""

from collections.abc import Callable, Sequence

from occse.naming import terminal

Say = Callable[[str], None]
"""Function that shows a line to the user."""


def duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def part(count: float, what: str) -> str:
    """Return a number of CPUs or GPUs, of which a stage may take a part, and what it counts."""
    return f"{count:g} {what}" if count <= 1 else f"{count:g} {what}s"


def amount(size: float) -> str:
    """Return a number of bytes in decimal units, as disks are sold."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: columns of numbers to the right, of text to the left."""
    columns = zip(head, *lines, strict=True)
    is_number = [all(cell.isdigit() for cell in cells[1:]) for cells in columns]
    return terminal.table(head, lines, is_number=is_number)

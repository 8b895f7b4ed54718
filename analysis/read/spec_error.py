"""Files that a person wrote for analysis: their text, the types of what they select, and the error
that names a key."""

from pathlib import Path

#: Bytes of a file that a person writes: it has a line for each key, one of a megabyte is another.
MAX_BYTES = 1_000_000
#: A knob's value as a user writes it.
Value = str | int | float | bool | None
#: Values by knob; a list allows each of its values.
Where = dict[str, Value | list[Value]]
#: The keys that lead to a place of a YAML file.
Location = tuple[str | int, ...]


def read_text(path: Path) -> str:
    """Return the text of a YAML file that a person wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8, or longer than `MAX_BYTES`.
    """
    with path.open("rb") as file:
        # one byte more than allowed is enough to see that a file is too long
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return content.decode()


class SpecError(ValueError):
    """A table that cannot be made of these trials; `location` is the key at fault."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(f"{'.'.join(map(str, location))}: {message}")
        self.location = location

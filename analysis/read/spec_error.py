"""The error that names the key of a table's file, and the types of what such a file selects."""

#: A knob's value as a user writes it.
Value = str | int | float | bool | None
#: Values by knob; a list allows each of its values.
Where = dict[str, Value | list[Value]]
#: The keys that lead to a place of a YAML file.
Location = tuple[str | int, ...]


class SpecError(ValueError):
    """A table that cannot be made of these trials; `location` is the key at fault."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(f"{'.'.join(map(str, location))}: {message}")
        self.location = location

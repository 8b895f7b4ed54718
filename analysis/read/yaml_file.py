"""Small YAML files of users: what they select, the line of each key, and errors about a key."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

#: A knob's value as a user writes it.
Value = str | int | float | bool | None
#: Values by knob; a list allows each of its values.
Where = dict[str, Value | list[Value]]
#: The keys that lead to a place of a YAML file.
Location = tuple[str | int, ...]
# Such a file has some hundred bytes; one of a megabyte is another file.
MAX_BYTES = 1_000_000


def read_text(path: Path) -> str:
    """Return the text of a YAML file that a person wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, or longer than `MAX_BYTES`.
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


class YamlFile:
    """A YAML file that knows in which line a key stands; no key stands twice.

    Attributes:
        path: of the file.
        values: its content.
    """

    def __init__(self, path: Path, *, kind: str) -> None:
        """Read a file.

        Args:
            path: of the file.
            kind: what it describes, for errors.

        Raises:
            ValueError: it cannot be read, is too long, is not YAML, or has a key twice.
        """
        self.path = path
        try:
            text = read_text(path)
            self.values: Any = yaml.safe_load(text)
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            self._refuse_twice(self._root)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(f"{path}: cannot be read: {reason}; expected a YAML file") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ValueError(
                f"{path}:{line}: this is not YAML of {kind}: {error.problem}"
            ) from None
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"{path}: this is not YAML of {kind}: {error}") from None

    def _refuse_twice(self, node: yaml.Node | None) -> None:
        """Refuse a key that stands twice; YAML would take the last of them without a word."""
        if isinstance(node, yaml.MappingNode):
            # YAML's own loader has merged the keys already; only the tree of nodes still has both.
            keys = [key.value for key, _ in node.value]
            for place, (key, value) in enumerate(node.value):
                if key.value in keys[:place]:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value} stands here twice",
                        problem_mark=key.start_mark,
                    )
                self._refuse_twice(value)

    def where(self, location: Sequence[str | int]) -> str:
        """Return file and line of a key, or of the nearest key above it."""
        line = 1
        for node in self._nodes(location):
            line = node.start_mark.line + 1
        return f"{self.path}:{line}"

    def _nodes(self, location: Sequence[str | int]) -> Iterator[yaml.Node]:
        """Yield the nodes on the way to a key, as far as there are any."""
        node = self._root
        for part in location:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == part]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                found = [(each, each) for each in node.value[part : part + 1]]
            else:
                found = []
            if not found:
                return
            yield found[0][0]
            node = found[0][1]

"""YAML that remembers its lines, with one meaning per value and only what a sweep file needs.

Plain values have YAML 1.2's types: `1e-3` is a number. What YAML 1.1 and 1.2 read differently
(`010`, `1:30`, `yes`, `2024-01-01`) is refused, because a reader cannot tell what is meant."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from occse.naming.yaml_values import plain_value

Location = tuple[str | int, ...]
# A sweep file is a page of text; a larger file is another file.
MAX_BYTES = 1_000_000
# The deepest key of a sweep is at level 4. Parsers recurse, so that depth costs stack.
MAX_DEPTH = 20
# Long enough to recognize a value in an error, short enough for a line of a terminal.
MAX_SHOWN = 80
# More faults than a person mends before the next try.
MAX_FAULTS = 30

# Joiners that Persian, Indic scripts and emoji are written with.
JOINERS = "\u200c\u200d"


@dataclass(frozen=True, kw_only=True)
class SpecDocument:
    """The mapping in a YAML file, and the line of every key and list item in it."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[Location, int]

    def where(self, location: Sequence[str | int]) -> str:
        """Return `FILE:LINE` of the innermost part of `location` that stands in the file."""
        known = tuple(location)
        # The empty location stands for the file as a whole, so this ends.
        while known not in self.lines:
            known = known[:-1]
        return f"{self.path}:{self.lines[known]}"


def read_document(path: Path) -> SpecDocument:
    """Read the YAML file `path`.

    Raises:
        ValueError: `FILE:LINE: what is wrong`: no file, no YAML, above 1 MB, no mapping, several
            documents, aliases, anchors, tags, duplicate keys, keys that are not text, values that
            YAML 1.1 and 1.2 read differently, control characters.
    """
    text = _read(path)
    try:
        _refuse_exotic(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}:{line}: this is not YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(
            f"{path}:{line}: the character U+{error.character:04X} is not allowed in YAML"
        ) from None
    if isinstance(root, yaml.MappingNode):
        lines: dict[Location, int] = {(): 1}
        values = dict(_entries(path, root, (), lines))
        return SpecDocument(path=path, values=values, lines=lines)
    raise ValueError(f"{path}:1: expected a mapping such as `name: lambda`, got {_kind(root)}")


def shown(value: object) -> str:
    """Return a value as an error message shows it, cut off where it is long."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Return a text for an error message, cut off where it is long."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text):,} characters)"


def in_bounds(faults: Iterable[str]) -> str:
    """Return the lines of an error, bounded in length and in number; faults behind are not sought.

    Empty where there is no fault."""
    # A line names a file, a key and a value: a few hundred characters, unless one of them is huge.
    most = 10 * MAX_SHOWN
    first = list(itertools.islice(faults, MAX_FAULTS + 1))
    lines = [line if len(line) <= most else f"{line[:most]}..." for line in first[:MAX_FAULTS]]
    if len(first) > MAX_FAULTS:
        lines.append("... and more; mend these first")
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(
                f"{path}:1: the file is above {MAX_BYTES:,} bytes; a sweep file is a page of text"
            )
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: the file is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read: {error.strerror}; expected a YAML file"
        ) from None


def _refuse_exotic(path: Path, text: str) -> None:
    """Refuse what is not a plain mapping, from the flat stream of events.

    Composing comes after it, because aliases and deep nesting can make that expensive.
    """
    documents = 0
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        refused = None
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if documents > 1:
            refused = "a second document; expected one document in the file"
        elif depth > MAX_DEPTH:
            refused = f"nested deeper than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            refused = f"the anchor or alias {shown(event.anchor)}; write the values out"
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            refused = f"the tag {shown(event.tag)}; expected plain values without tags"
        if refused:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ValueError(f"{path}:{line}: {refused}")


def _entries(
    path: Path, mapping: yaml.MappingNode, location: Location, lines: dict[Location, int]
) -> Iterator[tuple[str, object]]:
    for key_node, value_node in mapping.value:
        line = key_node.start_mark.line + 1
        key = _key(path, key_node)
        if (*location, key) in lines:
            first = lines[*location, key]
            raise ValueError(
                f"{path}:{line}: {shortened(key)}: this key stands here twice, first on line "
                f"{first}; keep one"
            )
        # A block text begins on the line of its key, a plain value where it stands.
        scalar = isinstance(value_node, yaml.ScalarNode) and bool(value_node.value)
        lines[*location, key] = value_node.start_mark.line + 1 if scalar else line
        yield key, _value(path, value_node, (*location, key), lines)


def _key(path: Path, node: yaml.Node) -> str:
    line = node.start_mark.line + 1
    got = _kind(node)
    if isinstance(node, yaml.ScalarNode):
        key = _scalar(path, node)
        if isinstance(key, str):
            return key
        got = shown(node.value)
    raise ValueError(f"{path}:{line}: {got} is not a key; expected text (put quotes around it)")


def _value(path: Path, node: yaml.Node, location: Location, lines: dict[Location, int]) -> object:
    if isinstance(node, yaml.MappingNode):
        return dict(_entries(path, node, location, lines))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*location, index] = item.start_mark.line + 1
        return [
            _value(path, item, (*location, index), lines) for index, item in enumerate(node.value)
        ]
    return _scalar(path, node)


def _scalar(path: Path, node: yaml.Node) -> object:
    """Return the value of a scalar, typed as YAML 1.2 types it."""
    assert isinstance(node, yaml.ScalarNode)
    text = node.value
    line = node.start_mark.line + 1
    _refuse_invisible(path, line, text)
    if node.style is not None:  # in quotes, or a block of text
        return text
    try:
        return plain_value(text, node.tag)
    except ValueError as error:
        raise ValueError(f"{path}:{line}: {shown(text)} {error}") from None


def _refuse_invisible(path: Path, line: int, text: str) -> None:
    """Refuse characters that a terminal obeys or hides: escapes, and marks of text direction."""
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Zl", "Zp") and character not in f"\n\t{JOINERS}":
            raise ValueError(
                f"{path}:{line}: the control character U+{ord(character):04X} in {shown(text)}; "
                "remove it"
            )


def _kind(node: yaml.Node | None) -> str:
    kinds = {
        "NoneType": "an empty file",
        "SequenceNode": "a list",
        "MappingNode": "a mapping",
    }
    return kinds.get(type(node).__name__, "a single value")

"""YAML that remembers its lines, and refuses what a hand-written file has no need of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Location = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_DEPTH = 20


@dataclass(frozen=True, kw_only=True)
class SpecDocument:
    """The mapping in a YAML file, and the line of every key and list item in it."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[Location, int]

    def where(self, location: Sequence[str | int]) -> str:
        """`FILE:LINE` of the innermost part of `location` that stands in the file."""
        place = tuple(location)
        while place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines[place]}"


def read_document(path: Path) -> SpecDocument:
    """The YAML file `path`.

    Raises:
        ValueError: `FILE:LINE: what is wrong`: no file, no YAML, above 1 MB, no mapping, several
            documents, aliases, anchors, tags, duplicate keys, keys that are not text.
    """
    text = _read(path)
    lines: dict[Location, int] = {(): 1}
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
        return SpecDocument(path=path, values=dict(_entries(path, root, (), lines)), lines=lines)
    raise ValueError(f"{path}:1: expected a mapping such as `name: lambda`, got {_kind(root)}")


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
    """Look at the flat stream of events first: composing aliases or deep nesting can be made
    expensive.
    """
    documents = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        refused = None
        line = event.start_mark.line + 1 if event.start_mark else 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if documents > 1:
            refused = "a second document; expected one document in the file"
        elif depth > MAX_DEPTH:
            refused = f"nested deeper than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            refused = f"the anchor or alias {event.anchor!r}; write the values out"
        elif (
            isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
            and event.tag is not None
        ):
            refused = f"the tag {event.tag!r}; expected plain values without tags"
        if refused:
            raise ValueError(f"{path}:{line}: {refused}")


def _entries(
    path: Path, mapping: yaml.MappingNode, place: Location, lines: dict[Location, int]
) -> Iterator[tuple[str, object]]:
    for key_node, value_node in mapping.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if key_node.tag != "tag:yaml.org,2002:str":
            shown = repr(key) if isinstance(key, str) else _kind(key_node)
            raise ValueError(
                f"{path}:{line}: {shown} is no key; expected text (put quotes around it)"
            )
        if (*place, key) in lines:
            first = lines[*place, key]
            raise ValueError(
                f"{path}:{line}: {key}: this key stands here twice, first on line {first}; keep one"
            )
        scalar = isinstance(value_node, yaml.ScalarNode)
        lines[*place, key] = value_node.start_mark.line + 1 if scalar and value_node.value else line
        yield key, _value(path, value_node, (*place, key), lines)


def _value(path: Path, node: yaml.Node, place: Location, lines: dict[Location, int]) -> object:
    if isinstance(node, yaml.MappingNode):
        return dict(_entries(path, node, place, lines))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
        return [_value(path, item, (*place, index), lines) for index, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.YAMLError):
        line = node.start_mark.line + 1
        raise ValueError(
            f"{path}:{line}: {node.value!r} is no value; put quotes around it if it is text"
        ) from None


def _kind(node: yaml.Node | None) -> str:
    return {"NoneType": "an empty file", "SequenceNode": "a list", "MappingNode": "a mapping"}.get(
        type(node).__name__, "a single value"
    )

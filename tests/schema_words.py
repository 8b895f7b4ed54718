"""Words of the MLflow schema, as the code of a package has them and as its table documents them."""

import ast
import re
from pathlib import Path

from sweeps.tracking import writer

# A tag; one by field or by name ends with a dot.
WORD = re.compile(r"occse\.[a-z_]+(\.[a-z_]+)*\.?")


def words_of(package: Path, *, below: str = ".") -> set[str]:
    """Return the words of the schema in the code of a package; docstrings do not count."""
    words: set[str] = set()
    for path in sorted((package / below).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in prose:
                words |= {found.group() for found in WORD.finditer(node.value)}
    return words


def documented() -> set[str]:
    """Return the tags in the tables of the schema, those by field or by name as prefixes."""
    assert writer.__doc__
    rows = [line for line in writer.__doc__.splitlines() if line.startswith("|")]
    heads = "\n".join(line.split("|")[1] for line in rows)
    return set(re.findall(r"`(occse\.[a-z_.]+)(?:<\w+>)?`", heads))

"""Formatting, lint, types, import rules and the style rules are part of the tests."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from style_rules import RULES, Module, failures, long_text_lines, text_files

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "imports": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_quality(name: str) -> None:
    program, *arguments = COMMANDS[name]
    path = shutil.which(program, path=str(Path(sys.executable).parent))
    assert path, f"{program} is not installed beside {sys.executable}; install the extra 'test'"
    result = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_style_has_no_breach() -> None:
    found = failures()
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("cluster.yaml", "# " + "x " * 50 + "\n# short\n", [1]),
        ("cluster.yaml", "# " + "x" * 98 + "\n", []),
        ("README.md", "short\n" + "word " * 24 + "end\n", [2]),
        ("README.md", "word " * 22 + "\n", []),
        ("README.md", "| a " * 40 + "|\n[paper]: https://" + "x" * 120 + "\n", []),
    ],
    ids=["yaml", "yaml of 100", "prose", "prose of 110", "tables and addresses"],
)
def test_style_of_texts_limits_their_columns(name: str, text: str, lines: list[int]) -> None:
    assert [breach.line for breach in long_text_lines(ROOT / name, text)] == lines


def test_style_reads_texts_of_root_and_packages() -> None:
    read = {path.relative_to(ROOT).as_posix() for path in text_files()}
    assert {"README.md", "cluster.yaml", "sweeps/specs/paper/voc.yaml", ".ci/run"} <= read
    assert not any(path.startswith(("tests/", ".venv")) for path in read)


# One breach of each rule, in code that a person might write.
BREACHES = {
    "docstring opens with a relative clause": """
class Trial:
    seed: int
    \"\"\"What the generators start from.\"\"\"
""",
    "arithmetic with a truth value": "label = 'seed' + 's' * (number != 1)",
    "loop over one value": "rows = [f(x) for x in [g()]]",
    "comprehension over two loops": "cells = [cell for row in rows for cell in row]",
    "nested conditional expression": "x = 1 if a else 2 if b else 3",
    "several assignments in one": "loss, steps = 0.0, []",
    "number without a reason above": "# A reason, one line off.\n\nWAIT_S = 2 * 60.0",
    "line too long": "x = f()" + " " * 100 + "# far to the right",
    "file too long": "x = None\n" * 451,
    "list of stages by name": "ORDER = ['oc', 'cgnet', 'cam']",
}
# Code that resembles a breach and is none.
SOUND = '''
"""Weights of a network."""

# Ray takes two seconds to answer, so a shorter wait would time out.
WAIT_S = 2.0
RETRIES = 3

def exchange(first: int, second: int) -> tuple[int, int]:
    """Return both in the other order."""
    first, second = second, first
    cosine, sine = cos(first), sin(first)
    line = "-" * first
    seconds = (second or 0) + 1
    names = [name for name in [*NAMES] if name]
    return first, second

STAGES = ["oc", "cam"]
'''


@pytest.mark.parametrize("rule", RULES)
def test_style_rule_finds_its_breach(rule: str) -> None:
    source = BREACHES[rule]
    module = Module(Path("occse/example.py"), source, ast.parse(source))
    assert [name for name, check in RULES.items() if list(check(module))] == [rule]


@pytest.mark.parametrize("rule", RULES)
def test_style_rule_passes_sound_code(rule: str) -> None:
    module = Module(Path("occse/example.py"), SOUND, ast.parse(SOUND))
    assert not list(RULES[rule](module))

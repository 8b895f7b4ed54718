"""Measures of the code's style by package: `python tests/style_table.py`, `-v` for every breach."""

import ast
import io
import sys
import tokenize
from collections import Counter

from style_rules import (
    COMPREHENSIONS,
    PACKAGES,
    RULES,
    Module,
    breaches,
    breaches_in_tests,
    docstrings,
    folder_of,
    long_lines,
    modules,
    relative_openers,
    stage_lists,
    tuple_assignments,
)


def comment_lines(module: Module) -> int:
    """Number of lines of code that carry a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(module.source).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def lines_without_docstrings(module: Module) -> int:
    """Number of lines that are neither blank nor part of a docstring."""
    prose: set[int] = set()
    for docstring in docstrings(module.tree):
        prose.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return sum(
        bool(line.strip()) and number not in prose for number, line in enumerate(module.lines, 1)
    )


def measures(package: list[Module]) -> dict[str, str]:
    """The measures that issue after issue is held against, as text, by name."""
    code = sum(bool(line.strip()) for module in package for line in module.lines)
    comments = sum(comment_lines(module) for module in package)
    commented = sum(lines_without_docstrings(module) for module in package)
    nodes = [node for module in package for node in ast.walk(module.tree)]
    texts = [text for module in package for text in docstrings(module.tree)]
    openers = [place for module in package for place in relative_openers(module)]
    wide = [place for module in package for place in long_lines(module)]
    folders = Counter(module.folder for module in package if module.path.stem != "__init__")
    fullest, most = folders.most_common(1)[0]

    def per_hundred(count: int) -> str:
        return f"{100 * count / code:.2f}"

    return {
        "modules": str(len(package)),
        "lines that are not blank": str(code),
        "longest file": str(max(len(module.lines) for module in package)),
        "fullest folder": f"{fullest} ({most})",
        "docstrings that open with a relative clause, %": f"{100 * len(openers) / len(texts):.1f}",
        # A docstring explains too, but it is not a line that a comment could explain.
        "comments per 100 lines without docstrings": f"{100 * comments / commented:.2f}",
        "lines above 100 columns, %": per_hundred(len(wide)),
        "comprehensions per 100 lines": per_hundred(
            sum(isinstance(node, COMPREHENSIONS) for node in nodes)
        ),
        "walrus per 100 lines": per_hundred(sum(isinstance(node, ast.NamedExpr) for node in nodes)),
        "tuple assignments per 100 lines": per_hundred(
            sum(len(list(tuple_assignments(module))) for module in package)
        ),
        "lists of stages by name": str(sum(len(list(stage_lists(m))) for m in package)),
    }


def print_table(rows: dict[str, list[str]], header: list[str]) -> None:
    """Print rows of text in columns."""
    print(f"{header[0]:50}" + "".join(f"{name:>24}" for name in header[1:]))
    for name, cells in rows.items():
        print(f"{name:50}" + "".join(f"{cell:>24}" for cell in cells))


def main(verbose: bool) -> None:
    """Print the measures and the counts of breaches by package, and by folder what is left."""
    sources = {package: modules(package) for package in PACKAGES}
    measured = {package: measures(source) for package, source in sources.items()}
    names = list(measured["occse"])
    print_table(
        {name: [measured[package][name] for package in PACKAGES] for name in names},
        ["measure", *PACKAGES],
    )
    found = {package: breaches(source) for package, source in sources.items()}
    rules = [*RULES, "crowded folder", "stem occurs twice"]
    counts = {package: Counter(breach.rule for breach in found[package]) for package in PACKAGES}
    print()
    print_table(
        {rule: [str(counts[package][rule]) for package in PACKAGES] for rule in rules},
        ["breaches", *PACKAGES],
    )
    everything = breaches_in_tests()
    for package in PACKAGES:
        everything += found[package]
    print("\nbreaches by folder, those of tests too:")
    for folder, count in sorted(Counter(map(folder_of, everything)).items()):
        print(f"{count:5} {folder}")
    if verbose:
        print(*everything, sep="\n")


if __name__ == "__main__":
    main(verbose="-v" in sys.argv[1:])

"""The rules of the code's style that a program can check.

`test_quality.py` fails on a breach; `python tests/style_table.py` prints the counts.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("occse", "sweeps", "analysis")

# Relative clauses: a docstring that opens with one never says its subject.
OPENERS = re.compile(r"(What(?:ever)?|Which|Where|Whether|Who(?:ever)?|Whom|Whose|How|When|Why)\b")

# A reader scrolls sideways past this column.
LINE_LENGTH = 100
# Prose is read on a page that wraps it; its source is only edited.
PROSE_LENGTH = 120
# A file is as long as its idea; past this it holds two.
FILE_LENGTH = 450
# More names than these are not taken in at one glance.
FOLDER_LENGTH = 14
# As many stage names in one literal as can only be a copy of the pipeline's order.
STAGES_IN_A_ROW = 3

STAGES = {
    *("data", "pretrain", "oc", "cgnet", "cam", "crf", "crf_low", "crf_high"),
    *("affinity", "pseudo", "deeplab", "seg", "erase_and_infer"),
}
# One file per command and per stage, named as the user names it.
STEMS_MAY_REPEAT = ("commands", "stages")

# Files beside Python that people write, at the root and in the packages.
TEXTS_AT_ROOT = (".ci/run", ".github/*.md", "*.md", "*.toml", "*.yaml")
TEXT_ENDINGS = {".md", ".yaml", ".sh", ".js", ".css", ".html"}


@dataclass(frozen=True)
class Breach:
    """One place where the code breaks a rule."""

    path: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Module:
    """One source file, parsed once."""

    path: Path
    source: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.path.parent.relative_to(ROOT).as_posix()

    @property
    def lines(self) -> list[str]:
        return self.source.splitlines()


def modules(package: str) -> list[Module]:
    """All modules of a package, those of generated or vendored code included."""
    paths = sorted((ROOT / package).rglob("*.py"))
    sources = [path.read_text(encoding="utf-8") for path in paths]
    return [
        Module(path, source, ast.parse(source, str(path)))
        for path, source in zip(paths, sources, strict=True)
    ]


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string that stands as a statement: of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if alone and isinstance(node.value.value, str):
            yield node.value


def relative_openers(module: Module) -> Iterator[tuple[int, str]]:
    """Docstrings that open with a relative clause."""
    for docstring in docstrings(module.tree):
        text = str(docstring.value).lstrip()
        if OPENERS.match(text):
            yield docstring.lineno, text.splitlines()[0]


def is_truth_value(node: ast.expr) -> bool:
    """Tell whether an expression is certainly a bool, as far as syntax shows it."""
    if isinstance(node, ast.Compare):
        return True
    if isinstance(node, ast.BoolOp):
        return all(is_truth_value(value) for value in node.values)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"bool", "isinstance", "any", "all", "hasattr"}
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def is_words(node: ast.expr) -> bool:
    """Tell whether an expression is a literal text of several characters, which nobody repeats."""
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return any(character.isalpha() for character in node.value) and len(node.value) > 1
    return False


SUMS = (ast.Add, ast.Sub, ast.Mult)


def is_boolean_arithmetic(node: ast.AST) -> bool:
    """Tell whether a node adds, multiplies or indexes by a truth value, or multiplies a text."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, SUMS):
        operands = (node.left, node.right)
        if isinstance(node.op, ast.Mult) and any(map(is_words, operands)):
            return True
        return any(map(is_truth_value, operands))
    if isinstance(node, ast.AugAssign) and isinstance(node.op, SUMS):
        return is_truth_value(node.value)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Tuple | ast.List):
        return is_truth_value(node.slice)
    return False


def boolean_arithmetic(module: Module) -> Iterator[tuple[int, str]]:
    """Sums and products of truth values, and texts multiplied by a flag."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.expr | ast.stmt) and is_boolean_arithmetic(node):
            yield node.lineno, ast.unparse(node)


def loops_as_let(module: Module) -> Iterator[tuple[int, str]]:
    """Loops over a literal of one element, written to bind a name."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.For | ast.comprehension):
            continue
        values = node.iter
        if not isinstance(values, ast.List | ast.Tuple | ast.Set) or len(values.elts) != 1:
            continue
        if not isinstance(values.elts[0], ast.Starred):
            yield values.lineno, f"for {ast.unparse(node.target)} in {ast.unparse(values)}"


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def double_comprehensions(module: Module) -> Iterator[tuple[int, str]]:
    """Comprehensions over two `for`s."""
    for node in ast.walk(module.tree):
        if isinstance(node, COMPREHENSIONS) and len(node.generators) > 1:
            yield node.lineno, ast.unparse(node)


def nested_conditions(module: Module) -> Iterator[tuple[int, str]]:
    """Conditional expressions within conditional expressions."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.IfExp):
            inner = [child for child in ast.walk(node) if isinstance(child, ast.IfExp)]
            if len(inner) > 1:
                yield node.lineno, ast.unparse(node)


def is_pair(targets: list[ast.expr], values: list[ast.expr]) -> bool:
    """Tell whether two local names take two values of one form, such as a cosine and a sine."""
    names = all(isinstance(target, ast.Name) for target in targets)
    return len(targets) == 2 and names and type(values[0]) is type(values[1])


def tuple_assignments(module: Module) -> Iterator[tuple[int, str]]:
    """Assignments of several values at once that are neither an exchange nor a pair."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        if not isinstance(node.targets[0], ast.Tuple):
            continue
        targets = node.targets[0].elts
        names = {ast.unparse(target) for target in targets}
        used = {ast.unparse(child) for child in ast.walk(node.value) if isinstance(child, ast.expr)}
        if not names & used and not is_pair(targets, node.value.elts):
            yield node.lineno, ast.unparse(node)


def is_number(node: ast.expr | None) -> bool:
    """Tell whether an expression is made of number literals only."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    if isinstance(node, ast.Tuple | ast.List):
        return bool(node.elts) and all(is_number(element) for element in node.elts)
    return False


def bare_numbers(module: Module) -> Iterator[tuple[int, str]]:
    """Numbers at module level without a comment above that gives their reason.

    Numbers in lines that follow one another share the comment above the first of them.
    """
    explained = -1
    for node in module.tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not is_number(node.value):
            continue
        above = module.lines[node.lineno - 2].strip() if node.lineno > 1 else ""
        if above.startswith("#") or node.lineno == explained + 1:
            explained = node.end_lineno or node.lineno
        else:
            yield node.lineno, ast.unparse(node)


def long_lines(module: Module) -> Iterator[tuple[int, str]]:
    """Lines that reach beyond the column limit."""
    for number, line in enumerate(module.lines, 1):
        if len(line) > LINE_LENGTH:
            yield number, f"{len(line)} columns"


def long_files(module: Module) -> Iterator[tuple[int, str]]:
    """Files of more lines than one idea takes."""
    if len(module.lines) > FILE_LENGTH:
        yield 1, f"{len(module.lines)} lines"


def stage_lists(module: Module) -> Iterator[tuple[int, str]]:
    """Literals that list stages by name, which only the pipeline and a stage's needs may."""
    if module.path.parent.name == "stages":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Dict):
            elements = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            elements = list(node.elts)
        else:
            continue
        names = {child.value for child in elements if isinstance(child, ast.Constant)}
        if len(names & STAGES) >= STAGES_IN_A_ROW:
            yield node.lineno, ast.unparse(node)


Rule = Callable[[Module], Iterator[tuple[int, str]]]
RULES: dict[str, Rule] = {
    "docstring opens with a relative clause": relative_openers,
    "arithmetic with a truth value": boolean_arithmetic,
    "loop over one value": loops_as_let,
    "comprehension over two loops": double_comprehensions,
    "nested conditional expression": nested_conditions,
    "several assignments in one": tuple_assignments,
    "number without a reason above": bare_numbers,
    "line too long": long_lines,
    "file too long": long_files,
    "list of stages by name": stage_lists,
}

# Inputs and expected values of tests are numbers and lists of stages that need no reason.
TEST_RULES = (
    "docstring opens with a relative clause",
    "loop over one value",
    "nested conditional expression",
    "line too long",
    "file too long",
)


def crowded_folders(package: list[Module]) -> Iterator[Breach]:
    """Folders with more modules than a reader takes in."""
    counts = Counter(module.path.parent for module in package if module.path.stem != "__init__")
    for folder, count in sorted(counts.items()):
        if count > FOLDER_LENGTH:
            yield Breach(folder, 1, "crowded folder", f"{count} modules")


def repeated_stems(package: list[Module]) -> Iterator[Breach]:
    """Modules whose name another module of the package has too."""
    places: dict[str, list[Path]] = {}
    for module in package:
        named_by_user = module.path.parent.name in STEMS_MAY_REPEAT
        if not named_by_user and not module.path.stem.startswith("__"):
            places.setdefault(module.path.stem, []).append(module.path)
    for stem, paths in sorted(places.items()):
        for path in paths[1:]:
            yield Breach(path, 1, "stem occurs twice", f"{stem}, as {paths[0].relative_to(ROOT)}")


def breaches_of(rules: Iterable[str], module: Module) -> list[Breach]:
    """All breaches of some rules in one module."""
    found = []
    for name in rules:
        found += [Breach(module.path, line, name, text) for line, text in RULES[name](module)]
    return found


def breaches(package: list[Module]) -> list[Breach]:
    """All breaches of a package."""
    found = [*crowded_folders(package), *repeated_stems(package)]
    for module in package:
        found += breaches_of(RULES, module)
    return found


def text_files() -> list[Path]:
    """The files beside Python that people write; expected outputs of tests are made by programs."""
    found = [ROOT / "sweeps/clusters/Dockerfile"]
    for pattern in TEXTS_AT_ROOT:
        found += ROOT.glob(pattern)
    for package in PACKAGES:
        found += [path for path in (ROOT / package).rglob("*") if path.suffix in TEXT_ENDINGS]
    return sorted(found)


def is_unbreakable(line: str) -> bool:
    """Tell whether Markdown allows no line break here: a row of a table, or one address."""
    return line.startswith(("|", "  |", "[")) or " " not in line.strip()


def long_text_lines(path: Path, text: str) -> Iterator[Breach]:
    """Lines of a file that is not Python that reach beyond its column limit."""
    prose = path.suffix == ".md"
    limit = PROSE_LENGTH if prose else LINE_LENGTH
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > limit and not (prose and is_unbreakable(line)):
            yield Breach(path, number, "line too long", f"{len(line)} columns")


def breaches_in_texts() -> list[Breach]:
    """All breaches in files that are not Python."""
    found = []
    for path in text_files():
        found += long_text_lines(path, path.read_text(encoding="utf-8"))
    return found


def breaches_in_tests() -> list[Breach]:
    """All breaches in the tests of the rules that hold there too."""
    found = []
    for module in modules("tests"):
        found += breaches_of(TEST_RULES, module)
    return found


def folder_of(breach: Breach) -> str:
    """The folder that a breach belongs to, relative to the root."""
    folder = breach.path if breach.path.is_dir() else breach.path.parent
    return folder.relative_to(ROOT).as_posix()


def failures() -> list[Breach]:
    """All breaches, in packages, tests and other texts."""
    found = breaches_in_tests() + breaches_in_texts()
    for package in PACKAGES:
        found += breaches(modules(package))
    return found

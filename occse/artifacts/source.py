"""Source code that made an artifact, by digest, so that edited code is noticed.

A stage reaches the modules that its class's module imports, theirs, and so on, imports inside
functions included. Each is hashed as syntax: comments, docstrings and layout do not count. The
digests stand in the manifest. Another digest does not make another artifact: `version` of the stage
does. It makes a lookup say which files changed.
"""

import ast
import hashlib
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path

from occse.artifacts.manifest import Manifest
from occse.pipeline import Node
from occse.stage import Stage

# Two versions of a module share a digest with a probability of 1 in 4 billion.
DIGITS = 8
# Python 3.11 counts the depth of syntax trees once for all threads: two that parse at the same time
# can end in a SystemError (CPython issue 106905).
_PARSING = threading.Lock()


class ChangedCode(Enum):
    """Treatment of a stored artifact that other code made."""

    #: Take it and say nothing.
    REUSE = "reuse"
    #: Take it and say so, once per command.
    WARN = "warn"
    #: Set it aside and make it again, and all that was made from it.
    RERUN = "rerun"


def source_of(stage: type[Stage]) -> dict[str, str]:
    """Return the digests of the modules that the code of a stage reaches, by module name."""
    return dict(_reached(stage.__module__))


def changed_modules(manifest: Manifest, stage: type[Stage]) -> tuple[str, ...]:
    """Return the names of the modules whose code is not the code that made an artifact.

    Empty where it is the same code, or where the manifest does not tell: it has no digests, or they
    are of another version of Python, whose syntax trees differ.
    """
    before = manifest.source
    if not before or _minor(manifest.packages.get("python", "")) != _minor(_python()):
        return ()
    here = _reached(stage.__module__)
    # A module that was added or dropped is a change of the code too.
    names = before.keys() | here.keys()
    return tuple(sorted(name for name in names if before.get(name) != here.get(name)))


def changes(manifests: Mapping[str, Manifest], nodes: Mapping[str, Node]) -> dict[str, str]:
    """Return the artifacts that other code made, and the reason as text, by fingerprint.

    An artifact that was made from such an artifact is one too.

    Args:
        manifests: of the artifacts in the store, by fingerprint.
        nodes: the artifacts to look at, by fingerprint, upstream first.
    """
    reasons: dict[str, str] = {}
    for fingerprint, node in nodes.items():
        manifest = manifests.get(fingerprint)
        if manifest is None:
            continue
        modules = changed_modules(manifest, type(node.stage))
        upstream = [field for field, need in node.inputs.items() if need in reasons]
        if modules:
            reasons[fingerprint] = f"made by other code: {describe(modules)} changed"
        elif upstream:
            reasons[fingerprint] = f"made from {', '.join(upstream)} of other code"
    return reasons


def describe(modules: tuple[str, ...]) -> str:
    """Return the files of modules as text: the last parts of their names."""
    return ", ".join(f"{name.rpartition('.')[2]}.py" for name in modules)


@cache
def _reached(module: str) -> Mapping[str, str]:
    root = _root(module)
    digests: dict[str, str] = {}
    if root is None:
        return digests
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path(root, name)
        # Seen before (imports may be circular), an attribute and no module, or of another package,
        # whose version stands among the manifest's packages.
        if name in digests or path is None:
            continue
        digest, imported = _read(path, name)
        digests[name] = digest
        waiting += imported
        # A package runs its own file when one of its modules is imported.
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
    return dict(sorted(digests.items()))


def _root(module: str) -> Path | None:
    """Return the folder that the top-level package of `module` lies in; None if it has no file."""
    file = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None)
    if file is None:
        return None
    path = Path(file)
    return path.parent.parent if path.stem == "__init__" else path.parent


def _path(root: Path, name: str) -> Path | None:
    """Return the file of a module below `root`; None where there is none, as of another package."""
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _read(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module's code, and the names that it may import."""
    with _PARSING:
        tree = ast.parse(path.read_bytes())
    is_package = path.stem == "__init__"
    imported = tuple(_imports(tree, name if is_package else name.rpartition(".")[0]))
    code = ast.dump(_WithoutDocstrings().visit(tree))
    return hashlib.sha256(code.encode()).hexdigest()[:DIGITS], imported


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the modules that a syntax tree imports, and the names that may be modules.

    Imports for type checkers run no code, so they do not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            yield source
            # `from package import name`: only the file system tells if `name` is a module.
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif not _is_for_type_checkers(node):
            yield from _imports(node, package)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    # One dot is the package itself, each further one its parent.
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes every string that stands alone: docstrings, and those beneath attributes."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _python() -> str:
    return platform.python_version()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])

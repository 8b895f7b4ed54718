"""Digests of the code behind an artifact: they follow the code, not its comments."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from occse.artifacts.execute import execute, find
from occse.artifacts.manifest import Manifest
from occse.artifacts.source import changed_modules, changes, source_of
from occse.pipeline import STAGES, Node
from occse.stage import Context, Stage, fingerprint

HELPER = '''"""A helper."""

import math


def half(value):
    """Return half of it."""
    return value / 2  # exactly
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose module `stage` imports `helper` in a function, and `typing_only` for mypy."""
    folder = tmp_path / "madeup"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text("from . import helper\n")
    (folder / "inner" / "helper.py").write_text(HELPER)
    (folder / "typing_only.py").write_text("X = 1\n")
    (folder / "unused.py").write_text("X = 1\n")
    (folder / "stage.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from madeup.typing_only import X\n"
        "def run():\n    from .inner.helper import half\n    return half(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = ModuleType("madeup")
    module.__file__ = str(folder / "__init__.py")
    monkeypatch.setitem(sys.modules, "madeup", module)
    yield folder


class Made(Stage):
    pass


def digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    from occse.artifacts import source

    # A process sees one state of the code; here it changes within the test.
    source._reached.cache_clear()
    source._read.cache_clear()
    monkeypatch.setattr(Made, "__module__", "madeup.stage")
    return source_of(Made)


def test_source_names_the_modules_that_the_code_reaches(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"madeup", "madeup.stage", "madeup.inner", "madeup.inner.helper"}
    assert digests(monkeypatch).keys() == names


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("value / 2", "value / 3", True),
        ("# exactly", "# roughly", False),
        ('"""Return half of it."""', '"""Halve it."""', False),
        ('"""A helper."""', "", False),
        ("import math\n\n\n", "import math\n\n", False),
        ("return value / 2", "return (\n        value / 2\n    )", False),
        ("half(value)", "half(value=1)", True),
    ],
)
def test_source_follows_the_code_and_not_its_comments(
    package: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, counts: bool
) -> None:
    before = digests(monkeypatch)
    assert old in HELPER
    (package / "inner" / "helper.py").write_text(HELPER.replace(old, new))
    after = digests(monkeypatch)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == ({"madeup.inner.helper"} if counts else set())


def test_source_of_a_stage_leaves_out_what_only_others_use() -> None:
    walk = "occse.method.random_walk"
    assert walk in source_of(STAGES["MakePseudoLabels"])
    assert walk not in source_of(STAGES["TrainCGNet"])
    assert "occse.method.erasing" in source_of(STAGES["TrainCGNet"])
    assert "occse.networks.deeplab" not in source_of(STAGES["TrainCGNet"])
    assert "occse.method.crf" not in source_of(STAGES["TrainSegmentation"])
    assert not any(name.startswith("occse.commands") for name in source_of(STAGES["Segment"]))


class Text(Stage):
    text: str = "text"
    upstream: str = ""

    def needs(self) -> tuple[str, ...]:
        return (self.upstream,) if self.upstream else ()

    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.output / "text").write_text(self.text)
        return {}


def node_of(field: str, stage: Stage, **inputs: Node) -> Node:
    made_from = {need: node.fingerprint for need, node in inputs.items()}
    return Node(
        field=field, stage=stage, inputs=made_from, fingerprint=fingerprint(stage, made_from)
    )


def other_code(manifest: Manifest, **update: object) -> Manifest:
    name = Text.__module__
    return manifest.model_copy(update={"source": {name: "00000000"}, **update})


def test_an_artifact_knows_the_code_that_made_it(tmp_path: Path) -> None:
    node = node_of("data", Text())
    execute(node, root=tmp_path)
    manifest = find(tmp_path, node)
    assert manifest is not None
    assert manifest.source == source_of(Text)
    assert changed_modules(manifest, Text) == ()
    assert Text.__module__ in changed_modules(other_code(manifest), Text)


def test_an_artifact_of_unknown_code_or_of_another_python_is_not_called_changed(
    tmp_path: Path,
) -> None:
    manifest = execute(node_of("data", Text()), root=tmp_path)
    assert changed_modules(manifest.model_copy(update={"source": {}}), Text) == ()
    other_python = manifest.packages | {"python": "3.9.1"}
    assert changed_modules(other_code(manifest, packages=other_python), Text) == ()


def test_changed_code_reaches_what_was_made_from_it(tmp_path: Path) -> None:
    data = node_of("data", Text())
    oc = node_of("oc", Text(text="oc", upstream="data"), data=data)
    other = node_of("cam", Text(text="other"))
    nodes = {node.fingerprint: node for node in (data, oc, other)}
    manifests = {name: execute(node, root=tmp_path) for name, node in nodes.items()}
    assert changes(manifests, nodes) == {}
    manifests[data.fingerprint] = other_code(manifests[data.fingerprint])
    found = changes(manifests, nodes)
    assert found.keys() == {data.fingerprint, oc.fingerprint}
    assert found[data.fingerprint].startswith("made by other code: ")
    assert f"{Text.__module__}.py" in found[data.fingerprint]
    assert found[oc.fingerprint] == "made from data of other code"
    absent = {name: manifest for name, manifest in manifests.items() if name != data.fingerprint}
    assert changes(absent, nodes) == {}


class Litter:
    """A reference circle that the garbage collector ends, with Python code at its end."""

    def __init__(self) -> None:
        self.circle = self

    def __del__(self) -> None:
        sum(range(2000))


def test_threads_read_the_code_of_stages_at_the_same_time() -> None:
    from occse.artifacts import source

    # Python 3.11 raised SystemError here in one of some 60 readings: a thread that collects garbage
    # while it builds a syntax tree lets another one build its own.
    read = source._read.__wrapped__
    files = sorted(Path(source.__file__).parents[1].rglob("*.py")) * 2

    def digest(file: Path) -> str:
        for _ in range(20):
            Litter()
        return read(file, "occse.module")[0]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            digests = list(pool.map(digest, files))
    finally:
        sys.setswitchinterval(before)
    assert digests == [read(file, "occse.module")[0] for file in files]

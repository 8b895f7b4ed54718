"""Plugins: their parts join the pipeline, and every Python file of them is identity.

Each case is a process of its own, because a plugin changes the pipeline of its process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COVERAGE = """
from typing import ClassVar
from occse.stage import Context, Stage

class MeasureCoverage(Stage):
    may_need: ClassVar[tuple[str, ...]] = ("cam",)
    threshold: float = 0.2

    def needs(self) -> tuple[str, ...]:
        return ("cam",)

STAGES = {"coverage": MeasureCoverage}
"""
OWN_CGNET = """
from occse.stages.cgnet import TrainCGNet

class WithMargin(TrainCGNet):
    margin: float = 0.1

STAGES = {"cgnet": WithMargin}
"""
LAYOUT = """
from typing import ClassVar, Literal
from occse.stages.data import InPlace

class Sorted(InPlace):
    example: ClassVar[str] = "FOLDER"
    kind: Literal["sorted"] = "sorted"

DATA = [Sorted]
"""
BACKBONE = """
from occse.networks.backbones.tiny import Tiny

class Own(Tiny):
    pass
"""
STAGE = "from occse.stage import Stage\nclass Own(Stage):\n    "
IMPOSSIBLE = {
    "raise SystemExit(3)": "SystemExit: 3 (",
    "def f(:": "SyntaxError: invalid syntax (bad1.py, line 1)",
    "STAGES = 3": "expected STAGES = {'field': StageClass}",
    STAGE + "pass\nDATA = [Own]": "is not a stage; expected a subclass of InPlace",
    STAGE + "pass\nSTAGES = {'my stage': Own}": "expected a name of small letters",
    STAGE + "pass\nSTAGES = {'resolve': Own}": "other than those of methods",
    STAGE + "a: int\nSTAGES = {'own': Own}": "Own has no default, or a wrong one, for a; expected",
    STAGE + "a: 'Nope' = 3\nSTAGES = {'own': Own}": "you should define `Nope`",
    STAGE + "may_need = ('nothing',)\nSTAGES = {'own': Own}": "needs 'nothing', which is no field",
    COVERAGE.replace("MeasureCoverage", "MakeCam"): "the name MakeCam, which is that of occse",
    LAYOUT.replace('"sorted"', '"voc"'): "DATA has Sorted of the kind 'voc'; expected a name",
    LAYOUT.replace("    kind", "    other"): "DATA has Sorted of the kind None",
}
LOAD_EACH = """
from occse.plugins import load_plugins
from occse.pipeline import Pipeline, pipeline_class
for name in {names}:
    try:
        load_plugins([name])
    except ValueError as error:
        print(" ".join(str(error).split()))
assert pipeline_class() is Pipeline
"""
PLAN = """
from occse.plugins import load_plugins
load_plugins()
from occse.pipeline import default_pipeline, override, plan
nodes = plan(override(default_pipeline("embedded"), {knobs}), targets=("{target}",))
for field, node in nodes.items():
    print(field, node.kind, node.fingerprint)
"""


def python(folder: Path, code: str, *plugins: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"OCCSE_PLUGINS": ",".join(plugins)}
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def planned(
    folder: Path, *plugins: str, target: str = "cam", knobs: dict[str, object] | None = None
) -> dict[str, tuple[str, str]]:
    """Class and fingerprint of each planned stage by its field."""
    done = python(folder, PLAN.format(target=target, knobs=knobs or {}), *plugins)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {field: (kind, fingerprint) for field, kind, fingerprint in rows}


def test_plugin_stage_joins_the_pipeline_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "coverage.py").write_text(COVERAGE)
    without = planned(tmp_path)
    assert planned(tmp_path, "coverage") == without
    with_coverage = planned(tmp_path, "coverage", target="coverage")
    assert with_coverage.pop("coverage")[0] == "MeasureCoverage"
    assert with_coverage == without


def test_plugin_edited_is_another_identity_of_what_it_makes_alone(tmp_path: Path) -> None:
    (tmp_path / "coverage.py").write_text(COVERAGE)
    before = planned(tmp_path, "coverage", target="coverage")
    (tmp_path / "coverage.py").write_text(COVERAGE + "# edited\n")
    after = planned(tmp_path, "coverage", target="coverage")
    assert [field for field in before if before[field] != after[field]] == ["coverage"]


@pytest.mark.parametrize(("plugin", "is_regular"), [("own", True), ("own.parts", False)])
def test_plugin_that_is_a_package_has_all_its_modules_as_identity(
    tmp_path: Path, plugin: str, is_regular: bool
) -> None:
    package = tmp_path / "own"
    package.mkdir()
    (package / "numbers.py").write_text("LOW = 0.2\n")
    # The class lies in another module than the one that the user names.
    stage = COVERAGE.replace("threshold: float = 0.2", "threshold: float = LOW")
    (package / "coverage.py").write_text("from .numbers import LOW\n" + stage)
    entry = "__init__.py" if is_regular else "parts.py"
    (package / entry).write_text("from .coverage import STAGES\n")
    before = planned(tmp_path, plugin, target="coverage")
    (package / "numbers.py").write_text("LOW = 0.1 + 0.1\n")
    after = planned(tmp_path, plugin, target="coverage")
    assert [field for field in before if before[field] != after[field]] == ["coverage"]
    shown = python(
        tmp_path, "from occse.plugins import *; load_plugins(); print(plugin_files())", plugin
    )
    assert shown.stdout == f"[{package!r}]\n"


def test_plugin_replaces_a_stage_by_a_subclass_with_its_own_knobs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_CGNET)
    without = planned(tmp_path)
    found = planned(tmp_path, "own", knobs={"cgnet.margin": 0.2, "cgnet.lr": 0.01})
    assert found["cgnet"][0] == "WithMargin"
    assert {field for field in found if found[field] != without[field]} == {"cgnet", "cam"}


def test_plugin_data_layout_is_a_kind(tmp_path: Path) -> None:
    (tmp_path / "layout.py").write_text(LAYOUT)
    found = planned(tmp_path, "layout", target="data", knobs={"data.kind": "sorted"})
    assert found["data"][0] == "Sorted"


def test_plugin_backbone_is_named_by_its_class_and_its_source_is_identity(tmp_path: Path) -> None:
    path = tmp_path / "backbone.py"
    path.write_text(BACKBONE)
    knobs = {"cgnet.backbone": "backbone:Own", "cgnet.init": "random"}
    before = planned(tmp_path, "backbone", knobs=knobs)
    path.write_text(BACKBONE + "# edited\n")
    after = planned(tmp_path, "backbone", knobs=knobs)
    assert [field for field in before if before[field] != after[field]] == ["cgnet", "cam"]
    code = (
        "from occse.networks.backbones import build_backbone as b; print(b('backbone:Own').stride)"
    )
    assert python(tmp_path, code).stdout == "4\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "plugin own: there is no module of that name; expected one in the folder"),
        ("1 / 0", "plugin own: ZeroDivisionError: division by zero"),
        (
            "STAGES = {'coverage': int}",
            "<class 'int'> is not a stage; expected a subclass of Stage",
        ),
        (
            COVERAGE.replace("{'coverage'", "{'cam'").replace('{"coverage"', '{"cam"'),
            "STAGES['cam'] is MeasureCoverage, expected a subclass of MakeCam",
        ),
    ],
)
def test_plugin_at_fault_is_refused_by_name(
    tmp_path: Path, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / "own.py").write_text(source)
    done = python(tmp_path, PLAN.format(target="cam", knobs={}), "own")
    assert message in done.stderr.splitlines()[-1]


def test_plugin_with_parts_that_cannot_be_is_refused_and_leaves_the_pipeline(
    tmp_path: Path,
) -> None:
    names = [f"bad{number}" for number in range(len(IMPOSSIBLE))]
    for name, source in zip(names, IMPOSSIBLE, strict=True):
        (tmp_path / f"{name}.py").write_text(source)
    done = python(tmp_path, LOAD_EACH.format(names=names))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, line, message in zip(names, lines, IMPOSSIBLE.values(), strict=True):
        assert line.startswith(f"plugin {name}: ")
        assert message in line


def test_backbone_of_a_module_that_is_no_plugin_is_refused(tmp_path: Path) -> None:
    knobs = {"cgnet.backbone": "backbone:Own"}
    done = python(tmp_path, PLAN.format(target="cam", knobs=knobs))
    assert "the backbone 'backbone:Own' is in no plugin" in done.stderr.splitlines()[-1]

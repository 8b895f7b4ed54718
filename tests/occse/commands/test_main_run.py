"""Output of `python -m occse run`."""

import json
from pathlib import Path

import pytest
from small import SMALL

from occse.__main__ import main
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.pipeline import Node


def run(store: Path, low: float, high: float) -> None:
    knobs = SMALL | {"crf_low.alpha": low, "crf_high.alpha": high}
    arguments = ["run", "--profile", "embedded", "--store", str(store)]
    for key, value in knobs.items():
        arguments += ["--set", f"{key}={value}"]
    assert main([*arguments, "--targets", "cam", "crf_low", "crf_high"]) == 0


def test_scores_are_the_manifest_s_and_alphas_show_their_thresholds(
    own_store: Path, small_node: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    run(own_store, low=6, high=16)
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line for line in printed.splitlines() if line.startswith("[")}
    assert list(lines) == ["data", "pretrain", "oc", "cgnet", "cam", "crf_low", "crf_high"]
    assert lines["crf_low"].endswith("alpha 6 (threshold 0.222)  from the store")
    assert lines["crf_high"].endswith("alpha 16 (threshold 0.123)  from the store")
    assert lines["cam"].endswith(f"{small_node['cam'].fingerprint}  from the store")
    manifest = load_manifest(own_store, small_node["cam"])
    assert manifest is not None
    assert f"cam/miou {manifest.metrics['miou']:.4f}  " in printed


@pytest.mark.parametrize(("low", "high", "warned"), [(0.4, 90, False), (100, 101, True)])
def test_alphas_that_do_not_bracket_the_best_threshold_are_warned_of(
    low: float, high: float, warned: bool, own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(own_store, low, high)
    warnings = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")
    ]
    assert len(warnings) == warned
    assert all("trust foreground too easily" in line for line in warnings)


def made_by_other_code(store: Path, node: Node, module: str) -> None:
    """Rewrite the manifest of an artifact as if `module` had been another when it was made."""
    path = artifact_folder(store, node) / "manifest.json"
    values = json.loads(path.read_text())
    assert module in values["source"]
    values["source"][module] = "00000000"
    path.write_text(json.dumps(values))


def changed_run(store: Path, *options: str) -> int:
    arguments = ["run", "--profile", "embedded", "--store", str(store), "--targets", "crf"]
    for key, value in SMALL.items():
        arguments += ["--set", f"{key}={value}"]
    return main([*arguments, *options])


def test_artifacts_of_other_code_are_named_once_with_the_command(
    own_store: Path, small_node: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    assert changed_run(own_store) == 0
    assert "other code" not in capsys.readouterr().out
    made_by_other_code(own_store, small_node["cam"], "occse.method.cam")
    assert changed_run(own_store) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line for line in printed.splitlines() if line.startswith("[")}
    assert lines["cam"].endswith("from the store, made by other code: cam.py changed")
    assert lines["crf"].endswith("from the store, made from cam of other code")
    assert lines["cgnet"].endswith("from the store")
    said = "warning: artifacts made by other code: 2; "
    (warning,) = [line for line in printed.splitlines() if line.startswith(said)]
    assert "to make them again: python -m occse run --profile embedded --store " in warning
    assert warning.endswith(" --changed-code rerun")
    assert changed_run(own_store, "--changed-code", "reuse") == 0
    assert "other code" not in capsys.readouterr().out


def test_artifacts_of_other_code_are_made_again_on_demand(
    own_store: Path, small_node: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {field: load_manifest(own_store, small_node[field]) for field in ("cam", "crf")}
    made_by_other_code(own_store, small_node["cam"], "occse.method.cam")
    assert changed_run(own_store, "--changed-code", "rerun") == 0
    printed = capsys.readouterr().out
    assert printed.count("  running") == 2
    for field, manifest in before.items():
        again = load_manifest(own_store, small_node[field])
        assert manifest is not None
        assert again is not None
        assert again.files == manifest.files
        assert again.created >= manifest.created
    assert len(list(own_store.glob("corrupt/*/*/manifest.json"))) == 2
    assert changed_run(own_store) == 0
    assert "other code" not in capsys.readouterr().out

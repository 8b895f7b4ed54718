"""Output of `python -m occse run`."""

from pathlib import Path

import pytest
from small import SMALL

from occse.__main__ import main
from occse.artifacts.manifest import load_manifest
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

"""The benchmark for GPUs works where there is none, so that it works when there is one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
STAGES = (
    "oc",
    "cgnet",
    "cam",
    "crf",
    "crf_low",
    "crf_high",
    "affinity",
    "pseudo",
    "deeplab",
    "seg",
)


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error::UserWarning", "tests/benchmarks/bench_gpu.py"]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tiny_run_on_the_cpu_fills_the_table_and_warns_of_nothing() -> None:
    done = bench("--device", "cpu", "--tiny")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line]
    table = [row for row in cells if row[0] not in ("work", ":--")]
    assert all(len(row) == 6 for row in table)
    work = [row[0] for row in table]
    for stage in STAGES:
        assert work.count(f"stage {stage}") == 1
    for row in table:
        assert float(row[2]) > 0, row
    notes = {row[0]: row[5] for row in table}
    for labels in (4, 21):
        assert "0 labels differ" in notes[f"dense CRF, {labels} labels"]
    # The CPU against itself: nothing is off.
    assert notes["CAMs, 2 scales"] == "off 0e+00"
    assert notes["CGNet's step, float32"].endswith("mask 0e+00, loss 0e+00, gradients 0e+00")
    # The two algorithms of the walk agree.
    off = re.search(r"dense squarings; off (\S+)", notes["random walk"])
    assert off is not None
    assert float(off[1]) < 1e-4
    assert "CAM mIoU" in notes["embedded trial to `cam`"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = bench()
    assert done.returncode == 1
    assert "torch sees no GPU here" in done.stderr

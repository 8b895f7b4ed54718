"""The benchmark for GPUs works where there is none, so that it works when there is one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "tests/benchmarks/bench_gpu.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False
    )


def test_a_tiny_run_on_the_cpu_fills_all_tables() -> None:
    done = bench("--device", "cpu", "--tiny")
    assert done.returncode == 0, done.stderr
    training, inference = done.stdout.split("| CAMs,")
    rows = re.compile(r"^\| ([^|]+) \| (\d+\.\d) \| (\d+\.\d\d) \| ([^|]*) \|$", re.MULTILINE)
    names = ["float32, contiguous", "channels_last", "loader workers: 1", "bfloat16"]
    assert [row[0] for row in rows.findall(training)] == names
    found = {name: note for name, _, _, note in rows.findall(inference)}
    assert found["float32, contiguous"] == "CAMs differ by 0.0e+00 in the mean, 0.0e+00 at most"
    mean, most = map(float, re.findall(r"\d\.\de-\d\d", found["bfloat16"]))
    assert 0 < mean < most < 0.1
    for labels in (4, 21):
        assert re.search(rf"dense CRF, 500 x 40, {labels} labels", done.stdout)
    assert done.stdout.count("0 labels differ") == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = bench()
    assert done.returncode == 1
    assert "torch sees no GPU here" in done.stderr

"""CPU time and memory of every command of `analysis`, and of `sweeps import`, on large sweeps.

`python tests/benchmarks/bench_analysis.py` records a made-up sweep of 1,000 trials with counts per
image and one of 5,000 without, in MLflow databases of their own, runs the commands on them, and
prints a table: CPU seconds, seconds by the clock, and peak memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from recorded_grid import NAME, record

SMALL = 1000
LARGE = 5000
IMPORTED = 1000
COLUMNS = "variant,seed,cam/miou,seg/miou,cgnet.lambda_start,cgnet.erasing,split,threshold_rule"


def commands(folder: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name and the words of each command."""
    small = f"sqlite:///{folder}/{SMALL}/mlflow.db"
    large = f"sqlite:///{folder}/{LARGE}/mlflow.db"
    export = str(folder / "large.parquet")
    of_small = ["--tracking", small]
    yield "start of a command (`table --help`)", ["analysis", "table", "--help"]
    for name in ("table", "variance", "correlation"):
        yield f"{name}, {SMALL} trials", ["analysis", name, NAME, *of_small]
    report = ["analysis", "report", NAME, str(folder / "report"), *of_small]
    yield f"report, {SMALL} trials", report
    yield (
        f"export, {LARGE} trials",
        ["analysis", "export", NAME, "--out", export, "--tracking", large],
    )
    yield f"table from the export, {LARGE} trials", ["analysis", "table", export]
    yield f"table, {LARGE} trials", ["analysis", "table", NAME, "--tracking", large]
    rows = folder / "old.csv"
    rows.write_text("\n".join([COLUMNS, *map(_row, range(IMPORTED))]) + "\n")
    to = ["--unit", "percent", "--tracking", f"sqlite:///{folder}/old.db"]
    yield f"sweeps import, {IMPORTED} rows", ["sweeps", "import", "old", str(rows), *to]


def _row(number: int) -> str:
    strength = 1 + number // 4
    scores = f"{50 + number % 7},{60 + number % 5}"
    return f"lambda {strength},{number % 4},{scores},{strength},cse,train,best on train"


def measure(name: str, words: Sequence[str]) -> None:
    """Run a command, and print what it took."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
    cpu_s = used.ru_utime + used.ru_stime
    failed = f" FAILED {status}" if status else ""
    print(
        f"| {name} | {cpu_s:.1f} s | {time.monotonic() - start:.1f} s | "
        f"{used.ru_maxrss / 1024:.0f} MB |{failed}",
        flush=True,
    )


def main() -> None:
    """Record what is missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="commands whose names start so")
    parser.add_argument("--folder", type=Path, help="keep the databases here, and use those there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        for number in (SMALL, LARGE):
            own = folder / str(number)
            if not (own / "mlflow.db").exists():
                own.mkdir(parents=True)
                record(own, number, counts=number == SMALL)
        (folder / "old.db").unlink(missing_ok=True)
        # its migrations are no part of an import
        MlflowClient(f"sqlite:///{folder}/old.db").search_experiments()
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print("| command | CPU | clock | peak memory |\n| :-- | --: | --: | --: |", flush=True)
        for name, words in commands(folder):
            if name.startswith(options.only):
                measure(name, words)


if __name__ == "__main__":
    main()

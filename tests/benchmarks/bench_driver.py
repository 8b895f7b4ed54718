"""Cost of a sweep of thousands of trials: wholly in the store, and a poll of one that runs.

The stages are probes, whose artifacts are made up from one that was run: manifest, curve and seal.
Without pictures, since what a panel costs is that of the method and not of the platform.

Run: python tests/benchmarks/bench_driver.py [--trials 5000]
"""

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "sweeps")]

from probe_stages import Scored, make_trial  # noqa: E402

import sweeps  # noqa: F401, E402 - before Ray, which reads its environment when it is imported
from occse.artifacts.checksums import FILES  # noqa: E402
from occse.artifacts.manifest import MANIFEST, artifact_folder  # noqa: E402
from sweeps.cluster.connection import Cluster  # noqa: E402
from sweeps.cluster.messages import EventKind, News, StageEvent  # noqa: E402
from sweeps.driver.sweep import run_sweep  # noqa: E402
from sweeps.plan.past_runs import PastRuns  # noqa: E402
from sweeps.plan.plan import make_plan  # noqa: E402
from sweeps.progress.progress import Progress  # noqa: E402
from sweeps.spec.model import Spec  # noqa: E402
from sweeps.spec.trials import Trial, distinct_nodes  # noqa: E402
from sweeps.store.store import CURVES, Store  # noqa: E402
from sweeps.tracking.writer import Tracking  # noqa: E402

SPEC = Spec(name="bench", question="What does a trial cost?", baseline={})
SEEDS = 4
ALPHAS = 5
# Stages that end between two polls of a busy cluster.
ENDED = 20


def trial_of(order: int) -> Trial:
    """Return a trial of 12 stages: data and classifiers are shared, a CGNet by five trials."""
    seed = order % SEEDS
    strength = order // SEEDS // ALPHAS

    def probe(name: str, *upstream: str, score: float = 0.5) -> Scored:
        return Scored(label=name, upstream=upstream, score=score)

    cgnet = f"{strength} {seed}"
    own = str(order)
    return make_trial(
        order,
        data=probe("data"),
        pretrain=probe(f"pretrain {seed}", "data"),
        oc=probe(f"oc {seed}", "data", "pretrain"),
        cgnet=probe(f"cgnet {cgnet}", "data", "oc"),
        cam=probe(f"cam {cgnet}", "data", "cgnet"),
        crf=probe(f"crf {own}", "data", "cam"),
        crf_low=probe(f"crf_low {cgnet}", "data", "cam"),
        crf_high=probe(f"crf_high {cgnet}", "data", "cam"),
        affinity=probe(f"affinity {own}", "data", "crf_low", "crf_high"),
        pseudo=probe(f"pseudo {own}", "data", "cam", "crf", "affinity"),
        deeplab=probe(f"deeplab {own}", "data", "pseudo"),
        seg=probe(f"seg {own}", "data", "deeplab", score=0.4 + order % 97 / 1000),
    )


def fill(root: Path, number: int) -> None:
    """Put an artifact of every stage of so many trials into the store."""
    store = Store(root)
    nodes = list(distinct_nodes([trial_of(order) for order in range(number)]).values())
    first = nodes[0]
    made = store.execute(first)
    folder = artifact_folder(store.root, first)
    for node in nodes[1:]:
        target = artifact_folder(store.root, node)
        target.mkdir(parents=True)
        for name in (FILES, CURVES):
            os.link(folder / name, target / name)
        about = {
            "fingerprint": node.fingerprint,
            "config": node.stage.config(),
            "inputs": dict(node.inputs),
            "metrics": {"miou": node.stage.score},  # type: ignore[attr-defined]
        }
        (target / MANIFEST).write_text(made.model_copy(update=about).model_dump_json())


def cpu_s() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def stored(trials: list[Trial], folder: Path) -> None:
    """Record a sweep of which everything is in the store, twice."""
    # In a process of its own: making an artifact imports torch, which no driver does.
    filling = multiprocessing.get_context("spawn").Process(
        target=fill, args=(folder / "store", len(trials))
    )
    filling.start()
    filling.join()
    store = Store(folder / "store")
    database = folder / "mlflow.db"
    for what in ("recorded", "again"):
        start, since = cpu_s(), time.monotonic()
        summary = run_sweep(
            SPEC,
            trials,
            store=store,
            tracking=Tracking(f"sqlite:///{database}", spec=SPEC),
            cluster=Cluster(),
            say=lambda line: None,
        )
        if not summary.well:
            raise SystemExit(summary.describe())
        used = cpu_s() - start
        print(
            f"{len(trials)} trials in the store, {what}: {used:.1f} s of CPU, "
            f"{time.monotonic() - since:.0f} s; MLflow {size_of(database) / len(trials):.1f} kB "
            f"a trial; {peak_mb():.0f} MB",
            flush=True,
        )
    table(f"sqlite:///{database}", len(trials))


def table(uri: str, number: int) -> None:
    """Print the table of the sweep, in a process of its own as `sweeps run` does."""
    command = [sys.executable, "-m", "analysis", "table", SPEC.name, "--tracking", uri]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{number} trials in a table: {used.ru_utime + used.ru_stime:.1f} s of CPU", flush=True)


def polls(trials: list[Trial]) -> None:
    """Poll a sweep that runs, with 20 stages that ended since the poll before."""
    plan = make_plan(trials, stored=lambda nodes: set())
    granted = {key: node.stage.resources() for key, node in plan.nodes.items()}
    lines: list[str] = []
    progress = Progress(
        "bench", history=PastRuns([]), called=lambda trial: trial.name, say=lines.append
    )
    start = cpu_s()
    progress.add(plan, granted=granted, machines=[{"CPU": 64.0, "GPU": 64.0}] * 8)
    print(f"{len(plan.nodes)} stages taken in: {cpu_s() - start:.2f} s of CPU", flush=True)
    nodes = list(plan.nodes.values())
    start = cpu_s()
    number = 100
    for poll in range(number):
        ended = nodes[ENDED * poll : ENDED * (poll + 1)]
        events = tuple(
            StageEvent(
                id=1 + ENDED * poll + index,
                kind=EventKind.DONE,
                field=node.field,
                fingerprint=node.fingerprint,
                seconds=60.0 + index,
            )
            for index, node in enumerate(ended)
        )
        progress.update(News(pid=1, events=events))
        progress.status()
    print(
        f"poll with {ENDED} ended stages of {len(nodes)}: "
        f"{1000 * (cpu_s() - start) / number:.1f} ms of CPU (below 20)",
        flush=True,
    )


def size_of(database: Path) -> float:
    """Return the kilobytes of a database and of its files beside it."""
    files = (database.parent / "mlartifacts").rglob("*")
    return (database.stat().st_size + sum(path.stat().st_size for path in files)) / 1000


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["polls", "stored"])
    parser.add_argument("--trials", type=int, default=5000)
    options = parser.parse_args()
    trials = [trial_of(order) for order in range(options.trials)]
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    if "polls" in options.what:
        polls(trials)
    if "stored" in options.what:
        with tempfile.TemporaryDirectory() as folder:
            stored(trials, Path(folder))


if __name__ == "__main__":
    main()

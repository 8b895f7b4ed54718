"""Cost of the platform beside the stages: a call, a stage, a trial, memory, and a sweep against its
trials one by one.

Run: python tests/benchmarks/bench_platform.py [calls stages trials chains memory sweep] (--help
says more). Medians; `sweep` takes a minute with --small, a quarter of an hour with --images 90 and
most of an hour without."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "sweeps")]

from small import SMALL  # noqa: E402

import sweeps  # noqa: F401, E402 - before Ray, which reads its environment when it is imported

SLOTS = 2
SWEEP = {
    "name": "bench",
    "question": "What does sharing save?",
    "profile": "embedded",
    "grid": {
        "cgnet.erasing": ["cse", "class_agnostic"],
        "cgnet.lambda_start": [0.3, 1, 3],
        "crf.alpha": [6, 10],
    },
    "seeds": 2,
    "resources": {"*": {"num_cpus": 1}},
}


def main() -> None:
    """Measure what is asked for."""
    measures: dict[str, Callable[[argparse.Namespace], None]] = {
        "calls": calls,
        "stages": stages,
        "trials": trials,
        "chains": chains,
        "memory": memory,
        "sweep": sweep,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(measures)} (all)")
    parser.add_argument("--small", action="store_true", help="few images for the sweep")
    parser.add_argument(
        "--images", type=int, default=300, help="training images for the sweep; stages take as long"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=4, help="trials at a time (4)")
    parser.add_argument("--trials", type=int, default=2000, help="for memory")
    parser.add_argument(
        "--alone", nargs=3, metavar=("SPEC", "NUMBER", "STORE"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.alone:
        _alone(*options.alone)
        return
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    for what in options.what or measures:
        measures[what](options)


def calls(options: argparse.Namespace) -> None:
    """One call of the scheduler for a finished stage."""
    import ray

    with _cluster() as (root, scheduler):
        request = _request("done")
        _ensure(scheduler, request)
        seconds = [
            _timed(lambda: ray.get(scheduler.ensure.remote(request, "t", 1.0))) for _ in range(200)
        ]
        print(
            f"call of the scheduler, a hit: {1000 * median(seconds):.1f} ms (below 5)", flush=True
        )
        del root


def stages(options: argparse.Namespace) -> None:
    """A stage that does nothing, from asking to its answer."""
    with _cluster() as (_, scheduler):
        for what, gpus, below in (
            ("in a process of its own", 0.1, 1.6),
            ("in a process that is there", 0, 0.1),
        ):
            _ensure(scheduler, _request(f"warm {gpus}", num_gpus=gpus))
            requests = [
                _request(f"stage {gpus} {number}", num_gpus=gpus)
                for number in range(options.repeats)
            ]
            seconds = [_timed(partial(_ensure, scheduler, request)) for request in requests]
            print(
                f"stage that does nothing, {what}: {median(seconds):.2f} s (below {below:g})",
                flush=True,
            )


def trials(options: argparse.Namespace) -> None:
    """A trial of one stage that does nothing."""
    from probe_stages import Probe, make_trial

    made = [
        make_trial(order, data=Probe(label=f"trial {order}"))
        for order in range(4 * options.repeats)
    ]
    _time_sweep("trial", made, at_once=options.at_once)


def chains(options: argparse.Namespace) -> None:
    """A trial of four stages that do nothing, two of them shared with others."""
    from probe_stages import Probe, make_trial

    made = [
        make_trial(
            order,
            data=Probe(label="data"),
            oc=Probe(label=f"oc {order % 4}", upstream=("data",)),
            cam=Probe(label=f"cam {order}", upstream=("data", "oc")),
            crf=Probe(label=f"crf {order}", upstream=("cam",)),
        )
        for order in range(4 * options.repeats)
    ]
    _time_sweep("trial of four stages", made, at_once=options.at_once)


def _time_sweep(what: str, made: list[Any], *, at_once: int) -> None:
    with _cluster() as (root, _):
        seconds = _timed(lambda: _run(root, made, at_once=at_once))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{what}: {seconds / len(made):.3f} s of {len(made)}, {at_once} at a time, start and end "
        f"included (below 0.25 of 1000); the driver's peak: {peak:.0f} MB",
        flush=True,
    )


def memory(options: argparse.Namespace) -> None:
    """Resident memory of the actor and the driver, early and late."""
    import ray
    from probe_stages import Probe, make_trial

    with _cluster() as (root, scheduler):
        pid = ray.get(scheduler.news.remote()).pid
        early = 0.0
        for number in range(options.trials):
            _ensure(scheduler, _request(f"stage {number}"))
            if number == options.trials // 10:
                early = _resident(pid)
        _tell_growth("actor", early, _resident(pid), options.trials)
        made = [
            make_trial(number, data=Probe(label=f"stage {number}"))
            for number in range(options.trials)
        ]
        _run(root, made[: options.trials // 10])
        early = _resident(os.getpid())
        _run(root, made)
        _tell_growth("driver", early, _resident(os.getpid()), options.trials)


def _tell_growth(what: str, early: float, late: float, number: int) -> None:
    print(
        f"{what}: {early:.0f} MB after {number // 10}, {late:.0f} MB after {number} (flat)",
        flush=True,
    )


def sweep(options: argparse.Namespace) -> None:
    """24 trials as a sweep, the same command again, and each trial with an empty store, as many at
    a time.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "bench.yaml")
        base = SMALL if options.small else _of_images(options.images)
        spec.write_text(yaml.safe_dump(SWEEP | {"base": base}))
        command = [sys.executable, "-m", "sweeps", "run", str(spec), "--num-cpus", str(SLOTS)]
        together, again = (_timed(lambda: _call(command, folder)) for _ in range(2))
        seconds = _stage_seconds(Path(folder, "runs", "store"))
        ideal = sum(seconds) / SLOTS
        print(
            f"sweep: {together:.0f} s; its {len(seconds)} stages / {SLOTS} slots: {ideal:.0f} s",
            flush=True,
        )
        print(f"the same command again: {again:.1f} s (below 15)", flush=True)
        with ThreadPoolExecutor(SLOTS) as pool:
            own = [
                [sys.executable, __file__, "--alone", str(spec), str(n), f"{folder}/alone/{n}"]
                for n in range(24)
            ]
            alone = _timed(lambda: list(pool.map(lambda each: _call(each, folder), own)))
        print(f"each trial with an empty store, {SLOTS} at a time: {alone:.0f} s", flush=True)
        print(
            f"sharing: {alone / together:.1f} times shorter (above 3); "
            f"{100 * (together / ideal - 1):.0f} % above its stages (below 15)",
            flush=True,
        )


def _of_images(number: int) -> dict[str, int]:
    """The embedded data set with so many training images, and all else in proportion."""
    usual = {
        "data.num_train": 300,
        "data.num_scored": 200,
        "data.num_val": 100,
        "data.num_object_centric": 1500,
    }
    return {knob: max(1, round(count * number / 300)) for knob, count in usual.items()}


def _alone(spec: str, number: str, store: str) -> None:
    import torch

    from occse.artifacts.execute import execute
    from sweeps.spec.trials import load_spec
    from sweeps.spec.trials import trials as trials_of

    torch.set_num_threads(1)
    for node in trials_of(load_spec(Path(spec)))[int(number)].nodes.values():
        execute(node, root=Path(store))


def _stage_seconds(store: Path) -> list[float]:
    from sweeps.store.store import Store

    return [manifest.seconds for manifest in Store(store).manifests()]


@contextmanager
def _cluster() -> Iterator[tuple[Path, Any]]:
    """A cluster on this machine that knows the probe stage, and a scheduler with an empty store."""
    import ray
    from probe_sweep import PROBES

    from occse.artifacts.provenance import git_state
    from sweeps.cluster.head import NAMESPACE
    from sweeps.cluster.messages import SchedulerSettings
    from sweeps.cluster.scheduler import connect

    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=SLOTS,
        num_gpus=1,  # a number that Ray counts
        include_dashboard=False,
        object_store_memory=200 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env=PROBES,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            settings = SchedulerSettings(root=f"{folder}/store", git=git_state())
            yield Path(folder), connect(settings)
        finally:
            ray.shutdown()


def _request(label: str, *, num_gpus: float = 0) -> Any:
    from asking import request_of
    from probe_stages import Probe

    return request_of(Probe(label=label), gpus=num_gpus)


def _ensure(scheduler: Any, request: Any) -> None:
    from asking import DONE, ensure

    answer = ensure(scheduler, request)
    assert answer == DONE, answer


def _run(root: Path, made: list[Any], *, at_once: int = 4) -> None:
    from sweeps.cluster.connection import Cluster
    from sweeps.driver.sweep import run_sweep
    from sweeps.spec.model import Spec
    from sweeps.store.store import Store
    from sweeps.tracking.writer import Tracking

    spec = Spec(
        name="bench",
        question="What does a trial cost?",
        baseline={},
        resources={"*": {"num_gpus": 0}},
    )
    run_sweep(
        spec,
        made,
        store=Store(root / "store"),
        tracking=Tracking(f"sqlite:///{root}/mlflow.db", spec=spec),
        cluster=Cluster(max_concurrent=at_once),
        say=lambda line: None,
    )


def _call(command: list[str], folder: str) -> None:
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _timed(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


if __name__ == "__main__":
    main()

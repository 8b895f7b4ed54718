"""Makespan that the simulation promises against that of a real local Ray cluster of two CPUs, on
stages that sleep.

Twelve trials in three groups: a classifier for all, a CGNet per group, then a CAM, a CRF and a
segmentation per trial. Each stage sleeps for a known time; the simulation gets just these. Ray
starts a process where it has none to reuse, and trials ask in rounds, which the simulation does not
know: the ratio says what that costs.

Run: python tests/benchmarks/bench_simulation.py [SECONDS_OF_THE_SHORTEST_STAGE]
"""

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "sweeps"), str(TESTS.parent)]

# Before Ray, which reads its environment when it is imported.
import sweeps  # noqa: E402, F401, I001
import ray  # noqa: E402
from probe_stages import STEP_S, Probe, make_trial  # noqa: E402

from sweeps.spec.model import Spec  # noqa: E402
from sweeps.plan.simulation import Task, makespan  # noqa: E402
from sweeps.spec.trials import Trial  # noqa: E402
from sweeps.store.store import Store  # noqa: E402
from sweeps.tracking.writer import Tracking  # noqa: E402
from sweeps.cluster.connection import Cluster  # noqa: E402
from sweeps.driver.sweep import run_sweep  # noqa: E402

SPEC = Spec(name="probe", question="How long does it take?", baseline={})
UNITS = {"oc": 2, "cgnet": 3, "cam": 1, "crf": 2, "seg": 1}


def trial_of(order: int, unit_steps: int) -> Trial:
    def probe(field: str, label: str, *upstream: str) -> Probe:
        return Probe(label=label, upstream=upstream, num_steps=UNITS[field] * unit_steps)

    return make_trial(
        order,
        oc=probe("oc", "oc"),
        cgnet=probe("cgnet", f"cgnet {order % 3}", "oc"),
        cam=probe("cam", f"cam {order}", "cgnet"),
        crf=probe("crf", f"crf {order}", "cam"),
        seg=probe("seg", f"seg {order}", "cam"),
    )


def simulated(trials: Sequence[Trial]) -> float:
    tasks = {}
    for trial in trials:
        for node in trial.nodes.values():
            seconds = node.stage.num_steps * STEP_S  # type: ignore[attr-defined]
            tasks[node.fingerprint] = Task(
                inputs=node.inputs.values(), needs={"CPU": 1}, seconds=seconds
            )
    return makespan(tasks, [{"CPU": 2}])


def real(trials: Sequence[Trial], folder: Path) -> float:
    """Seconds from the first start of a stage to the last end."""
    store = Store(folder / "store")
    tracking = Tracking(f"sqlite:///{folder}/mlflow.db", spec=SPEC)
    summary = run_sweep(
        SPEC, trials, store=store, tracking=tracking, cluster=Cluster(), say=lambda line: None
    )
    if not summary.well:
        raise SystemExit(summary.describe())
    ends = {
        path.parent.name: path.stat().st_mtime for path in store.root.glob("Probe/*/manifest.json")
    }
    starts = [ends[manifest.fingerprint] - manifest.seconds for manifest in store.manifests()]
    return max(ends.values()) - min(starts)


def main() -> None:
    unit_steps = round(float(sys.argv[1]) / STEP_S) if len(sys.argv) > 1 else 20
    trials = [trial_of(order, unit_steps) for order in range(12)]
    setup = {
        "env_vars": {"PYTHONPATH": os.pathsep.join(sys.path[:2])},
        "worker_process_setup_hook": "probe_setup.setup",
    }
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", namespace="occse", num_cpus=2, runtime_env=setup, **quiet)
    with tempfile.TemporaryDirectory() as folder:
        promised, took = simulated(trials), real(trials, Path(folder))
    ray.shutdown()
    print(f"12 trials, {unit_steps * STEP_S:g} s for the shortest stage, 2 CPUs")
    print(
        f"simulated {promised:.1f} s, real {took:.1f} s: "
        f"the real one takes {took / promised:.2f} times as long"
    )


if __name__ == "__main__":
    main()

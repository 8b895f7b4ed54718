"""A sweep from a shell of its own on a cluster that grows: `python growing_sweep.py ROOT ADDRESS
NAME`.

Sweeps of two names have a first stage in common, and each has last stages of its own."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import sweeps  # noqa: F401 - before Ray, which reads its environment when it is imported

if TYPE_CHECKING:
    from sweeps.spec.trials import Trial

NUM_TRIALS = 3
# A stage that takes a second is seen running by a test that looks several times a second.
NUM_STEPS = 10


def trials_of(name: str) -> "list[Trial]":
    """The trials of the sweep `name`."""
    from probe_stages import Link, make_trial

    return [
        make_trial(
            number,
            data=Link(label="shared", num_steps=NUM_STEPS),
            cam=Link(label=f"{name} cam {number}", upstream=("data",), num_steps=NUM_STEPS),
            crf=Link(label=f"{name} crf {number}", upstream=("cam",), num_steps=NUM_STEPS),
        )
        for number in range(NUM_TRIALS)
    ]


def main(root: Path, address: str, name: str) -> int:
    from probe_sweep import PROBES

    from sweeps.cluster.connection import Cluster, start_ray
    from sweeps.driver.sweep import run_sweep
    from sweeps.spec.model import Spec
    from sweeps.store.store import Store
    from sweeps.tracking.writer import Tracking

    logging.getLogger("ray").setLevel(logging.ERROR)
    start_ray(print, address=address, runtime_env=PROBES)
    # Another folder of data gives each sweep a scheduler of its own, as it does for users.
    spec = Spec(
        name=name,
        question="Do both end?",
        baseline={},
        data_root=root / name,
        resources={
            "*": {"num_cpus": 1, "num_gpus": 0},
            "cam": {"num_cpus": 1, "num_gpus": 1},
        },
    )
    summary = run_sweep(
        spec,
        trials_of(name),
        store=Store(root / "store"),
        tracking=Tracking(f"sqlite:///{root}/mlflow.db", spec=spec),
        cluster=Cluster(address=address, autoscaling=True),
        say=lambda line: print(line, flush=True),
    )
    print(summary.describe(), flush=True)
    return 0 if summary.well else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

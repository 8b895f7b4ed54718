"""A small sweep as a process of its own, to be killed: `python probe_sweep.py ROOT [ADDRESS]`.

Its first stages draw data and train a real network; probes follow, whose metrics hang on all that
is upstream."""

import logging
import os
import sys
import time
from pathlib import Path

import sweeps  # noqa: F401 - before Ray, which reads its environment when it is imported

PROBES = {
    "env_vars": {
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        )
    },
    "worker_process_setup_hook": "probe_setup.setup",
}
NUM_TRIALS = 4


def main(root: Path, address: str | None) -> int:
    from probe_stages import Link, make_trial

    from occse.pipeline import Pipeline, override, profile
    from occse.stage import Resources, Stage
    from sweeps.cluster.connection import OBJECT_STORE_BYTES, Cluster, start_ray
    from sweeps.driver.sweep import run_sweep
    from sweeps.spec.model import Spec
    from sweeps.store.store import Store
    from sweeps.tracking.writer import Tracking

    small = {
        "data.num_train": 16,
        "data.num_scored": 8,
        "data.num_val": 4,
        "data.num_object_centric": 32,
    }
    training = {"pretrain.epochs": 40, "pretrain.batch_size": 8}
    pipeline = override(Pipeline(), profile("embedded") | small | training)

    def stages(number: int) -> dict[str, Stage]:
        waits = "go" if number == NUM_TRIALS - 1 else ""
        return {
            "data": pipeline.data,
            "pretrain": pipeline.pretrain,
            "oc": Link(label="oc", upstream=("pretrain",), num_steps=12),
            "cgnet": Link(label=f"cgnet {number // 2}", upstream=("data", "oc"), num_steps=12),
            "cam": Link(label=f"cam {number // 2}", upstream=("cgnet",), num_steps=5),
            "crf": Link(label=f"crf {number}", upstream=("cam",), num_steps=8),
            "seg": Link(label=f"seg {number}", upstream=("crf", "cam"), num_steps=8, waits=waits),
        }

    one_cpu = {"*": {"num_cpus": 1, "num_gpus": 0}}
    spec = Spec(name="probe", question="Is the table the same?", baseline={}, resources=one_cpu)
    assert spec.resources_of("oc", pipeline.oc) == Resources(num_cpus=1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    start_ray(print, address=address or "local", runtime_env=PROBES, **({} if address else own))
    tracking = Tracking(f"sqlite:///{root}/mlflow.db", spec=spec)
    say = lambda line: print(f"{time.strftime('%X')} {line}", flush=True)  # noqa: E731
    summary = run_sweep(
        spec,
        [make_trial(number, **stages(number)) for number in range(NUM_TRIALS)],
        store=Store(root / "store"),
        tracking=tracking,
        cluster=Cluster(max_concurrent=3),
        say=say,
    )
    say(summary.describe())
    return 0 if summary.well else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))

"""Whole sweeps in this process, on the cluster that the test runs in, and what they recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sweeps.cluster.connection import Cluster
from sweeps.driver.recorder import Summary
from sweeps.driver.sweep import run_sweep
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.writer import Tracking

# The test clusters have two CPUs, and a waiting trial occupies none.
TRIALS_AT_ONCE = 2


def database(root: Path) -> str:
    """The MLflow database of a sweep below `root`."""
    return f"sqlite:///{root}/mlflow.db"


def sweep_probes(
    spec: Spec,
    trials: Sequence[Trial],
    root: Path,
    *,
    store: Store | None = None,
    uri: str | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Summary:
    """Run `trials`, with store and MLflow database below `root` unless others are given."""
    return run_sweep(
        spec,
        trials,
        store=store or Store(root / "store"),
        tracking=Tracking(uri or database(root), spec=spec),
        cluster=Cluster(max_concurrent=TRIALS_AT_ONCE),
        say=say,
    )


def trial_runs(root: Path, experiment: str) -> list[Run]:
    """The MLflow runs of the trials of a sweep below `root`."""
    client = MlflowClient(database(root))
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], "tags.`occse.kind` = 'trial'"))


def trial_statuses(root: Path, experiment: str) -> dict[str, str]:
    """MLflow's status of each trial by its variant; each has one run."""
    runs = trial_runs(root, experiment)
    statuses = {run.data.tags["occse.variant"]: run.info.status for run in runs}
    assert len(runs) == len(statuses), "a trial has two runs"
    return statuses

"""One real MLflow database for all tests of the package; its migrations take seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

Record = Callable[..., str]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").create_experiment("other")
    return path


@pytest.fixture(scope="session")
def tracking(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture(scope="session")
def record(tracking: str, database: Path) -> Record:
    """Write one trial as a sweep writes it; returns the id of its run."""
    client = MlflowClient(tracking)
    parents: dict[str, tuple[str, str]] = {}

    def write(
        experiment: str,
        variant: str,
        *,
        order: int = 0,
        seed: int = 0,
        status: str = "FINISHED",
        fields: tuple[str, ...] = ("cam", "crf", "pseudo", "seg"),
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> str:
        if experiment not in parents:
            made = client.create_experiment(
                experiment, artifact_location=(database.parent / experiment).as_uri()
            )
            parents[experiment] = (
                made,
                client.create_run(made, tags={"occse.kind": "sweep"}).info.run_id,
            )
        made, parent = parents[experiment]
        run_tags = {
            "mlflow.parentRunId": parent,
            "occse.kind": "trial",
            "occse.variant": variant,
            "occse.order": str(order),
            "occse.seed": str(seed),
            "occse.trial": f"{variant}/{seed}",
            **{f"occse.fingerprint.{field}": f"{field} of {variant} {seed}" for field in fields},
            **(tags or {}),
        }
        run = client.create_run(made, tags=run_tags).info.run_id
        client.log_batch(
            run,
            metrics=[Metric(name, value, 1, 0) for name, value in (metrics or {}).items()],
            params=[
                *(Param(f"{field}.seed", str(seed)) for field in fields),
                *(Param(name, value) for name, value in (params or {}).items()),
            ],
        )
        if status != "RUNNING":
            client.set_terminated(run, status)
        return run

    return write

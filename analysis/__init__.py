"""Tables, statistics, figures and reports of sweeps, from what MLflow holds and nothing else."""

import os

# MLflow reads these when it is imported, so they are set before; a user's own values stay.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# MLflow would wait for a dead server for many minutes; a reader wants to know at once.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for every small file

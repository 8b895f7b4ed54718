"""Tables of a sweep, read from MLflow alone: whoever writes the same schema gets the same tables."""

import os

# MLflow reads these when it is asked, so they have to stand before its first import; a user's own
# values stay.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# MLflow would wait for a dead server for many minutes; whoever reads a table wants to know at once.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for every small file

"""The platform: from a question in a YAML file to finished trials in MLflow, each distinct stage
run once.
"""

import os

# Ray and MLflow read these when they are imported, so they must be set before.
# the default differs between starting a cluster and joining one
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's tables, which come in spite of verbose=0
# A process that has imported torch waits for its next stage; Ray would end it after one second.
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "120000")
# Ray would start a stage that needs too much host memory again and again, without end. A few times
# are worth it: the memory may have been that of a neighbour.
os.environ.setdefault("RAY_task_oom_retries", "2")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune would write down all of its trials again and again, for a restore that nobody asks for: the
# store is what a sweep goes on from.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# a bar for every small file
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

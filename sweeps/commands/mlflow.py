"""`python -m sweeps mlflow`: serve MLflow's pages to this machine only."""

import argparse
import os
import sys

from occse.artifacts.secrets import masked
from occse.commands.values import port
from sweeps.commands.arguments import Commands, add_tracking
from sweeps.tracking.database import artifacts, connect, database

# By default MLflow shows its pages for language models.
PAGE = "/#/experiments?workflowType=machine_learning"


def add(commands: Commands) -> None:
    parser = commands.add_parser("mlflow", help="serve MLflow's pages on this machine")
    add_tracking(parser)
    parser.add_argument(
        "--port", type=port, default=5000, help="port on the loopback address (default: 5000)"
    )
    parser.set_defaults(command=serve)


def serve(options: argparse.Namespace) -> int:
    """Replace this process by MLflow's server.

    Sweeps on this machine may use it as `--tracking http://127.0.0.1:PORT`. It listens on the
    loopback alone, answers to no other name, and starts no job runner, which takes gigabytes."""
    path = database(options.tracking)
    if path is None:
        raise ValueError(
            f"--tracking {masked(options.tracking)}: expected a database, such as "
            "sqlite:///runs/mlflow.db"
        )
    # the tables are made here, so that a sweep that starts now and the server do not both do it
    connect(options.tracking, create=True)
    names = f"localhost:{options.port},127.0.0.1:{options.port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(options.port),
    ]
    command += ["--workers", "1", "--allowed-hosts", names, "--backend-store-uri", options.tracking]
    # Without a proxy for artifacts, a sweep that opens the database itself finds the files too.
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts(path).as_uri()]
    print(f"MLflow: open http://127.0.0.1:{options.port}{PAGE}; Ctrl-C ends it", flush=True)
    os.execve(sys.executable, command, os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})

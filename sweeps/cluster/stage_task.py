"""A stage in a worker process of the cluster, as a Ray task. Importing this module does not import
torch.
"""

import os
import signal
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import TaskCancelledError

from sweeps.store.stop_file import StopRequested, stop_file

Json = dict[str, Any]
ERROR_CHARACTERS = 2000
SEVERAL = 2  # the parts of a batch when a whole one does not fit the GPU


def stage_task(request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a Ray remote function
    """`run_stage` as a Ray task with the resources that `request` names."""
    resources = {"num_cpus": request["num_cpus"], "num_gpus": request["num_gpus"], "max_retries": 3}
    # the death of a process of its own is as good as the worker's
    resources["retry_exceptions"] = [ChildProcessError]
    if request["num_gpus"]:
        # the process ends, and so its hold on GPU memory
        return ray.remote(max_calls=1, **resources)(run_stage)
    # Ray shows a node's GPUs even to a task that asked for none. And an environment of their own
    # keeps the processes that have imported torch for stages: Ray would make coordinators of those
    # that are idle.
    resources["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    return ray.remote(**resources)(run_stage)


def run_stage(request: Json, settings: Json, scheduler: Any) -> Json:  # noqa: ANN401 - an actor handle
    """Run one stage and return its seconds, or its error as text.

    Exceptions come back as values: unpickling one in the actor might import torch there. `retry` is
    the number of parts of each batch with which a training that ran out of GPU memory may be tried
    once more, `missing` the input that is not in the store any more.

    Raises:
        ChildProcessError: one of the processes that share a training died; Ray tries again.
    """
    node = request["node"]
    worker = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}
    hear_cancellation()
    scheduler.started.remote(node["fingerprint"], worker)
    try:
        return _execute(request, settings, scheduler)
    except ChildProcessError:
        raise
    except Exception as error:
        text = explain(error) + _keep_traceback(settings["root"], node["fingerprint"])
        return {"error": text, "retry": _parts(request, error)}


def hear_cancellation() -> None:
    """Ray cancels a task by a SIGINT to itself; a sweep started in the background of a shell would
    ignore that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def explain(error: BaseException) -> str:
    """An error as a person reads it."""
    if isinstance(error, ValueError):
        return str(error)[:ERROR_CHARACTERS]
    if isinstance(error, TaskCancelledError):
        return "cancelled from outside the sweep"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return f"too little GPU memory: {error}; `resources` may give the stage more of a GPU (num_gpus)"
    return f"{type(error).__name__}: {str(error)[:ERROR_CHARACTERS] or 'no message'}"


def _execute(request: Json, settings: Json, scheduler: Any) -> Json:  # noqa: ANN401 - an actor handle
    import torch

    from occse.artifacts.execute import MissingInput
    from occse.pipeline import Node
    from occse.training.loop import Stopped
    from sweeps.store.store import Store

    store = Store(settings["root"])
    node, cpus = request["node"], max(1, int(request["num_cpus"]))
    torch.set_num_threads(cpus)

    def report(record: Mapping[str, float]) -> None:
        scheduler.report.remote(node["fingerprint"], dict(record), int(time.time() * 1000))

    try:
        manifest = store.execute(
            Node.load(node),
            device="cuda" if request["num_gpus"] else "cpu",
            workers=cpus - 1,
            processes=max(1, int(request["num_gpus"])),
            accumulate=request.get("accumulate", 1),
            data_root=Path(settings["data_root"]) if settings["data_root"] else None,
            weights=Path(settings["weights"]) if settings.get("weights") else None,
            git=settings["git"],
            command=request.get("command", ""),
            report=report,
            stopping=StopRequested(store.files, stop_file(node["fingerprint"])),
        )
    except MissingInput as lost:
        return {"error": None, "missing": lost.field, "reason": str(lost)}
    except Stopped:
        return {"error": None, "stopped": True}
    return {"error": None, "seconds": manifest.seconds}


def _parts(request: Json, error: Exception) -> int | None:
    """In how many parts a batch may be tried once more: only where memory was short, and only in a
    training.
    """
    import torch

    from occse.pipeline import STAGES

    again = STAGES[request["node"]["kind"]].shares_batches and "accumulate" not in request
    return SEVERAL if again and isinstance(error, torch.OutOfMemoryError) else None


def _keep_traceback(root: str, fingerprint: str) -> str:
    from sweeps.store.store import Store

    name = f"scratch/{fingerprint}/error.txt"
    with suppress(OSError):
        store = Store(root)
        store.files.write(name, traceback.format_exc().encode())
        return f" [{store.url}/{name}]"
    return ""

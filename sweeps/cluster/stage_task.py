"""A stage in a worker process of the cluster, as a Ray task.

Importing this module does not import torch: the scheduler and the trials do it too."""

import os
import re
import signal
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, TaskCancelledError

from occse.artifacts.secrets import masked
from occse.naming.counts import number
from sweeps.cluster.messages import (
    OutcomeKind,
    SchedulerSettings,
    StageOutcome,
    StageRequest,
    Worker,
)
from sweeps.store.patience import may_pass
from sweeps.store.stop_file import StopRequested, stop_file

# Enough for a message with the names of several files; MLflow's tags take 5000.
ERROR_CHARACTERS = 2000
# How often Ray starts a stage again whose worker or machine died, from its last checkpoint.
MAX_RETRIES = 3


def stage_task(request: StageRequest) -> Any:  # noqa: ANN401 - a Ray remote function
    """Return `run_stage` as a Ray task with the resources that `request` names."""
    options: dict[str, Any] = {
        "num_cpus": request.num_cpus,
        "num_gpus": request.num_gpus,
        "max_retries": MAX_RETRIES,
        # Retry when a training subprocess dies, as Ray does when the worker dies.
        "retry_exceptions": [ChildProcessError],
    }
    if request.num_gpus:
        # The process ends after one stage, and with it its hold on GPU memory.
        return ray.remote(max_calls=1, **options)(run_stage)
    # Ray shows a node's GPUs even to a task that asked for none. An environment of their own also
    # keeps processes that have imported torch for stages: Ray would make coordinators of idle ones.
    options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    return ray.remote(**options)(run_stage)


def run_stage(
    request: StageRequest,
    settings: SchedulerSettings,
    scheduler: Any,  # noqa: ANN401 - an actor handle
) -> StageOutcome:
    """Run one stage on this worker.

    Exceptions come back as outcomes: unpickling one in the actor might import torch there.

    Raises:
        ChildProcessError: one of the processes that share a training died; Ray tries again.
    """
    # Before anything else: a cancellation that is ignored leaves the stage running until it is
    # killed by force, with no chance to tidy up.
    hear_cancellation()
    worker = Worker(pid=os.getpid(), node=ray.get_runtime_context().get_node_id())
    # Not waited for: a scheduler that is restarting must not hold up the stage.
    scheduler.started.remote(request.fingerprint, worker)
    try:
        return _execute(request, settings, scheduler)
    # Raised, not returned: only an exception makes Ray try again, from the last checkpoint.
    except ChildProcessError:
        raise
    except Exception as error:
        # it is printed, and stored in MLflow and in status files
        text = masked(explain(error)) + _keep_traceback(settings.root, request.fingerprint)
        return StageOutcome(kind=_kind_of(request, error), text=text)


def hear_cancellation() -> None:
    """Make SIGINT raise `KeyboardInterrupt` where it is ignored.

    Ray cancels a task by a SIGINT to itself; a sweep in the background of a shell ignores that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def explain(error: BaseException) -> str:
    """Return an error as a person reads it."""
    if isinstance(error, ValueError):
        return str(error)[:ERROR_CHARACTERS]
    if isinstance(error, TaskCancelledError):
        return "cancelled from outside the sweep"
    if isinstance(error, OutOfMemoryError):
        return _host_memory(str(error))
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return (
            f"too little GPU memory: {error}; "
            "`resources` may give the stage more of a GPU (num_gpus)"
        )
    return f"{type(error).__name__}: {str(error)[:ERROR_CHARACTERS] or 'no message'}"


def died_too_often(starts: int) -> str:
    """Return the error of a stage whose process died `starts` times."""
    return (
        f"its process died {number(starts, 'time')}, most likely because it needs more host memory "
        "than its machine has; run fewer stages beside it (`resources` may give it more num_cpus), "
        "or use a machine with more memory"
    )


def _host_memory(text: str) -> str:
    """Return Ray's message about a process that it killed for want of memory, in one sentence."""
    node = re.search(r"\(IP: ([^,)]+).*? was ([\d.]+)GB used / ([\d.]+)GB limit", text)
    own = re.search(r"actual memory used=([\d.]+)GB", text)
    told = "needs more host memory than this machine has"
    if node and own:
        told += (
            f": it had {own[1]} GB when {node[2]} of the {node[3]} GB of {node[1]} were used, "
            "and Ray killed it"
        )
    return (
        f"{told}; run fewer stages beside it (`resources` may give it more num_cpus), "
        "or use a machine with more memory"
    )


def _execute(
    request: StageRequest,
    settings: SchedulerSettings,
    scheduler: Any,  # noqa: ANN401 - an actor handle
) -> StageOutcome:
    import torch

    from occse.artifacts.execute import MissingInput, Origin
    from occse.pipeline import Node
    from occse.plugins import load_plugins
    from occse.stage import Caller, Machine
    from occse.training.loop import Stopped
    from sweeps.store.store import Store

    load_plugins(tuple(settings.plugins))
    # what was made in hours must not be lost because the store is away for a minute
    store = Store(settings.root, patient=True)
    # Ray counts CPUs but binds no process to them: more threads than CPUs would slow down the
    # stages beside this one.
    cpus = max(1, int(request.num_cpus))
    torch.set_num_threads(cpus)

    def report(record: Mapping[str, float]) -> None:
        at_ms = int(time.time() * 1000)
        scheduler.report.remote(request.fingerprint, dict(record), at_ms)

    try:
        manifest = store.execute(
            Node.load(request.node),
            machine=Machine(
                device="cuda" if request.num_gpus else "cpu",
                workers=cpus - 1,
                processes=max(1, int(request.num_gpus)),
                accumulate=request.parts,
                data_root=Path(settings.data_root) if settings.data_root else None,
                weights=Path(settings.weights) if settings.weights else None,
            ),
            caller=Caller(
                report=report,
                # A store without patience: a look at the stop file must not hold the training for
                # an hour.
                stopping=StopRequested(Store(settings.root).files, stop_file(request.fingerprint)),
            ),
            origin=Origin(git=settings.git, command=request.command),
        )
    except MissingInput as lost:
        return StageOutcome(kind=OutcomeKind.INPUT_LOST, text=lost.field)
    except Stopped:
        return StageOutcome(kind=OutcomeKind.STOPPED)
    return StageOutcome(kind=OutcomeKind.DONE, seconds=manifest.seconds)


def _kind_of(request: StageRequest, error: Exception) -> OutcomeKind:
    """Return the end that an error is: some attempts are worth repeating."""
    import torch

    from occse.pipeline import STAGES

    if isinstance(error, OSError) and may_pass(error):
        return OutcomeKind.STORE_AWAY
    stage = STAGES.get(request.kind)  # None where a plugin could not be loaded
    divisible = stage is not None and stage.shares_batches and request.parts == 1
    if divisible and isinstance(error, torch.OutOfMemoryError):
        return OutcomeKind.TOO_LARGE
    return OutcomeKind.FAILED


def _keep_traceback(root: str, fingerprint: str) -> str:
    """Write the traceback beside the stage's checkpoint, and return where, in brackets."""
    from sweeps.store.store import Store

    name = f"scratch/{fingerprint}/error.txt"
    with suppress(OSError):
        store = Store(root)
        store.files.write(name, masked(traceback.format_exc()).encode())
        return f" [{store.url}/{name}]"
    return ""

"""A training on several processes of one machine: each runs the stage on its share of every batch.

The caller's process only watches. The end of one process ends all of them: an error, a signal, the
end of the caller. Where one is stuck, the others give up after `TIMEOUT`.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import distributed

from occse.stage import Caller, Context, Stage

# A process that is silent for this long is stuck: the longest step takes seconds.
TIMEOUT = timedelta(minutes=10)
# Seconds between two looks at the caller's wish to stop.
POLL_S = 0.2
# Seconds within which the processes report the cause, after one of them lost another.
GRACE_S = 2.0

Kind = Literal["report", "done", "failed"]
"""Kinds of message from a process: a record of an epoch, the metrics, or the error."""
Message = tuple[int, Kind, Any]


def run_in_processes(stage: Stage, ctx: Context) -> dict[str, float]:
    """Return `stage.run(ctx)`, run by `ctx.machine.processes` processes.

    The artifact and the metrics are the first one's. On GPUs each process has one of its own. CPU
    threads and workers are divided among them.

    Raises:
        ValueError: there are fewer GPUs than processes.
        ChildProcessError: one of the processes died.
        Exception: the stage raised it in one of them.
    """
    machine = ctx.machine
    number = machine.processes
    if number == 1:
        return stage.run(ctx)
    if machine.device.startswith("cuda") and torch.cuda.device_count() < number:
        raise ValueError(
            f"{number} processes need {number} GPUs, this machine has {torch.cuda.device_count()}"
        )
    # A forked process inherits a CUDA context that it cannot use, and locks of threads that it
    # lacks.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    shared = replace(
        ctx,
        machine=replace(machine, workers=machine.workers // number),
        caller=Caller(stopping=stop.is_set, report=_ignore),
    )
    # All threads for each process would make them fight for the cores.
    threads = max(1, torch.get_num_threads() // number)
    processes: list[SpawnProcess] = []
    ranks: dict[Connection, int] = {}
    with tempfile.TemporaryDirectory(dir=ctx.scratch) as folder:
        try:
            for rank in range(number):
                ours, theirs = context.Pipe(duplex=False)
                ranks[ours] = rank
                process = context.Process(
                    target=_work, args=(rank, stage, shared, theirs, Path(folder), threads)
                )
                process.start()
                processes.append(process)
                # Only the child may hold this end, or its death would not be seen here.
                theirs.close()
            metrics = _watch(ranks, ctx.caller, stop)
            for process in processes:
                process.join(GRACE_S)
        finally:
            # No process may outlive the caller's wait: it would hold its GPU.
            for process in processes:
                process.kill()
                process.join()
    return metrics


def _watch(ranks: dict[Connection, int], caller: Caller, stop: Event) -> dict[str, float]:
    """Pass on reports, and the wish to stop, until all have finished or one has failed."""
    metrics: dict[str, float] = {}
    while ranks:
        # Set once and never cleared: each process sees it at its own next step, and they vote
        # there.
        if caller.stopping():
            stop.set()
        for rank, kind, value in _messages(ranks, POLL_S):
            if kind == "failed":
                raise _cause(value, ranks)
            if kind == "report":
                caller.report(value)
            elif rank == 0:
                metrics = value
    return metrics


def _messages(ranks: dict[Connection, int], timeout: float) -> Iterator[Message]:
    """Yield the messages until `timeout`; a process that has finished or failed leaves `ranks`."""
    for connection in cast(list[Connection], wait(list(ranks), timeout)):
        rank = ranks[connection]
        kind: Kind
        value: Any
        try:
            kind, value = connection.recv()
        # The pipe's other end closed without a last word: the process was killed, or crashed in
        # C++. A ChildProcessError tells the caller that a new attempt may succeed.
        except EOFError:
            kind = "failed"
            value = ChildProcessError(f"process {rank + 1} of those that share the training died")
        # A finished process closes its end, which `wait` would report as ready for ever.
        if kind != "report":
            del ranks[connection]
        yield rank, kind, value


def _cause(error: Exception, ranks: dict[Connection, int]) -> Exception:
    """Return the first error that is not the loss of another process.

    Where one process fails the others lose it, and their complaint may arrive first.
    """
    deadline = time.monotonic() + GRACE_S
    while ranks and _lost_another(error):
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            break
        for _, kind, value in _messages(ranks, seconds_left):
            if kind == "failed" and not _lost_another(value):
                return cast(Exception, value)
    return error


def _lost_another(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _work(
    rank: int, stage: Stage, ctx: Context, connection: Connection, folder: Path, threads: int
) -> None:
    """Run the stage as one of the processes, and send its metrics or its error."""
    # A Ctrl-C reaches all processes of a terminal; the caller decides when they stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A caller that is killed cannot end its children, so each watches the caller.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if rank == 0:
        ctx = replace(ctx, caller=replace(ctx.caller, report=partial(_report, connection)))
    else:
        # All processes run the same stage, and only the first one's files are the artifact.
        ctx = replace(ctx, output=folder / f"output{rank}")
        ctx.output.mkdir()
    try:
        # A file, not a port: another program may take a free port before the processes have met.
        _meet(rank, ctx, folder / "meeting")
        connection.send(("done", stage.run(ctx)))
        distributed.destroy_process_group()
    except Exception as error:
        number = ctx.machine.processes
        # A traceback does not survive pickling; a note does.
        error.add_note(f"in process {rank + 1} of {number}:\n{traceback.format_exc()}")
        connection.send(("failed", error))


def _meet(rank: int, ctx: Context, file: Path) -> None:
    is_gpu = ctx.machine.device.startswith("cuda")
    gpu = torch.device("cuda", rank) if is_gpu else None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    distributed.init_process_group(
        "gloo" if gpu is None else "nccl",
        init_method=f"file://{file}",
        rank=rank,
        world_size=ctx.machine.processes,
        timeout=TIMEOUT,
        device_id=gpu,
    )


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # Not `sys.exit`, which in a thread ends the thread alone.
    os._exit(1)


def _report(connection: Connection, record: Mapping[str, float]) -> None:
    connection.send(("report", record))


def _ignore(record: Mapping[str, float]) -> None:
    """Drop the record of a process that is not the first."""

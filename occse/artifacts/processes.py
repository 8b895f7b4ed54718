"""A training on several processes of one machine: each runs the stage on its share of every batch.

The caller's process only watches. Whatever ends one of them, ends them all: an error in one, a
signal, the end of the caller; and where one is stuck, the others give up after `TIMEOUT`."""

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
from typing import Any, cast

import torch
from torch import distributed

from occse.stage import Context, Stage

TIMEOUT = timedelta(minutes=10)
POLL_S = 0.2
GRACE_S = 2.0


def run_in_processes(stage: Stage, ctx: Context) -> dict[str, float]:
    """What `stage.run(ctx)` returns, by `ctx.processes` processes; the artifact and the metrics are
    the first one's.

    On GPUs each process has one of its own. CPU threads and workers are divided among them.

    Raises:
        ValueError: there are fewer GPUs than processes.
        ChildProcessError: one of the processes died.
        Exception: what the stage raised in one of them.
    """
    if ctx.processes == 1:
        return stage.run(ctx)
    if ctx.device.startswith("cuda") and torch.cuda.device_count() < ctx.processes:
        raise ValueError(
            f"{ctx.processes} processes need as many GPUs; here are {torch.cuda.device_count()}"
        )
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    shared = replace(
        ctx, workers=ctx.workers // ctx.processes, stopping=stop.is_set, report=_ignore
    )
    threads = max(1, torch.get_num_threads() // ctx.processes)
    processes: list[SpawnProcess] = []
    ranks: dict[Connection, int] = {}
    with tempfile.TemporaryDirectory(dir=ctx.scratch) as folder:
        try:
            for rank in range(ctx.processes):
                ours, theirs = context.Pipe(duplex=False)
                ranks[ours] = rank
                process = context.Process(
                    target=_work, args=(rank, stage, shared, theirs, Path(folder), threads)
                )
                process.start()
                processes.append(process)
                theirs.close()  # so that its end is seen here
            metrics = _watch(ranks, ctx, stop)
            for process in processes:
                process.join(GRACE_S)
        finally:
            for process in processes:
                process.kill()
                process.join()
    return metrics


def _watch(ranks: dict[Connection, int], ctx: Context, stop: Event) -> dict[str, float]:
    """Pass on reports, and the wish to stop, until all have finished or one has failed."""
    metrics: dict[str, float] = {}
    while ranks:
        if ctx.stopping():
            stop.set()
        for rank, what, value in _messages(ranks, POLL_S):
            if what == "failed":
                raise _cause(value, ranks)
            if what == "report":
                ctx.report(value)
            elif rank == 0:
                metrics = value
    return metrics


def _messages(ranks: dict[Connection, int], timeout: float) -> Iterator[tuple[int, str, Any]]:
    """What arrives until `timeout`; who has finished or failed leaves `ranks`."""
    for connection in cast(list[Connection], wait(list(ranks), timeout)):
        rank = ranks[connection]
        what: str
        value: Any
        try:
            what, value = connection.recv()
        except EOFError:
            what, value = (
                "failed",
                ChildProcessError(f"process {rank + 1} of those that share the training died"),
            )
        if what != "report":
            del ranks[connection]
        yield rank, what, value


def _cause(error: Exception, ranks: dict[Connection, int]) -> Exception:
    """Where one process fails the others lose it, and their complaint may be heard first."""
    deadline = time.monotonic() + GRACE_S
    while ranks and _lost_another(error) and (left := deadline - time.monotonic()) > 0:
        failures = [value for _, what, value in _messages(ranks, left) if what == "failed"]
        error = next((each for each in failures if not _lost_another(each)), error)
    return error


def _lost_another(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _work(
    rank: int, stage: Stage, ctx: Context, connection: Connection, folder: Path, threads: int
) -> None:
    """The whole life of one of the processes."""
    # a Ctrl-C reaches all of a terminal; the caller decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if rank == 0:
        ctx = replace(ctx, report=partial(_report, connection))
    else:
        ctx = replace(ctx, output=folder / f"output{rank}")
        ctx.output.mkdir()
    try:
        _meet(rank, ctx, folder / "meeting")
        connection.send(("done", stage.run(ctx)))
        distributed.destroy_process_group()
    except Exception as error:
        error.add_note(f"in process {rank + 1} of {ctx.processes}:\n{traceback.format_exc()}")
        connection.send(("failed", error))


def _meet(rank: int, ctx: Context, file: Path) -> None:
    gpu = torch.device("cuda", rank) if ctx.device.startswith("cuda") else None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    distributed.init_process_group(
        "gloo" if gpu is None else "nccl",
        init_method=f"file://{file}",
        rank=rank,
        world_size=ctx.processes,
        timeout=TIMEOUT,
        device_id=gpu,
    )


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _report(connection: Connection, record: Mapping[str, float]) -> None:
    connection.send(("report", record))


def _ignore(record: Mapping[str, float]) -> None:
    """The record of a process that is not the first."""

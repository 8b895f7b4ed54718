"""The scheduler: one named actor that runs every distinct fingerprint once in the whole cluster.

Trials never submit a stage: Tune would keep it inside the trial's own placement group. They ask the actor, which
starts a stage for the first that asks and lets the others join. Who asks takes a lease and renews it by asking again;
a stage that nobody leases any more is cancelled. The actor can be rebuilt from the store at any moment: after a crash
Ray starts it again, the trials ask again, and what was published is found.

This module is imported by the actor and by every trial, so it must not import torch (nor `occse`) at the top.
"""

import asyncio
import hashlib
import importlib.util
import itertools
import json
import os
import time
import traceback
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from sweeps.stopping import StopRequested, stop_file

NAMESPACE = "occse"
HEAD = {"node:__internal_head__": 0.001}  # a sliver that only the head node has: keeps light processes off workers
LEASE_S = 60.0
GRACE_S = 10.0
TICK_S = 1.0
MAX_EVENTS = 10_000

Json = dict[str, Any]


@dataclass(kw_only=True)
class _Flight:
    """A stage that was submitted: who waits for it, and since when it runs."""

    request: Json
    ref: Any
    leases: dict[str, float] = field(default_factory=dict)
    follower: "asyncio.Task[None] | None" = None
    worker: Json | None = None
    cancelled: float | None = None


class Scheduler:
    """The actor. A request is `{"node": Node.dump(), "num_cpus": ..., "num_gpus": ...}`; all answers are plain data."""

    def __init__(self, settings: Json) -> None:
        self._settings = settings
        self._flights: dict[str, _Flight] = {}
        self._failures: dict[str, str] = {}
        self._events: deque[Json] = deque(maxlen=MAX_EVENTS)
        self._points: deque[Json] = deque(maxlen=MAX_EVENTS)
        self._ids = itertools.count(1)
        self._reaper: asyncio.Task[None] | None = None
        self._drained: set[str] = set()

    async def begin(self) -> None:
        """Forget failures: a new sweep may try again what failed for an earlier one."""
        self._failures.clear()

    async def ensure(self, request: Json, trial: str, wait: float) -> Json:
        """Lease the artifact of `request` for `trial` and wait up to `wait` seconds for it.

        Returns:
            `state` "done" (with the artifact's `metrics`), "failed" (with `error`) or "running": ask again.
        """
        if (answer := self._settled(request)) is not None:
            return answer
        if trial in self._drained:
            await asyncio.sleep(wait)
            return {"state": "running"}
        fingerprint = request["node"]["fingerprint"]
        flight = self._flights.get(fingerprint) or self._start(request)
        if flight.cancelled is None:  # one that is being cancelled cannot be joined: let it end, then start anew
            flight.leases[trial] = time.monotonic() + wait + LEASE_S
        assert flight.follower is not None
        await asyncio.wait([flight.follower], timeout=wait)
        return self._settled(request) or {"state": "running"}

    async def release(self, trial: str) -> None:
        """Give back every lease of `trial`."""
        for flight in self._flights.values():
            flight.leases.pop(trial, None)

    async def drain(self, trials: Collection[str]) -> int:
        """Start nothing more for `trials`, and ask the stages that only they wait for to stop at their checkpoint.

        Their leases are not renewed any more, so that a stage that cannot stop is cancelled about a minute later.

        Returns:
            how many of these stages have not ended yet.
        """
        self._drained |= set(trials)
        left = [flight for flight in self._flights.values() if flight.leases and flight.leases.keys() <= self._drained]
        for flight in left:
            if flight.worker is not None:
                path = self._stop_file(flight.request)
                path.parent.mkdir(parents=True, exist_ok=True)  # the stage may not be there yet
                path.touch()
            elif flight.cancelled is None:
                self._cancel(flight)
        return len(left)

    async def started(self, fingerprint: str, worker: Json) -> None:
        """Called by the worker that begins the stage; a second time when Ray retries after a worker's death."""
        if (flight := self._flights.get(fingerprint)) is not None:
            self._event("again" if flight.worker else "running", flight)
            flight.worker = worker | {"since": time.monotonic()}

    async def report(self, fingerprint: str, point: Json, at: int) -> None:
        """Called by the worker when an epoch ends, at `at` in milliseconds; a resumed one may repeat a step."""
        if (flight := self._flights.get(fingerprint)) is not None:
            self._points.append(self._about(flight) | {"point": point, "at": at})

    async def info(self, after: int = 0) -> Json:
        """Events and points of curves with an id above `after`, and what runs and waits now, for the driver."""
        now = time.monotonic()
        running = [
            {"field": flight.request["node"]["field"], "fingerprint": fingerprint, "pid": flight.worker["pid"]}
            | {"node": flight.worker["node"], "seconds": now - flight.worker["since"], "waiting": len(flight.leases)}
            for fingerprint, flight in self._flights.items()
            if flight.worker is not None
        ]
        queued = [fingerprint for fingerprint, flight in self._flights.items() if flight.worker is None]
        news = {"events": self._events, "points": self._points}
        fresh = {kind: [item for item in items if item["id"] > after] for kind, items in news.items()}
        return {"pid": os.getpid(), **fresh, "running": running, "queued": queued}

    def _settled(self, request: Json) -> Json | None:
        node = request["node"]
        path = Path(self._settings["root"], node["kind"], node["fingerprint"], "manifest.json")
        try:
            return {"state": "done", "metrics": json.loads(path.read_bytes())["metrics"]}
        except (FileNotFoundError, ValueError):  # not there, or cut off: the stage sets it aside and runs
            error = self._failures.get(node["fingerprint"])
        except (KeyError, TypeError):
            error = f"{path} is no manifest; move that folder away to compute it again"
        return None if error is None else {"state": "failed", "error": error}

    def _stop_file(self, request: Json) -> Path:
        return stop_file(self._settings["root"], request["node"]["fingerprint"])

    def _start(self, request: Json) -> _Flight:
        self._stop_file(request).unlink(missing_ok=True)
        self._reaper = self._reaper or asyncio.create_task(self._reap())
        node = request["node"]
        actor = ray.get_runtime_context().current_actor
        # "DEFAULT" leaves any placement group that the caller may be captured in.
        options = {"name": f"{node['field']}:{node['fingerprint'][:8]}", "scheduling_strategy": "DEFAULT"}
        ref = _stage_task(request).options(**options).remote(request, self._settings, actor)
        flight = self._flights[node["fingerprint"]] = _Flight(request=request, ref=ref)
        flight.follower = asyncio.create_task(self._follow(flight))
        self._event("queued", flight)
        return flight

    async def _follow(self, flight: _Flight) -> None:
        fingerprint = flight.request["node"]["fingerprint"]
        try:
            outcome = await flight.ref
        except (RayError, asyncio.CancelledError) as error:
            outcome = {"error": None if flight.cancelled else _explain(error), "cancelled": True}
        del self._flights[fingerprint]
        if outcome["error"] is not None:
            self._failures[fingerprint] = outcome["error"]
            self._event("failed", flight, error=outcome["error"])
        elif "seconds" not in outcome:
            self._event("stopped" if "stopped" in outcome else "cancelled", flight)
        else:
            self._event("done", flight, seconds=outcome["seconds"])

    async def _reap(self) -> None:
        """Cancel what nobody leases: first so that the stage can tidy up, then by force."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for flight in self._flights.values():
                if flight.cancelled is not None:
                    if now > flight.cancelled + GRACE_S:
                        ray.cancel(flight.ref, force=True)
                elif all(deadline < now for deadline in flight.leases.values()):
                    self._cancel(flight)

    @staticmethod
    def _cancel(flight: _Flight) -> None:
        flight.cancelled = time.monotonic()
        ray.cancel(flight.ref)

    def _event(self, what: str, flight: _Flight, **more: object) -> None:
        self._events.append(self._about(flight) | {"what": what} | more)

    def _about(self, flight: _Flight) -> Json:
        node = flight.request["node"]
        return {"id": next(self._ids), "field": node["field"], "fingerprint": node["fingerprint"]}


def connect(settings: Json) -> Any:  # noqa: ANN401 - Ray types no actor handles
    """The scheduler of the cluster for these settings, started if there is none.

    Its name carries the settings and the source code: a detached actor goes on running the code it was started with.
    """
    actor = ray.remote(num_cpus=0, resources=HEAD, max_restarts=-1, max_task_retries=-1, max_concurrency=10_000)(
        Scheduler
    )
    name = f"scheduler:{_digest(json.dumps(settings, sort_keys=True), source_digest())}"
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return actor.options(**options, scheduling_strategy="DEFAULT").remote(settings)


def run_stage(request: Json, settings: Json, scheduler: Any) -> Json:  # noqa: ANN401 - an actor handle
    """Run one stage in a worker and return its seconds, or its error as text.

    Exceptions come back as values: unpickling one in the actor might import torch there.
    """
    node = request["node"]
    worker = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}
    scheduler.started.remote(node["fingerprint"], worker)

    try:
        return _run(request, settings, scheduler)
    except Exception as error:
        return {"error": _explain(error) + _keep_traceback(settings["root"], node["fingerprint"])}


def _run(request: Json, settings: Json, scheduler: Any) -> Json:  # noqa: ANN401
    import torch

    from occse.pipeline import Node
    from occse.training import Stopped
    from sweeps.store import Store

    node, cpus = request["node"], max(1, int(request["num_cpus"]))
    torch.set_num_threads(cpus)

    def report(record: Mapping[str, float]) -> None:
        scheduler.report.remote(node["fingerprint"], dict(record), int(time.time() * 1000))

    try:
        manifest = Store(Path(settings["root"])).execute(
            Node.load(node),
            device="cuda" if request["num_gpus"] else "cpu",
            workers=cpus - 1,
            data_root=Path(settings["data_root"]) if settings["data_root"] else None,
            weights=Path(settings["weights"]) if settings.get("weights") else None,
            git=settings["git"],
            report=report,
            stopping=StopRequested(stop_file(settings["root"], node["fingerprint"])),
        )
    except Stopped:
        return {"error": None, "stopped": True}
    return {"error": None, "seconds": manifest.seconds}


def source_digest() -> str:
    """Digest of the code of `occse` and `sweeps`, without importing it."""
    texts = []
    for package in ("occse", "sweeps"):
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        paths = sorted(path for folder in folders or () for path in Path(folder).rglob("*.py"))
        texts += [f"{path.name}\n{path.read_text()}" for path in paths]
    return _digest(*texts)


def _stage_task(request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a Ray remote function
    resources = {"num_cpus": request["num_cpus"], "num_gpus": request["num_gpus"], "max_retries": 3}
    if request["num_gpus"]:
        return ray.remote(max_calls=1, **resources)(run_stage)  # the process ends, and so its hold on GPU memory
    # Ray shows a node's GPUs even to a task that asked for none. And an environment of their own keeps the processes
    # that have imported torch for stages: Ray would make coordinators of those that are idle.
    resources["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    return ray.remote(**resources)(run_stage)


def _explain(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, TaskCancelledError):
        return "cancelled from outside the sweep"
    return f"{type(error).__name__}: {str(error) or 'no message'}"


def _keep_traceback(root: str, fingerprint: str) -> str:
    path = Path(root, "scratch", fingerprint, "error.txt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError:
        return ""
    return f" [{path}]"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

"""The scheduler: one named actor that runs every distinct fingerprint once in the whole cluster.

Trials never submit a stage: Tune would keep it inside the trial's own placement group. They ask the
actor, which starts a stage for the first that asks and lets the others join. Who asks takes a lease
and renews it by asking again; a stage that nobody leases any more is cancelled. Ray has no
priorities: what finds no room yet waits here, and the policy chooses what goes to which machine
next. The actor can be rebuilt from the store at any moment: after a crash Ray starts it again, the
trials ask again, and what was published is found.

This module is imported by the actor and by every trial, so it must not import torch (nor stages) at
the top."""

import asyncio
import itertools
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.cluster.code_version import short_digest, source_digest
from sweeps.cluster.flight import StageRun
from sweeps.cluster.policy import Amounts, Waiting, choose, fits
from sweeps.cluster.stage_task import Json, explain, stage_task
from sweeps.store.leases import RENEW_S, Leases
from sweeps.store.stop_file import stop_file
from sweeps.store.store import Store

NAMESPACE = "occse"
# a sliver that only the head node has: keeps light processes off workers
HEAD = {"node:__internal_head__": 0.001}
LEASE_S = 60.0
GRACE_S = 10.0
TICK_S = 1.0
ELSEWHERE_S = 2.0
MAX_EVENTS = 10_000


class Scheduler:
    """The actor. All answers are plain data, and so is a request: `{"node": Node.dump(),
    "num_cpus": ..., "num_gpus": ..., "priority": seconds of the longest chain that begins with it,
    "cpus_per_gpu": what must be kept for it}`."""

    def __init__(self, settings: Json) -> None:
        self._settings = settings
        self._flights: dict[str, StageRun] = {}
        self._failures: dict[str, str] = {}
        self._events: deque[Json] = deque(maxlen=MAX_EVENTS)
        self._points: deque[Json] = deque(maxlen=MAX_EVENTS)
        self._ids = itertools.count(1)
        self._drained: set[str] = set()
        self._machines: dict[str, Amounts] = {}
        self._demanded: list[Amounts] | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._store = Store(settings["root"])
        context = ray.get_runtime_context()
        # an actor that comes back after a crash has the same names
        self._leases = Leases(
            self._store.files, owner=f"{context.get_node_id()}:{context.get_actor_id()}"
        )
        self._renewed = time.monotonic()

    async def begin(self) -> None:
        """Forget failures: a new sweep may try again what failed for an earlier one."""
        self._failures.clear()

    async def ensure(self, request: Json, trial: str, wait: float) -> Json:
        """Lease the artifact of `request` for `trial` and wait up to `wait` seconds for it.

        Returns:
            `state` "done" (with the artifact's `metrics`), "failed" (with `error`), "missing" (an
            input, with its `field`, was damaged or removed: ask for that one first) or "running":
            ask again.
        """
        if (answer := await self._settled(request)) is not None:
            return answer
        if trial in self._drained:
            await asyncio.sleep(wait)
            return {"state": "running"}
        flight = self._flights.get(request["node"]["fingerprint"]) or self._start(request)
        # one that is being cancelled cannot be joined: let it end, then start anew
        if flight.cancelled is None:
            flight.leases[trial] = time.monotonic() + wait + LEASE_S
            for key in ("priority", "cpus_per_gpu"):
                flight.request[key] = max(flight.request.get(key, 0.0), request.get(key, 0.0))
        with suppress(TimeoutError):
            await asyncio.wait_for(flight.ended.wait(), wait)
        if flight.missing is not None:
            return {"state": "missing", "field": flight.missing}
        return await self._settled(request) or {"state": "running"}

    async def release(self, trial: str) -> None:
        """Give back every lease of `trial`."""
        for flight in self._flights.values():
            flight.leases.pop(trial, None)

    async def leave(self, trials: Collection[str], wait: float) -> None:
        """End now what only `trials` wait for, and give its leases back after `wait` seconds at the
        latest.

        A stage that takes longer to end is killed soon; whoever takes its lease first publishes
        first."""
        self._drained |= set(trials)  # their processes may ask once more before they end
        for trial in trials:
            await self.release(trial)
        self._cancel_unwanted()
        left = [flight for flight in self._flights.values() if flight.cancelled is not None]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(flight.ended.wait() for flight in left)), wait)
        await asyncio.gather(
            *(asyncio.to_thread(self._leases.release, flight.fingerprint) for flight in left)
        )

    async def drain(self, trials: Collection[str]) -> int:
        """Start nothing more for `trials`, and ask the stages that only they wait for to stop at
        their checkpoint.

        Their leases are not renewed any more, so that a stage that cannot stop is cancelled about a
        minute later.

        Returns:
            how many of these stages have not ended yet.
        """
        self._drained |= set(trials)
        left = [
            flight
            for flight in self._flights.values()
            if flight.leases and flight.leases.keys() <= self._drained
        ]
        for flight in left:
            if flight.worker is not None:
                await asyncio.to_thread(self._store.files.write, stop_file(flight.fingerprint), b"")
            elif flight.cancelled is None:
                self._cancel(flight)
        return len(left)

    async def started(self, fingerprint: str, worker: Json) -> None:
        """Called by the worker that begins the stage; a second time when Ray retries after a
        worker's death.
        """
        if (flight := self._flights.get(fingerprint)) is not None:
            self._event("again" if flight.worker else "running", flight)
            flight.worker = worker | {"since": time.monotonic()}
            flight.machine = worker["node"]  # Ray had the last word

    async def report(self, fingerprint: str, point: Json, at: int) -> None:
        """Called by the worker when an epoch ends, at `at` in milliseconds; a resumed one may
        repeat a step.
        """
        if (flight := self._flights.get(fingerprint)) is not None:
            self._points.append(self._about(flight) | {"point": point, "at": at})

    async def info(self, after: int = 0) -> Json:
        """Events and points of curves with an id above `after`, and what runs and waits now, for
        the driver.
        """
        now = time.monotonic()
        running = [
            {
                "field": flight.request["node"]["field"],
                "fingerprint": fingerprint,
                "pid": flight.worker["pid"],
            }
            | {
                "node": flight.worker["node"],
                "seconds": now - flight.worker["since"],
                "waiting": len(flight.leases),
            }
            for fingerprint, flight in self._flights.items()
            if flight.worker is not None
        ]
        queued = [
            flight for flight in self._flights.values() if flight.worker is None and flight.ours
        ]
        elsewhere = {
            each.fingerprint: each.elsewhere
            for each in self._flights.values()
            if each.elsewhere is not None
        }
        machines = self._machines.values()
        unmet = {
            _describe(flight.needs)
            for flight in queued
            if not any(fits(flight.needs, each) for each in machines)
        }
        news = {"events": self._events, "points": self._points}
        fresh = {
            kind: [item for item in items if item["id"] > after] for kind, items in news.items()
        }
        names = [flight.fingerprint for flight in queued]
        more = {"queued": names, "elsewhere": elsewhere, "unmet": sorted(unmet)}
        return {"pid": os.getpid(), **fresh, "running": running, **more}

    async def _settled(self, request: Json) -> Json | None:
        node = request["node"]
        manifest = await asyncio.to_thread(self._store.peek, node["kind"], node["fingerprint"])
        if manifest is not None:  # one without metrics is of another version: the driver says so
            return {"state": "done", "metrics": manifest.get("metrics", {})}
        error = self._failures.get(node["fingerprint"])
        return None if error is None else {"state": "failed", "error": error}

    def _start(self, request: Json) -> StageRun:
        flight = self._flights[request["node"]["fingerprint"]] = StageRun(request=dict(request))
        self._event("queued", flight)
        if self._ticker is None:
            self._look_around()
            self._ticker = asyncio.create_task(self._tick())
        flight.follower = asyncio.create_task(self._take(flight))
        return flight

    async def _take(self, flight: StageRun) -> None:
        """Take the lease on a stage, or wait while another cluster runs it, and take over where
        that one dies.
        """
        files, fingerprint = self._store.files, flight.fingerprint
        while self._flights.get(fingerprint) is flight:
            holder = None
            with suppress(OSError):  # a store that cannot be written is the stage's to tell
                holder = await asyncio.to_thread(self._leases.take, fingerprint)
            manifest = await asyncio.to_thread(
                self._store.peek, flight.request["node"]["kind"], fingerprint
            )
            if self._flights.get(fingerprint) is not flight:  # nobody waited that long
                self._in_background(self._leases.release, fingerprint)
            elif manifest is not None:
                self._end(flight, {"error": None, "seconds": manifest.get("seconds", 0.0)})
            elif holder is None:
                await asyncio.to_thread(files.remove, stop_file(fingerprint))
                flight.ours, flight.elsewhere = True, None
                self._submit_ready()
                return
            else:
                if flight.elsewhere is None:
                    self._event("elsewhere", flight, host=holder.host)
                flight.elsewhere = holder.host
                await asyncio.sleep(ELSEWHERE_S)

    def _submit_ready(self) -> None:
        """Submit what the machines have room for. Everything else stays here, where it can still be
        overtaken.
        """
        waiting = [
            Waiting(
                fingerprint=flight.fingerprint,
                needs=flight.needs,
                path_s=flight.request.get("priority", 0.0),
            )
            for flight in self._flights.values()
            if flight.ours and flight.ref is None
        ]
        if not waiting:
            return
        kept = max(flight.request.get("cpus_per_gpu", 0.0) for flight in self._flights.values())
        names, totals = list(self._machines), list(self._machines.values())
        for stage, place in choose(
            waiting, [self._free(name) for name in names], totals=totals, kept=kept
        ):
            self._submit(self._flights[stage.fingerprint], names[place])

    def _free(self, machine: str) -> Amounts:
        taken = [flight.needs for flight in self._flights.values() if flight.machine == machine]
        return {
            name: total - sum(needs[name] for needs in taken)
            for name, total in self._machines[machine].items()
        }

    def _submit(self, flight: StageRun, machine: str) -> None:
        node = flight.request["node"]
        actor = ray.get_runtime_context().current_actor
        # Leaves any placement group that the caller may be captured in. Where the machine died, or
        # is taken by others, Ray finds another one.
        where = NodeAffinitySchedulingStrategy(machine, soft=True, _spill_on_unavailable=True)
        task = stage_task(flight.request).options(
            name=f"{node['field']}:{flight.fingerprint[:8]}", scheduling_strategy=where
        )
        flight.machine = machine
        flight.ref = task.remote(flight.request, self._settings, actor)
        flight.follower = asyncio.create_task(self._follow(flight))

    async def _follow(self, flight: StageRun) -> None:
        try:
            outcome = await flight.ref
        except (RayError, asyncio.CancelledError) as error:
            outcome = {"error": None if flight.cancelled else explain(error)}
        if outcome.get("retry") and flight.cancelled is None:
            flight.request["accumulate"] = outcome["retry"]
            flight.ref = flight.machine = flight.worker = None
            self._event("split", flight, error=outcome["error"])
        else:
            self._end(flight, outcome)
        self._submit_ready()

    def _end(self, flight: StageRun, outcome: Json) -> None:
        del self._flights[flight.fingerprint]
        self._in_background(self._leases.release, flight.fingerprint)
        flight.missing = outcome.get("missing")
        if outcome["error"] is not None:
            self._failures[flight.fingerprint] = outcome["error"]
            self._event("failed", flight, error=outcome["error"])
        elif flight.missing is not None:
            self._event("missing", flight, input=flight.missing, reason=outcome["reason"])
        elif "seconds" not in outcome:
            self._event("stopped" if "stopped" in outcome else "cancelled", flight)
        else:
            self._event("done", flight, seconds=outcome["seconds"])
        flight.ended.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._cancel_unwanted()
                self._look_around()
                self._renew()
                self._submit_ready()
            # such as the cluster's head not answering for a moment: there is a next time
            except Exception:
                logging.exception("the scheduler goes on")

    def _cancel_unwanted(self) -> None:
        """Cancel what nobody leases: first so that the stage can tidy up, then by force."""
        now = time.monotonic()
        for flight in list(self._flights.values()):
            if flight.cancelled is not None:
                if now > flight.cancelled + GRACE_S:
                    ray.cancel(flight.ref, force=True)
            elif all(deadline < now for deadline in flight.leases.values()):
                self._cancel(flight)

    def _cancel(self, flight: StageRun) -> None:
        flight.cancelled = time.monotonic()
        if flight.ref is None:
            self._end(flight, {"error": None})
        else:
            ray.cancel(flight.ref)

    def _renew(self) -> None:
        if time.monotonic() > self._renewed + RENEW_S:
            self._renewed = time.monotonic()
            for flight in self._flights.values():
                if flight.ours and flight.cancelled is None:
                    self._in_background(self._leases.renew, flight.fingerprint)

    @staticmethod
    def _in_background(call: Callable[[str], None], fingerprint: str) -> None:
        """Writes to the store in a thread: an object store takes its time, and nothing waits for
        it.
        """
        asyncio.get_running_loop().run_in_executor(None, call, fingerprint)

    def _look_around(self) -> None:
        """Which machines are alive; and where more can be started, ask for what all stages need."""
        self._machines = {
            node["NodeID"]: {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
            for node in ray.nodes()
            if node["Alive"]
        }
        demand = [flight.needs for flight in self._flights.values()]
        if self._settings.get("autoscaling") and demand != self._demanded:
            from ray.autoscaler.sdk import request_resources

            request_resources(
                bundles=[
                    {name: amount for name, amount in each.items() if amount} for each in demand
                ]
            )
            self._demanded = demand

    def _event(self, what: str, flight: StageRun, **more: object) -> None:
        self._events.append(self._about(flight) | {"what": what} | more)

    def _about(self, flight: StageRun) -> Json:
        return {
            "id": next(self._ids),
            "field": flight.request["node"]["field"],
            "fingerprint": flight.fingerprint,
        }


def connect(settings: Json) -> Any:  # noqa: ANN401 - Ray types no actor handles
    """The scheduler of the cluster for these settings, started if there is none.

    Its name carries the settings and the source code: a detached actor goes on running the code it
    was started with."""
    actor = ray.remote(
        num_cpus=0, resources=HEAD, max_restarts=-1, max_task_retries=-1, max_concurrency=10_000
    )(Scheduler)
    name = f"scheduler:{short_digest(json.dumps(settings, sort_keys=True), source_digest())}"
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return actor.options(**options, scheduling_strategy="DEFAULT").remote(settings)


def _describe(needs: Amounts) -> str:
    return ", ".join(
        f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in needs.items() if amount
    )

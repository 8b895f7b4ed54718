"""Connection of the driver to a Ray cluster, with errors that come soon and say what to do."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.experimental.internal_kv import _internal_kv_get

from sweeps.cluster.head import JOB, NAMESPACE
from sweeps.cluster.token_file import keep_token_private
from sweeps.text import Say

# Only plans travel through Ray's object store; its default would take a third of the memory.
OBJECT_STORE_BYTES = 200 << 20
# A cluster that is there answers within a second, through a slow tunnel within three.
ANSWER_S = 10.0
# Of a page on this machine or near it, which is a convenience only.
DASHBOARD_S = 2.0
# Ray gives its own start 30 s; a machine that is busy with other starts may need them twice.
STARTS = 2


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines to run on, and the number of trials at a time.

    Attributes:
        address: of a running Ray cluster; None for one on this machine that ends with the sweep.
        num_cpus: CPUs of the cluster on this machine; None for all.
        max_concurrent: trials at a time; None for enough to fill the cluster.
        autoscaling: whether the cluster starts machines when they are asked for. Without it, stages
            make do with those that are alive when the sweep starts.
        weight: share of the sweep, relative to others on the same cluster and store.
    """

    address: str | None = None
    num_cpus: int | None = None
    max_concurrent: int | None = None
    autoscaling: bool = False
    weight: float = 1.0


@contextmanager
def joined(cluster: Cluster, *, say: Say) -> Iterator[None]:
    """Connect to the cluster; one on this machine ends with the block, a joined one goes on.

    Raises:
        ConnectionError: no cluster answers at its address, or Ray does not start here.
    """
    # A caller that connected before (a notebook, a test) also disconnects.
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Before Ray starts: it makes the file itself where there is none.
    keep_token_private()
    if cluster.address is not None:
        check_address(cluster.address)
        start_ray(say, address=cluster.address, runtime_env=_environment())
    else:
        start_ray(
            say,
            address="local",
            num_cpus=cluster.num_cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        if cluster.address is not None:
            dashboard = _dashboard()
            if _listens(dashboard):
                say(f"Ray's dashboard: http://{dashboard}")
        yield
    finally:
        ray.shutdown()


def _environment() -> dict[str, Any]:
    """Return the environment of workers: the user's plugins travel to machines that lack them.

    A submitted job has an environment of its own, whose working folder brings them along.
    """
    from occse.plugins import plugin_files

    files = [] if JOB in os.environ else plugin_files()
    return {"py_modules": [str(path) for path in files]} if files else {}


def start_ray(say: Say, **options: Any) -> None:  # noqa: ANN401 - those of `ray.init`
    """Call `ray.init`, and once more where the machine was too busy for Ray's patience.

    A cluster on this machine (`address="local"`) listens on the loopback only.

    Raises:
        ConnectionError: it failed again.
    """
    for attempt in range(1, STARTS + 1):
        try:
            with _alone() if options.get("address") == "local" else nullcontext():
                ray.init(
                    namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, **options
                )
            return
        # Ray raises a bare Exception where its start times out
        except Exception as error:
            ray.shutdown()  # what did start of it
            reason = str(error).strip().splitlines()[:1]
            message = f"Ray did not start: {' '.join(reason)}"
            if attempt == STARTS or isinstance(error, ValueError):
                raise ConnectionError(message) from error
            say(f"warning: {message}; trying once more")


def _dashboard() -> str:
    """Return HOST:PORT of the cluster's dashboard, which Ray names also where it started none."""
    address = _internal_kv_get(
        ray_constants.DASHBOARD_ADDRESS, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
    )
    return str(address, "utf-8") if address else ""


def _listens(address: str) -> bool:
    """Tell whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=DASHBOARD_S).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _alone() -> Iterator[None]:
    """Start a cluster on this machine for this driver: see `_loopback` and `_without_tracking`."""
    with _loopback(), _without_tracking():
        yield


@contextmanager
def _without_tracking() -> Iterator[None]:
    """Keep MLflow's address, user and password from the processes that start in the block.

    Ray's processes inherit the environment. The driver alone records, so a password in there would
    be one more copy of it in each worker, for the code of every stage to read.
    """
    names = [name for name in os.environ if name.startswith("MLFLOW_TRACKING_")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _loopback() -> Iterator[None]:
    """Make a cluster that starts in the block take 127.0.0.1 as the address of its machine.

    All of its processes then listen there only. Ray replaces a loopback address that it is given by
    one that other machines reach, unless this constant says that there are no other machines, as
    it does on Windows and macOS. Its environment variable is read when Ray is imported, which is
    too early: a driver that joins a cluster elsewhere must be reached from there.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def check_address(address: str) -> None:
    """Check within `ANSWER_S` that a Ray cluster answers at `address`, for which Ray takes minutes.

    Raises:
        ConnectionError: none does; the second line is the message of Ray or of the system.
    """
    wanted = f"--address {address}: expected a running Ray cluster; "
    wanted += "start one (`ray start --head`), or leave --address out for one on this machine"
    try:
        location = canonicalize_bootstrap_address(address)
        host, _, port = str(location).rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as error:  # ConnectionError of Ray is an OSError
        raise ConnectionError(f"{wanted}\n{error}") from None
    problem = _ask_head(str(location))
    if problem:
        raise ConnectionError(f"{wanted}\n{problem}")


def _ask_head(location: str) -> str:
    """Return why the head at HOST:PORT does not answer; empty if it does."""
    problems = ["it accepts connections, but does not answer as Ray's head does"]

    def ask() -> None:
        try:
            GcsClient(address=location)
            problems.clear()
        except Exception as error:
            problems[0] = str(error)

    # Ray has no time limit for this call; a thread that never ends does not keep the process alive
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return problems[0] if problems else ""

"""Ray clusters of processes of their own: `ray start`, with Ray's autoscaler or without."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from waiting import wait_until

from sweeps.cluster.connection import check_address

# Nodes of tests hold no data in Ray's object store.
OBJECTS = 80_000_000
# Each machine's Ray takes a second of CPU to start; the autoscaler may look as often.
LOOK_S = "1"


class Head:
    """A cluster that somebody else started with `ray start --head`.

    Args:
        num_cpus: CPUs of the head.
        options: more options of the command.
        environment: more variables of the environment; None takes one away.
        prefix: words before the command, such as those of `unshare`.
    """

    def __init__(
        self,
        *,
        num_cpus: int,
        options: Callable[[str, Path], Sequence[str]] = lambda address, folder: (),
        environment: Mapping[str, str | None],
        prefix: Sequence[str] = (),
    ) -> None:
        # short, because the paths of Ray's sockets are limited; its own, because commands that say
        # `auto` would otherwise find this cluster
        self._folder = tempfile.TemporaryDirectory(prefix="head-")
        port, client_port, agent_port = _free_ports(3)
        self.address = f"127.0.0.1:{port}"
        command = [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
        command += ["--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
        command += [f"--num-cpus={num_cpus}", "--num-gpus=0", f"--temp-dir={self._folder.name}"]
        command += [f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
        command += [f"--dashboard-agent-listen-port={agent_port}"]
        command += [f"--object-store-memory={OBJECTS}"]
        command += options(self.address, Path(self._folder.name))
        mixed = os.environ | environment
        self._log = (Path(self._folder.name) / "start.log").open("w")
        self._process = subprocess.Popen(
            command,
            env={name: value for name, value in mixed.items() if value is not None},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_until(self._answers, what="the head", process=self._process)
        except BaseException:
            self.shutdown()  # nobody else has it yet
            raise

    def shutdown(self) -> None:
        """End the cluster, with the machines that its autoscaler started."""
        ray.shutdown()
        processes = [self._process.pid, *_descendants(self._process.pid)]
        for pid in processes:
            _kill(pid)
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            check_address(self.address)
        except ConnectionError:
            return False
        return True


class FakeCloud(Head):
    """A head without CPUs, and node types of which the autoscaler starts machines on demand.

    Args:
        types: CPUs and GPUs of a machine by node type, such as `{"cpu": {"CPU": 2}}`.
        most: the most machines by node type; 1 where it is not said.
    """

    def __init__(
        self, types: Mapping[str, Mapping[str, float]], *, most: Mapping[str, int]
    ) -> None:
        def autoscaler(address: str, folder: Path) -> list[str]:
            file = folder / "cluster.json"
            file.write_text(json.dumps(_config(types, address, most=most)))
            return [f"--autoscaling-config={file}"]

        environment = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": LOOK_S,
            # a test waits for the metrics of its sweep
            "RAY_metrics_report_interval_ms": "1000",
        }
        super().__init__(num_cpus=0, options=autoscaler, environment=environment)


def _config(
    types: Mapping[str, Mapping[str, float]], address: str, *, most: Mapping[str, int]
) -> dict[str, Any]:
    """The cluster's file as Ray's launcher would leave it on the head."""
    kinds: dict[str, Any] = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    }
    for name, resources in types.items():
        kinds[name] = {
            "resources": {**resources, "object_store_memory": OBJECTS},
            "node_config": {},
            "min_workers": 0,
            "max_workers": most.get(name, 1),
        }
    commands = (
        "setup_commands",
        "head_setup_commands",
        "worker_setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "initialization_commands",
        "cluster_synced_files",
        "rsync_exclude",
        "rsync_filter",
    )
    return {
        "cluster_name": "fake",
        "max_workers": 10,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in commands},
    }


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _descendants(pid: int) -> list[int]:
    """Every process below `pid`, parents first."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name in brackets may have blanks; the parent is the second word behind it
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

"""A Ray cluster of several nodes on this one machine, whose GPUs are only counted."""

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from probe_sweep import PROBES  # before Ray: it sets its environment
from ray import nodes as ray_nodes
from ray import shutdown
from ray.cluster_utils import Cluster
from waiting import wait_until

from sweeps.cluster.connection import start_ray

# A machine that runs other tests too may need them all.
STARTS = 4


class Nodes:
    """A head without CPUs, where drivers and coordinators live, and the nodes that are added."""

    def __init__(self) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        # five refused connections tell that a node is dead: in 5 s, not in 15
        quick = {"_system_config": {"health_check_period_ms": 1000}}
        head = {"num_cpus": 0, "include_dashboard": False} | quick
        self._cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.address: str = self._cluster.address
        self.added: list[Any] = []
        start_ray(print, address=self.address, runtime_env=PROBES)

    def add(self, *, num_cpus: int, num_gpus: int = 0) -> Any:
        """One more node; its `node_id` is Ray's."""
        node = _started(
            lambda: self._cluster.add_node(wait=False, num_cpus=num_cpus, num_gpus=num_gpus)
        )
        self._wait(node, alive=True)
        self.added.append(node)
        return node

    def kill(self, node: Any) -> None:
        """SIGKILL of the node's raylet, as when a machine is lost; its workers follow."""
        raylet = node.all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGKILL)
        raylet.wait()
        self._wait(node, alive=False)
        self.remove(node)

    def remove(self, node: Any) -> None:
        """End what is left of a node."""
        self.added.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        self._wait(node, alive=False)

    def shutdown(self) -> None:
        """End the cluster."""
        shutdown()
        self._cluster.shutdown()

    def _wait(self, node: Any, *, alive: bool) -> None:
        def settled() -> bool:
            living = {each["NodeID"] for each in ray_nodes() if each["Alive"]}
            return (node.node_id in living) == alive

        wait_until(settled, what=f"node {node.node_id}, alive: {alive}", every_s=0.2)


def _started(start: Callable[[], Any]) -> Any:
    """Start a part of a cluster, again where the machine was too busy for Ray's 30 seconds."""
    for _ in range(STARTS - 1):
        try:
            return start()
        # Ray raises a bare Exception where its start times out
        except Exception as error:
            print(f"{error}; trying once more")
    return start()

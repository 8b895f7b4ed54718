"""Requests for the stages of a trial: each with its resources, and how urgent it is."""

import sys
from collections.abc import Mapping
from statistics import median

from occse.artifacts.secrets import masked_command
from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.messages import StageRequest
from sweeps.cluster.policy import cpus_beside_gpus, longest_paths
from sweeps.driver.queue import TrialStep
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan


class Requests:
    """Makes the requests of steps, from the plans that they belong to.

    Args:
        history: past durations. A stage without one is assumed to take the median.
        sweep: name of the sweep.
        weight: share of the sweep, relative to others.
    """

    def __init__(self, history: PastRuns, *, sweep: str = "", weight: float = 1.0) -> None:
        self._sweep = sweep
        self._weight = weight
        self._history = history
        self._nodes: dict[str, Node] = {}
        self._command = masked_command(("python", *sys.orig_argv[1:]))
        self._granted: dict[str, Resources] = {}
        self._paths: dict[str, float] = {}
        self._kept: dict[str, float] = {}

    def add(self, plan: Plan, *, granted: Mapping[str, Resources]) -> None:
        """Take in a plan: the resources of its stages by fingerprint, and its chains of stages."""
        self._granted |= granted
        self._nodes |= plan.nodes  # the inputs of what comes after a gate were planned before
        inputs = {
            fingerprint: plan.nodes[fingerprint].inputs.values() for fingerprint in plan.reasons
        }
        known: dict[str, float] = {}
        for fingerprint in inputs:
            node = self._nodes[fingerprint]
            resources = granted[fingerprint]
            estimate = self._history.seconds(node, self._nodes, granted=resources)
            if estimate is not None:
                known[fingerprint] = estimate.usual
        # Without any history all stages count the same, so the longest chain is that of most
        # stages.
        usual = median(known.values()) if known else 1.0
        seconds = {fingerprint: known.get(fingerprint, usual) for fingerprint in inputs}
        needs = {fingerprint: needs_of(granted[fingerprint]) for fingerprint in inputs}
        self._paths |= longest_paths(inputs, seconds)
        self._kept |= cpus_beside_gpus(inputs, needs)

    def of(self, step: TrialStep) -> tuple[StageRequest, ...]:
        """Return one request per stage of the step, upstream first."""
        nodes = [node for field, node in step.trial.nodes.items() if field in step.fields]
        return tuple(self._request(node) for node in nodes)

    def _request(self, node: Node) -> StageRequest:
        granted = self._granted[node.fingerprint]
        return StageRequest(
            node=node.dump(),
            num_cpus=granted.num_cpus,
            num_gpus=granted.num_gpus,
            path_s=self._paths.get(node.fingerprint, 0.0),
            cpus_per_gpu=self._kept.get(node.fingerprint, 0.0),
            command=self._command,
            sweep=self._sweep,
            weight=self._weight,
        )


def needs_of(resources: Resources) -> dict[str, float]:
    """Return resources by Ray's names."""
    return {"CPU": resources.num_cpus, "GPU": resources.num_gpus}

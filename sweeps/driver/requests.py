"""What trials ask the scheduler for: each stage with its resources, and how urgent it is."""

import shlex
import sys
from collections.abc import Mapping
from statistics import median

from occse.pipeline import Node
from occse.stage import Resources
from sweeps.cluster.policy import cpus_beside_gpus, longest_paths
from sweeps.cluster.stage_task import Json
from sweeps.driver.queue import TrialStep
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan


class Requests:
    """Makes the requests of steps, from the plans that they belong to.

    Args:
        history: tells how long a stage takes; of which it does not know counts as a usual one.
    """

    def __init__(self, history: PastRuns) -> None:
        self._history = history
        self._nodes: dict[str, Node] = {}
        self._command = shlex.join(("python", *sys.orig_argv[1:]))
        self._granted: dict[str, Resources] = {}
        self._paths: dict[str, float] = {}
        self._kept: dict[str, float] = {}

    def add(self, plan: Plan, *, granted: Mapping[str, Resources]) -> None:
        """Take in what a plan's stages get, by fingerprint, and how urgent its chains of stages
        make them.
        """
        self._granted |= granted
        self._nodes |= plan.nodes  # the inputs of what comes after a gate were planned before
        inputs = {
            fingerprint: plan.nodes[fingerprint].inputs.values() for fingerprint in plan.reasons
        }
        found = {
            each: self._history.seconds(self._nodes[each], self._nodes, granted=granted[each])
            for each in inputs
        }
        known = {each: estimate.usual for each, estimate in found.items() if estimate is not None}
        usual = median(known.values()) if known else 1.0
        self._paths |= longest_paths(inputs, {each: known.get(each, usual) for each in inputs})
        self._kept |= cpus_beside_gpus(inputs, {each: needs_of(granted[each]) for each in inputs})

    def of(self, step: TrialStep) -> dict[str, Json]:
        """One request per stage of the step, by pipeline field, upstream first."""
        return {
            field: {
                "node": node.dump(),
                **self._granted[node.fingerprint].model_dump(),
                "command": self._command,
                "priority": self._paths.get(node.fingerprint, 0.0),
                "cpus_per_gpu": self._kept.get(node.fingerprint, 0.0),
            }
            for field, node in step.trial.nodes.items()
            if field in step.fields
        }


def needs_of(resources: Resources) -> dict[str, float]:
    """Resources by Ray's names."""
    return {"CPU": resources.num_cpus, "GPU": resources.num_gpus}

"""What trials ask the scheduler for: each stage with its resources, and how urgent it is."""

import shlex
import sys
from collections.abc import Mapping
from statistics import median

from occse.stage import Resources
from sweeps.agenda import Step
from sweeps.planning import Plan
from sweeps.policy import cpus_beside_gpus, longest_paths
from sweeps.worker import Json


class Requests:
    """Makes the requests of steps, from the plans that they belong to.

    Args:
        durations: expected seconds by stage class; an unknown one counts as a usual one.
    """

    def __init__(self, *, durations: Mapping[str, float]) -> None:
        self._durations = durations
        self._usual = median(durations.values()) if durations else 1.0
        self._command = shlex.join(("python", *sys.orig_argv[1:]))
        self._granted: dict[str, Resources] = {}
        self._paths: dict[str, float] = {}
        self._kept: dict[str, float] = {}

    def add(self, plan: Plan, *, granted: Mapping[str, Resources]) -> None:
        """Take in what a plan's stages get, by fingerprint, and how urgent its chains of stages make them."""
        self._granted |= granted
        inputs = {fingerprint: plan.nodes[fingerprint].inputs.values() for fingerprint in plan.reasons}
        seconds = {each: self._durations.get(plan.nodes[each].kind, self._usual) for each in inputs}
        self._paths |= longest_paths(inputs, seconds)
        self._kept |= cpus_beside_gpus(inputs, {each: needs_of(granted[each]) for each in inputs})

    def of(self, step: Step) -> dict[str, Json]:
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

"""What trials ask the scheduler for: each stage with its resources, and how urgent it is."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from statistics import median

from occse.stage import Resources
from sweeps.planning import Plan
from sweeps.policy import cpus_beside_gpus, longest_paths
from sweeps.spec import Trial
from sweeps.worker import Json


def make_requests(
    trials: Sequence[Trial], plan: Plan, *, granted: Mapping[str, Resources], durations: Mapping[str, float]
) -> list[dict[str, Json]]:
    """One request per stage of each trial, by pipeline field, upstream first.

    Args:
        trials: who asks.
        plan: the plan of the whole sweep, whose chains of stages make a stage urgent.
        granted: what each stage gets, by fingerprint.
        durations: expected seconds by stage class; an unknown one counts as a usual one.
    """
    usual = median(durations.values()) if durations else 1.0
    inputs = {fingerprint: plan.nodes[fingerprint].inputs.values() for fingerprint in plan.reasons}
    needs = {fingerprint: needs_of(granted[fingerprint]) for fingerprint in inputs}
    kept = cpus_beside_gpus(inputs, needs)
    command = shlex.join(("python", *sys.orig_argv[1:]))
    paths = longest_paths(inputs, {each: durations.get(plan.nodes[each].kind, usual) for each in inputs})
    return [
        {
            field: {
                "node": node.dump(),
                **granted[node.fingerprint].model_dump(),
                "command": command,
                "priority": paths.get(node.fingerprint, 0.0),
                "cpus_per_gpu": kept.get(node.fingerprint, 0.0),
            }
            for field, node in trial.nodes.items()
        }
        for trial in trials
    ]


def needs_of(resources: Resources) -> dict[str, float]:
    """Resources by Ray's names."""
    return {"CPU": resources.num_cpus, "GPU": resources.num_gpus}

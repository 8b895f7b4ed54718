"""What a sweep with gates will run, as far as that can be told before it runs."""

from collections.abc import Sequence
from dataclasses import replace

from sweeps.plan.plan import ORDER
from sweeps.selection.gatekeeper import group, passing
from sweeps.spec.gates import Gate
from sweeps.spec.trials import Trial


def expected(trials: Sequence[Trial], gates: Sequence[Gate]) -> list[Trial]:
    """`trials`, cut off at the gates: as many go on as the gates let, at most.

    Which ones is not known yet; those that the file names first stand for them, and the baseline is
    among them."""
    variants: dict[str, list[Trial]] = {}
    for trial in trials:
        variants.setdefault(trial.variant, []).append(trial)
    ends = dict.fromkeys(variants, len(ORDER))
    for gate in sorted(gates, key=lambda each: ORDER[each.after]):
        groups: dict[str, list[str]] = {}
        for name, (first, *_) in variants.items():
            if ends[name] == len(ORDER) and not first.baseline:
                knobs = {field: node.stage.config() for field, node in first.nodes.items()}
                groups.setdefault(group(gate, knobs), []).append(name)
        for members in groups.values():
            ends |= dict.fromkeys(members[passing(gate, len(members)) :], ORDER[gate.after])
    return [_up_to(trial, ends[trial.variant]) for trial in trials]


def _up_to(trial: Trial, last: int) -> Trial:
    return replace(
        trial, nodes={field: node for field, node in trial.nodes.items() if ORDER[field] <= last}
    )

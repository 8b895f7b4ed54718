"""A trial on the cluster: a light process that asks for the stages of one pipeline, upstream first.

It holds no GPU and next to no CPU, gets plain data only, and does not import torch.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from sweeps.cluster.stage_task import Json

WAIT_S = 5.0
LOSSES = 3


def coordinate(config: Mapping[str, Any], *, scheduler: Any) -> None:  # noqa: ANN401
    """Tune's trainable: see the stages that `config["requests"]` asks for through, a JSON object by
    field.

    A stage's failure is no failure of the coordinator, which Tune would only repeat: it ends what
    hangs on that stage, the rest of the trial goes on, and the driver reads the failures in the
    last report."""
    trial = tune.get_context().get_trial_id()
    plan: dict[str, Json] = json.loads(config["requests"])
    done: set[str] = set()
    failed: dict[str, str] = {}
    asked: dict[Any, str] = {}
    lost: Counter[str] = Counter()

    def ask(field: str) -> None:
        asked[scheduler.ensure.remote(plan[field], trial, WAIT_S)] = field

    def ask_ready() -> None:
        for field, request in plan.items():
            if field not in done | failed.keys() | set(asked.values()) and done.issuperset(
                request["node"]["inputs"]
            ):
                ask(field)

    ask_ready()
    while asked:
        (ref,), _ = ray.wait(list(asked), num_returns=1)
        field, answer = asked.pop(ref), ray.get(ref)
        if answer["state"] == "running":
            ask(field)
            continue
        if answer["state"] == "missing" and lost[field] < LOSSES:
            lost[field] += 1
            done.discard(answer["field"])
            ask_ready()
            continue
        if answer["state"] == "done":
            done.add(field)
        elif answer["state"] == "missing":
            failed[field] = f"its input {answer['field']} is lost again and again"
        else:
            failed[field] = answer["error"]
        tune.report({"field": field, "num_done": len(done), "failed": dict(failed)})
        ask_ready()

from pathlib import Path

from probe_stages import Probe, make_trial

from occse.stage import Resources
from sweeps.agenda import Step
from sweeps.planning import make_plan
from sweeps.requests import Requests
from sweeps.store import Store


def test_what_others_wait_for_longest_is_most_urgent_and_keeps_cpus_for_the_gpus_behind_it(tmp_path: Path) -> None:
    trials = [
        make_trial(
            order,
            data=Probe(label="data"),
            oc=Probe(label="oc", upstream=("data",)),
            crf=Probe(label=f"crf {order}", upstream=("data",)),
        )
        for order in range(2)
    ]
    store = Store(tmp_path)
    plan = make_plan(trials, stored=store.present)
    granted = {each: Resources(num_cpus=1) for each in plan.nodes}
    granted[trials[0].nodes["oc"].fingerprint] = Resources(num_cpus=3, num_gpus=0.5)
    requests = Requests(durations={"Probe": 7.0})
    requests.add(plan, granted=granted)
    first, second = (requests.of(Step(trial=trial, fields=tuple(trial.nodes))) for trial in trials)
    assert {field: request["priority"] for field, request in first.items()} == {"data": 14, "oc": 7, "crf": 7}
    assert {field: request["cpus_per_gpu"] for field, request in second.items()} == {"data": 6, "oc": 6, "crf": 0}
    assert (first["oc"]["num_cpus"], first["oc"]["num_gpus"]) == (3, 0.5)
    assert second["data"]["node"] == trials[0].nodes["data"].dump()

    store.execute(trials[0].nodes["data"], git={})
    plan = make_plan(trials, stored=store.present)
    usual = Requests(durations={})
    usual.add(plan, granted=granted)
    unknown = usual.of(Step(trial=trials[0], fields=("data", "oc")))
    assert {field: request["priority"] for field, request in unknown.items()} == {"data": 0, "oc": 1}

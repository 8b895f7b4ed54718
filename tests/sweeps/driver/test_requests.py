from pathlib import Path

from measured import measured
from probe_stages import Probe, make_trial

from occse.stage import Resources
from sweeps.driver.queue import TrialStep
from sweeps.driver.requests import Requests
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import make_plan
from sweeps.store.store import Store


def test_what_others_wait_for_longest_is_most_urgent_and_keeps_cpus_for_the_gpus_behind_it(
    tmp_path: Path,
) -> None:
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
    requests = Requests(PastRuns([measured(trials[0].nodes["data"], seconds=7.0)]))
    requests.add(plan, granted=granted)
    first, second = (
        requests.of(TrialStep(trial=trial, fields=tuple(trial.nodes))) for trial in trials
    )
    assert {request.field: request.path_s for request in first} == {
        "data": 14,
        "oc": 7,
        "crf": 7,
    }
    assert {request.field: request.cpus_per_gpu for request in second} == {
        "data": 6,
        "oc": 6,
        "crf": 0,
    }
    assert (first[1].num_cpus, first[1].num_gpus) == (3, 0.5)
    assert second[0].node == trials[0].nodes["data"].dump()

    store.execute(trials[0].nodes["data"])
    plan = make_plan(trials, stored=store.present)
    usual = Requests(PastRuns([]))
    usual.add(plan, granted=granted)
    unknown = usual.of(TrialStep(trial=trials[0], fields=("data", "oc")))
    assert {request.field: request.path_s for request in unknown} == {
        "data": 0,
        "oc": 1,
    }


def test_a_configuration_that_took_longer_is_more_urgent_than_another_of_its_class(
    tmp_path: Path,
) -> None:
    trial = make_trial(
        0, data=Probe(label="data"), oc=Probe(label="oc", num_steps=1), crf=Probe(label="crf")
    )
    took = {"data": 7.0, "oc": 50.0, "crf": 9.0}
    requests = Requests(
        PastRuns(measured(trial.nodes[field], seconds=seconds) for field, seconds in took.items())
    )
    plan = make_plan([trial], stored=Store(tmp_path).present)
    requests.add(plan, granted={each: Resources(num_cpus=1) for each in plan.nodes})
    asked = requests.of(TrialStep(trial=trial, fields=tuple(trial.nodes)))
    assert {request.field: request.path_s for request in asked} == took

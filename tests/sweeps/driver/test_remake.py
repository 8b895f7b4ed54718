"""A stage that is made again on purpose."""

import json
import shutil
from pathlib import Path

import pytest
from probe_stages import Probe, executions, make_trial

from occse.artifacts.source import changes
from sweeps.driver.remake import compare, set_aside, set_changed_aside
from sweeps.spec.trials import Trial
from sweeps.store.store import Store


@pytest.fixture
def trial() -> Trial:
    return make_trial(0, data=Probe(label="data"), oc=Probe(label="oc", upstream=("data",)))


@pytest.fixture
def store(tmp_path: Path, trial: Trial) -> Store:
    found = Store(tmp_path)
    for node in trial.nodes.values():
        found.execute(node)
    return found


def test_only_the_wanted_stage_is_set_aside_and_an_equal_result_is_told(
    store: Store, trial: Trial
) -> None:
    forced = set_aside(store, [trial, trial], ["data"])
    assert [node.field for node, _ in forced] == ["data"]
    assert trial.nodes["data"] not in store
    assert trial.nodes["oc"] in store, "what was made from it stays"
    (old,) = store.root.glob("corrupt/Probe/*")
    assert (old / "manifest.json").exists()
    fingerprint = trial.nodes["data"].fingerprint[:8]
    assert list(compare(store, forced)) == [f"forced data {fingerprint}: was not made again"]
    store.execute(trial.nodes["data"])
    assert executions(store.root) == ["data 0", "oc 0", "data 0"]
    assert list(compare(store, forced)) == [
        f"forced data {fingerprint}: the same metrics, and the same files, byte for byte"
    ]


def test_other_metrics_are_told(store: Store, trial: Trial) -> None:
    ((node, before),) = set_aside(store, [trial], ["oc"])
    store.execute(node)
    other = before.model_copy(update={"metrics": {"miou": 0.25}})
    assert list(compare(store, [(node, other)])) == [
        f"forced oc {node.fingerprint[:8]}: OTHER METRICS: miou 0.25 before, 0.5 now"
    ]


def test_what_is_not_there_need_not_be_set_aside(store: Store, trial: Trial) -> None:
    shutil.rmtree(store.root / "Probe")
    assert set_aside(store, [trial], ["data"]) == []


def test_a_stage_that_no_trial_has_is_refused(store: Store, trial: Trial) -> None:
    with pytest.raises(ValueError, match="--force: no trial has a stage cam; they have data, oc"):
        set_aside(store, [trial], ["data", "cam"])
    assert trial.nodes["data"] in store


def test_artifacts_of_other_code_and_those_made_from_them_are_set_aside(
    store: Store, trial: Trial
) -> None:
    nodes = {node.fingerprint: node for node in trial.nodes.values()}
    assert changes(store.manifests_of(nodes.values()), nodes) == {}
    path = store.root / "Probe" / trial.nodes["data"].fingerprint / "manifest.json"
    values = json.loads(path.read_text())
    values["source"]["probe_stages"] = "00000000"
    path.write_text(json.dumps(values))
    reasons = changes(store.manifests_of(nodes.values()), nodes)
    assert list(reasons.values()) == [
        "made by other code: probe_stages.py changed",
        "made from data of other code",
    ]
    forced = set_changed_aside(store, nodes, reasons)
    assert [node.field for node, _ in forced] == ["data", "oc"]
    assert store.manifests_of(nodes.values()) == {}

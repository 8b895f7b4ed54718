"""A recorded trial is made again from its record alone, and its metrics come out bit for bit."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from small import SMALL

from occse.pipeline import Node, Pipeline, override, plan
from occse.stage import Machine
from sweeps.__main__ import main
from sweeps.driver.reproduce import compare, differences, rebuild, run_again
from sweeps.store.store import Store
from sweeps.tracking.query import find_trial

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow


@pytest.fixture(scope="module")
def uri(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database in which a sweep of one trial is recorded."""
    folder = tmp_path_factory.mktemp("recorded")
    spec = {
        "name": "small",
        "question": "Again?",
        "profile": "embedded",
        "base": SMALL,
        "baseline": {},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(spec))
    uri = f"sqlite:///{folder}/mlflow.db"
    assert (
        main(["run", str(folder / "small.yaml"), "--store", str(small_store), "--tracking", uri])
        == 0
    )
    return uri


@pytest.fixture
def trial(uri: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`occse.kind` = 'trial'")
    return find_trial(uri, run.info.run_id)


def test_the_record_tells_every_stage(trial: Run, small_node: dict[str, Node]) -> None:
    nodes = rebuild(trial)
    assert {field: node.fingerprint for field, node in nodes.items()} == {
        field: node.fingerprint for field, node in small_node.items()
    }
    assert not list(differences(trial, nodes))


@pytest.mark.parametrize(
    "overrides",
    [
        {"cam.source": "oc"},
        {"pseudo.source": "crf", "seg.crf": "none"},
        {"data.kind": "coco", "data.digest": "1" * 64},
        {"data.kind": "voc", "oc.init": "sha256:" + "0" * 64, "cam.scales": [0.5, 1]},
        {"*.optimizer": "adamw", "*.lr": 1e-5, "cgnet.lambda_slope": 3},
    ],
)
def test_whatever_the_knobs_the_record_tells_every_stage(
    trial: Run, overrides: dict[str, object]
) -> None:
    nodes = plan(override(Pipeline(), overrides))
    record = with_params(trial, nodes)
    assert {field: node.fingerprint for field, node in rebuild(record).items()} == {
        field: node.fingerprint for field, node in nodes.items()
    }


def with_params(run: Run, nodes: dict[str, Node]) -> Run:
    """The record as the tracking writes it."""
    from mlflow.entities import Param, RunData

    from sweeps.tracking.configurations import all_params, knob_texts

    fingerprints = {field: node.fingerprint for field, node in nodes.items()}
    stages = {node.fingerprint: knob_texts(node) for node in nodes.values()}
    params = [Param(*item) for item in all_params({}, fingerprints, stages).items()]
    return Run(run.info, RunData(list(run.data._metric_objs), params, []))


def test_a_stage_that_is_another_to_this_code_is_told_with_what_differs(
    trial: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(rebuild(trial)["cgnet"].stage), "version", 99)
    del trial.data.params["oc.lr"]
    found = dict(line.split(": ", 1) for line in differences(trial, rebuild(trial)))
    assert "data" not in found
    assert found["oc"].endswith("the knob lr is new here")
    assert "it is made from" in found["cgnet"]
    trial.data.params["seg.nothing"] = "1"
    with pytest.raises(ValueError, match=r"this code has no knob seg\.nothing"):
        rebuild(trial)


def test_a_raised_version_is_told(trial: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(rebuild(trial)["seg"].stage), "version", 99)
    (line,) = differences(trial, rebuild(trial))
    assert line.endswith("its knobs are the same, so the version of its code was not 99")


def test_metrics_agree_within_the_tolerance_and_none_may_be_missing(trial: Run) -> None:
    metrics = dict(trial.data.metrics)
    assert all(each.agrees for each in compare(trial, metrics, tolerance=0.0))
    metrics["seg/miou"] += 0.01
    del metrics["cam/miou"]
    wrong = [each.name for each in compare(trial, metrics, tolerance=0.0) if not each.agrees]
    assert wrong == ["cam/miou", "seg/miou"]
    assert [each.name for each in compare(trial, metrics, tolerance=0.02) if not each.agrees] == [
        "cam/miou"
    ]


def test_a_trial_is_made_again_and_comes_out_bit_for_bit(
    uri: str, trial: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", trial.info.run_id, "--tracking", uri, "--store", str(tmp_path)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "this code gives every stage the recorded fingerprint" in out
    nodes = rebuild(trial)
    assert out.count("made already") == len(nodes) - len(
        {node.fingerprint for node in nodes.values()}
    )
    (line,) = re.findall(r"seg/miou .*", out)
    assert line.split()[1] == line.split()[2] == repr(trial.data.metrics["seg/miou"])
    assert out.endswith(f"{len(trial.data.metrics)} of {len(trial.data.metrics)} metrics agree\n")
    MlflowClient(uri).log_metric(trial.info.run_id, "cam/miou", 0.123)
    assert main([*command[:1], f"small/{trial.info.run_name}", *command[2:]]) == 1
    out = capsys.readouterr().out
    assert out.count("made already") == len(nodes)
    assert re.search(r"cam/miou +0\.123 .* DIFFERS", out)


def test_each_stage_gets_the_recorded_threads_and_parts_of_a_batch(
    trial: Run, tmp_path: Path
) -> None:
    nodes = rebuild(trial)
    assert json.loads(trial.data.tags["occse.threads"]) == dict.fromkeys(nodes, 1)
    assert "occse.accumulated" not in trial.data.tags, "a tag without a value is not written"
    trial.data.tags.update(
        {"occse.threads": '{"data": 1, "pretrain": 2}', "occse.accumulated": '{"pretrain": 2}'}
    )
    store, first = Store(tmp_path), {field: nodes[field] for field in ("data", "pretrain")}
    try:
        run_again(trial, first, store, say=print, machine=Machine())
    finally:
        torch.set_num_threads(1)
    data, pretrain = (store.manifest(node) for node in first.values())
    assert (data.machine["threads"], data.machine.get("accumulate")) == (1, None)
    assert (pretrain.machine["threads"], pretrain.machine["accumulate"]) == (2, 2)


def test_a_run_that_is_not_there_is_told(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, told in {
        "0" * 32: f"no run {'0' * 32!r}",
        "large/trial": "no experiment 'large' at",
        "small/trial": "0 trials of 'small' are called 'trial'",
    }.items():
        assert main(["reproduce", name, "--tracking", uri]) == 2
        assert told in capsys.readouterr().err

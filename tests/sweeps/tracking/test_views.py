"""Names, params and saved views by which MLflow's pages show a sweep."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps.spec.trials import load_sweep
from sweeps.tracking import views
from sweeps.tracking.configurations import Variation, all_params, by_fingerprint
from sweeps.tracking.names import TrialNames
from sweeps.tracking.views import TAG, address, write_views

QUICKSTART = Path(__file__).parents[3] / "sweeps" / "specs" / "quickstart.yaml"
KNOBS = ["cam.source", "cgnet.erasing", "cgnet.lambda_start"]
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def state_of(client: MlflowClient, experiment: str, key: str) -> dict[str, Any]:
    envelope = json.loads(client.get_experiment(experiment).tags[f"{TAG}{key}"])
    assert envelope.keys() == {"name", "createdAt", "updatedAt", "state"}
    kind, _, packed = envelope["state"].partition(";")
    assert kind == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_names_of_trials_differ_at_the_front() -> None:
    spec, trials = load_sweep(QUICKSTART)
    names = TrialNames(spec, trials)
    assert [names.of(trial) for trial in trials[::2]] == [
        "OC · s0",
        "class-agnostic λ=1 · s0",
        "class-agnostic λ=10 · s0",
        "CSE λ=1 · s0",
        "CSE λ=10 · s0",
    ]
    named = spec.model_copy(update={"labels": {"cgnet.erasing=cse": "ours"}})
    assert TrialNames(named, trials).of(trials[-1]) == "ours λ=10 · s1"


def test_params_are_what_varies_and_all_knobs_follow_from_fingerprints() -> None:
    spec, trials = load_sweep(QUICKSTART)
    variation = Variation(spec, trials)
    assert variation.swept() == KNOBS
    assert variation.params(trials[0]) == {"cam.source": "oc"}
    assert variation.params(trials[-1])["cgnet.lambda_start"] == "10.0"
    assert variation.constants()["data"]["kind"] == "shapes"
    fingerprints = {field: node.fingerprint for field, node in trials[-1].nodes.items()}
    found = all_params(variation.params(trials[-1]), fingerprints, by_fingerprint(trials))
    assert found["cgnet.seed"] == "1"
    planned = {field: len(node.stage.config()) for field, node in trials[-1].nodes.items()}
    assert len(found) == sum(planned.values())


def test_views_have_scores_groups_and_charts_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("quickstart", (tmp_path / "files").as_uri())
    _, trials = load_sweep(QUICKSTART)
    variants, own = write_views(client, experiment, trials, KNOBS, parent="abc", uri=uri)
    grouped = state_of(client, experiment, variants.key)
    assert grouped["selectedColumns"][:4] == [
        f"metrics.`{stage}/miou`" for stage in ("cam", "crf", "pseudo", "seg")
    ]
    assert grouped["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "occse.label"}]
    assert grouped["columnOrder"][:2] == ["attributes.`Run Name`", "metrics.`cam/miou`"]
    assert grouped["columnWidths"].keys() < set(grouped["columnOrder"])
    state = state_of(client, experiment, own.key)
    kinds = [card["type"] for card in state["compareRunCharts"]]
    assert kinds == ["PARALLEL", "SCATTER", *["BAR"] * 4]
    assert state["compareRunCharts"][0]["selectedParams"] == KNOBS
    assert state["runsVisibilityMap"] == {"abc": False}
    before = client.get_experiment(experiment).tags
    note = before["mlflow.note.content"]
    assert f"](#/experiments/{experiment}/runs?" in note
    assert note.count(variants.key) == 1
    write_views(client, experiment, trials, KNOBS, parent="abc", uri=uri)
    assert client.get_experiment(experiment).tags == before
    client.set_experiment_tag(experiment, "mlflow.note.content", "of a person")
    write_views(client, experiment, trials, KNOBS, parent="abc", uri=uri)
    assert client.get_experiment(experiment).tags["mlflow.note.content"] == "of a person"
    url = address("http://host", experiment, own)
    assert url.endswith("viewStateShareKey=occse-trials&compareRunsMode=CHART")
    monkeypatch.setattr(views, "version_of", lambda uri: (3, 14))
    assert write_views(client, experiment, trials, KNOBS, parent="abc", uri=uri) == []

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from probe_stages import CURVE, Hungry, Probe, make_trial
from served import free_port, server

from occse.stage import Machine
from sweeps.cluster.messages import CurvePoint, EventKind, News, StageEvent
from sweeps.driver.recorder import Recorder
from sweeps.plan.plan import make_plan
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store
from sweeps.tracking.live import LiveMetrics
from sweeps.tracking.query import find_trial
from sweeps.tracking.tags import Record, about_record, curve
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
BOUNDS = ("threshold_min", "threshold_max")
SPEC = Spec(name="probe", question="Does it track?", baseline={})


def trial_of(order: int) -> Trial:
    return make_trial(
        order, data=Probe(label="data"), cam=Probe(label=f"cam {order}", upstream=("data",))
    )


def record_of(store: Store, trial: Trial) -> Record:
    manifests = {field: store.execute(node) for field, node in trial.nodes.items()}
    return Record(trial=trial, manifests=manifests, reused=frozenset({"data"}))


def opened(uri: str, *trials: Trial) -> Tracking:
    tracking = Tracking(uri, spec=SPEC)
    tracking.open(trials)
    return tracking


def runs_of(uri: str, kind: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SPEC.name)
    return list(client.search_runs([experiment.experiment_id], f"tags.`occse.kind` = '{kind}'"))


def run_of(uri: str, trial: Trial) -> Run:
    (run,) = (
        run for run in runs_of(uri, "trial") if run.data.tags["occse.trial"] == trial.identity
    )
    return run


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database for the module, as making one takes seconds; each test has its own trials."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db"


def test_record_of_a_trial_is_what_the_schema_promises(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(1)
    record = record_of(store, trial)
    tracking = opened(uri, trial)
    tracking.log(record, store=store)
    tracking.close(failed=False)
    (parent,) = runs_of(uri, "sweep")
    run = run_of(uri, trial)
    assert parent.info.status == run.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "Does it track?"
    expected = {
        "mlflow.parentRunId": parent.info.run_id,
        "occse.trial": trial.identity,
        "occse.variant": "variant 1",
        "occse.order": "1",
        "occse.baseline": "false",
        "occse.seed": "0",
        "occse.current": "true",
        "occse.fingerprint.cam": trial.nodes["cam"].fingerprint,
        "occse.how": '{"data": "reused", "cam": "run"}',
        "occse.label": "variant 1",
        "occse.complete": trial.identity,
    }
    assert expected.items() <= run.data.tags.items()
    assert float(run.data.tags["occse.seconds.saved"]) == round(record.manifests["data"].seconds, 3)
    assert json.loads(run.data.tags["occse.gpus"]) == {"data": 0, "cam": 0}
    assert json.loads(run.data.tags["occse.seconds"]) == {
        name: round(manifest.seconds, 3) for name, manifest in record.manifests.items()
    }
    made = {
        name: each.git["sha"][:12] + "+" * bool(each.git["diff"])
        for name, each in record.manifests.items()
    }
    assert json.loads(run.data.tags["occse.code"]) == made
    assert not [key for key, value in run.data.tags.items() if not value]
    assert run.info.run_name == "variant 1 · s0"
    assert run.info.end_time == run.info.start_time, "what was in the store takes no time"
    # of one trial no knob varies; the platform finds all of them by the stages' fingerprints
    assert run.data.params == {}
    params = find_trial(uri, run.info.run_id).data.params
    assert params["cam.label"] == "cam 1"
    assert params["cam.upstream"] == '["data"]'
    assert params["cam.fails"] == "false"
    assert json.loads(parent.data.tags["occse.constant.cam"])["label"] == "cam 1"
    assert (parent.data.metrics["best/cam/miou"], parent.data.metrics["mean/cam/miou"]) == (
        0.5,
        0.5,
    )
    assert run.data.metrics == {
        "data/miou": 0.5,
        "cam/miou": 0.5,
        "data/loss": 1.0,
        "cam/loss": 1.0,
    }
    curve = MlflowClient(uri).get_metric_history(run.info.run_id, "cam/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]


def test_record_marks_a_training_that_was_short_of_gpu_memory(uri: str, tmp_path: Path) -> None:
    store, trial = (
        Store(tmp_path),
        make_trial(11, data=Probe(label="data"), oc=Hungry(label="hungry")),
    )
    manifests = {
        "data": store.execute(trial.nodes["data"]),
        "oc": store.execute(trial.nodes["oc"], machine=Machine(accumulate=2)),
    }
    opened(uri, trial).log(Record(trial=trial, manifests=manifests), store=store)
    tags = run_of(uri, trial).data.tags
    assert tags["occse.accumulated"] == '{"oc": 2}'
    assert json.loads(tags["occse.threads"]) == {"data": 1, "oc": 1}


@pytest.mark.parametrize(
    ("bounds", "used"),
    [
        ({"threshold_min": 0.1, "threshold_max": 0.4}, "cam.threshold on train"),
        (dict.fromkeys(BOUNDS, 0.2), ""),
    ],
)
def test_pixel_truth_is_used_by_a_threshold_that_was_picked_from_a_range(
    bounds: dict[str, float], used: str, tmp_path: Path
) -> None:
    record = record_of(Store(tmp_path), trial_of(1))
    cam = record.manifests["cam"]
    scored = cam.model_copy(update={"config": cam.config | bounds, "metrics": {"threshold": 0.2}})
    record = replace(record, manifests={"cam": scored})
    assert about_record(record, SPEC)["occse.pixel_truth"] == used


def test_record_of_a_second_sweep_makes_no_second_run_and_no_second_point(
    uri: str, tmp_path: Path
) -> None:
    store, trial = Store(tmp_path), trial_of(2)
    record = record_of(store, trial)
    before = (
        len(runs_of(uri, "trial")) if MlflowClient(uri).get_experiment_by_name(SPEC.name) else 0
    )
    # which is not complete
    opened(uri, trial).log(replace(record, failed={"seg": "no room on the disk"}), store=store)
    for _ in range(2):
        opened(uri, trial).log(record, store=store)
    assert len(runs_of(uri, "trial")) == before + 1
    assert len(runs_of(uri, "sweep")) == 1
    run = run_of(uri, trial)
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "cam/loss")) == 2
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "cam/miou")) == 1


def test_record_of_a_failed_trial_is_mended_in_place(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(3)
    record = record_of(store, trial)
    half = replace(
        record, manifests={"data": record.manifests["data"]}, failed={"cam": "x" * 10_000}
    )
    found = []
    for each in (half, record):
        opened(uri, trial).log(each, store=store)
        found.append(run_of(uri, trial))
    failed, mended = found
    assert failed.info.run_id == mended.info.run_id
    assert (failed.info.status, mended.info.status) == ("FAILED", "FINISHED")
    assert failed.data.tags["occse.failed"] == "cam"
    assert failed.data.tags["occse.error"].startswith("cam: xxx")
    assert "occse.complete" not in failed.data.tags
    assert not {"occse.failed", "occse.error"} & mended.data.tags.keys()


def test_run_of_a_renamed_trial_is_renamed_and_of_a_dropped_one_not_current(
    uri: str, tmp_path: Path
) -> None:
    store, kept, dropped = Store(tmp_path), trial_of(4), trial_of(5)
    tracking = opened(uri, kept, dropped)
    tracking.log(record_of(store, kept), store=store)
    tracking.log(record_of(store, dropped), store=store)
    renamed = replace(kept, variant="another name")
    opened(uri, renamed).log(record_of(store, renamed), store=store)
    tags = {run.data.tags["occse.trial"]: run.data.tags for run in runs_of(uri, "trial")}
    assert tags[kept.identity]["occse.variant"] == "another name"
    assert tags[kept.identity]["occse.current"] == "true"
    assert tags[dropped.identity]["occse.current"] == "false"
    opened(uri, renamed, dropped)
    tags = {run.data.tags["occse.trial"]: run.data.tags for run in runs_of(uri, "trial")}
    assert tags[dropped.identity]["occse.current"] == "true"


def test_run_is_seen_before_the_trial_ends_and_closed_when_the_sweep_stops(
    uri: str, tmp_path: Path
) -> None:
    store, done, waiting = Store(tmp_path), trial_of(6), trial_of(7)
    tracking = opened(uri, done, waiting)
    pending = run_of(uri, waiting)
    assert pending.info.status == "RUNNING"
    assert pending.data.tags["occse.fingerprint.cam"] == waiting.nodes["cam"].fingerprint
    tracking.log(record_of(store, done), store=store)
    tracking.close(failed=False)
    assert [run_of(uri, trial).info.status for trial in (done, waiting)] == ["FINISHED", "KILLED"]
    assert runs_of(uri, "sweep")[0].info.status == "KILLED"
    opened(uri, done, waiting)
    assert [run_of(uri, trial).info.status for trial in (done, waiting)] == ["FINISHED", "RUNNING"]
    opened(uri, done)
    assert run_of(uri, waiting).info.status == "KILLED", (
        "a sweep that died left it, and nobody asks for it any more"
    )


def test_run_of_a_trial_starts_and_ends_with_the_trial(uri: str, tmp_path: Path) -> None:
    store, trial, other = Store(tmp_path), trial_of(31), trial_of(32)
    tracking = opened(uri, trial, other)
    pending = run_of(uri, trial)
    time.sleep(0.05)
    before_ms = int(1000 * time.time())
    started_s = time.time()
    tracking.start(trial, at_s=started_s)
    tracking.start(trial, at_s=started_s + 1)  # behind a gate
    record = replace(record_of(store, trial), ended_s=time.time())
    time.sleep(0.05)
    tracking.log(record, store=store)
    tracking.close(failed=False)
    run = run_of(uri, trial)
    assert run.info.run_id == pending.info.run_id
    assert pending.info.start_time < before_ms
    assert run.info.start_time == int(1000 * started_s)
    assert run.info.end_time == int(1000 * record.ended_s)
    assert run.data.params == {"cam.label": "cam 31"}, "what varies between the two trials"
    assert run_of(uri, other).info.status == "KILLED"


def test_run_that_could_not_be_made_before_its_trial_started_has_that_start(
    uri: str, tmp_path: Path
) -> None:
    store, first, late = Store(tmp_path), trial_of(33), trial_of(34)
    tracking = opened(uri, first)
    started_s = time.time() - 60
    tracking.start(late, at_s=started_s)
    record = replace(record_of(store, late), ended_s=started_s + 50)
    tracking.log(record, store=store)
    info = run_of(uri, late).info
    assert (info.start_time, info.end_time - info.start_time) == (int(1000 * started_s), 50_000)


def test_points_that_came_live_are_not_written_again_at_the_end(uri: str, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), trial_of(8)
    record = record_of(store, trial)
    tracking = opened(uri, trial)
    for _ in range(2):  # a stage that went on from its checkpoint reports an epoch again, later
        for point in CURVE[:1]:
            tracking.append(trial, curve("cam", point, at=time.time_ns() // 1_000_000))
    assert run_of(uri, trial).data.metrics == {"cam/loss": 2.0}
    # the driver died and began again
    opened(uri, trial).append(trial, curve("cam", CURVE[0], at=1))
    tracking = opened(uri, trial)
    tracking.log(record, store=store)
    tracking.append(trial, curve("cam", {"step": 3, "loss": 0.0}, at=1))  # too late
    history = MlflowClient(uri).get_metric_history(run_of(uri, trial).info.run_id, "cam/loss")
    assert sorted((point.step, point.value) for point in history) == [(1, 2.0), (2, 1.0)]
    # the page that compares runs opens on the first
    assert next(iter(run_of(uri, trial).data.metrics)) == "cam/miou"


def test_what_the_scheduler_tells_reaches_every_trial_that_waits_for_the_stage(
    uri: str, tmp_path: Path
) -> None:
    store, trials = Store(tmp_path), [trial_of(9), trial_of(10)]
    record_of(store, trials[0])
    live = LiveMetrics(store)
    live.add(make_plan(trials, stored=lambda _: ()))
    shared, own = trials[0].nodes["data"].fingerprint, trials[0].nodes["cam"].fingerprint
    done = StageEvent(id=1, kind=EventKind.DONE, field="cam", fingerprint=own)
    live.update(News(pid=1, events=(done,), points=tuple(points_of(shared))))
    tracking = opened(uri, *trials)
    for trial, metrics in live.take():
        tracking.append(trial, metrics)
    assert run_of(uri, trials[0]).data.metrics == {"data/loss": 1.0, "cam/miou": 0.5}
    assert run_of(uri, trials[1]).data.metrics == {"data/loss": 1.0}
    live.update(News(pid=1, points=tuple(points_of("of another sweep"))))
    assert live.take() == []


def points_of(fingerprint: str) -> list[CurvePoint]:
    return [
        CurvePoint(id=number, fingerprint=fingerprint, values=values, at_ms=1)
        for number, values in enumerate(CURVE, start=2)
    ]


def test_a_server_that_does_not_answer_is_an_error_at_once() -> None:
    start = time.monotonic()
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError, match=f"MLflow at {uri}"):
        opened(uri)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("uri", ["ftp://nowhere", "runs/mlflow.db", "sqlite://", "sqlite:///"])
def test_tracking_uri_of_another_kind_is_an_error(uri: str) -> None:
    with pytest.raises(ValueError, match=f"MLflow at {uri}: expected a"):
        opened(uri)


def test_while_the_server_is_away_the_sweep_goes_on_and_what_is_missing_is_logged_later_once(
    tmp_path: Path,
) -> None:
    trials = [trial_of(order) for order in range(3)]
    store = Store(tmp_path / "store")
    for trial in trials:
        record_of(store, trial)
    plan = make_plan(trials, stored=lambda _: ())
    database = f"sqlite:///{tmp_path}/mlflow.db"
    lines: list[str] = []
    with server(database) as uri:
        tracking = opened(uri, *trials)
        recorder = Recorder(
            store=store, live=LiveMetrics(store), tracking=tracking, say=lines.append
        )
        recorder.expect(trials)
        recorder.add(plan)
        recorder.end(trials[0], {}, None)
        recorder.hear(News(pid=1))
    for trial in trials[1:]:
        recorder.end(trial, {}, None)
        recorder.hear(News(pid=1))
    summary = recorder.close()
    assert summary.unrecorded == 2
    assert not summary.well
    assert "run the same command again" in summary.describe()
    assert len([line for line in lines if "the sweep goes on" in line]) == 1
    left = sorted(run.info.status for run in runs_of(database, "trial"))
    assert left == ["FINISHED", "RUNNING", "RUNNING"], (
        "the server cannot be told that the sweep ended"
    )

    again = Recorder(
        store=store,
        live=LiveMetrics(store),
        tracking=opened(database, *trials),
        say=print,
    )
    again.expect(trials)
    again.add(make_plan(trials, stored=store.present))
    for trial in trials:
        again.end(trial, {}, None)
    assert again.close().well
    assert {run.info.status for run in runs_of(database, "trial")} == {"FINISHED"}
    assert len(runs_of(database, "trial")) == 3
    assert len(runs_of(database, "sweep")) == 1

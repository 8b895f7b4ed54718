"""Old results in the schema of sweeps: a CSV file, and outputs of the official code on a tree in
VOC layout.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from official_outputs import write_log, write_maps
from probe_stages import Probe, make_trial
from voc_tree import mask_of, write_voc

from occse.method.evaluation import Counts
from sweeps.__main__ import main
from sweeps.spec.model import Spec
from sweeps.tracking.writer import Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
CSV = "variant,seed,cam/miou,seg/miou,cgnet.lambda_start,split,source\n"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database for the whole module, as making one takes seconds; each test has its own
    experiment.
    """
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db"


def runs_of(uri: str, experiment: str) -> list[Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return sorted(
        client.search_runs([found.experiment_id]), key=lambda run: run.data.tags["mlflow.runName"]
    )


def run_import(uri: str, experiment: str, *words: object) -> int:
    return main(["import", experiment, *map(str, words), "--tracking", uri])


def miou_of(maps: Path, threshold: float) -> float:
    """The official evaluation of the image a_2, pixel by pixel, in percent."""
    saved, gt = np.load(maps, allow_pickle=True).item(), mask_of("a_2")
    scores = np.zeros((21, *gt.shape), np.float32)
    scores[0] = threshold
    for index, values in saved.items():
        scores[index + 1] = values
    predicted, valid = scores.argmax(0), gt < 255
    ious = []
    for label in range(21):
        hit = ((predicted == label) & (gt == label) & valid).sum()
        ious.append(
            hit
            / (((predicted == label) & valid).sum() + ((gt == label) & valid).sum() - hit + 1e-10)
        )
    return float(100 * np.mean(ious))


def best_of(maps: Path) -> tuple[float, float]:
    return max(
        ((miou_of(maps, i / 100 + 0.1), i / 100 + 0.1) for i in range(30)),
        key=lambda found: found[0],
    )


def test_log_becomes_a_run_with_the_best_epoch_and_the_settings_that_are_knobs(
    uri: str, tmp_path: Path
) -> None:
    folder = write_log(
        tmp_path / "cse_l03", [(40.123456, 0.30000000000000004), (39.5, 0.2)], seed="7"
    )
    assert run_import(uri, "log", folder) == 0
    (run,) = runs_of(uri, "log")
    assert run.info.status == "FINISHED"
    assert (run.data.metrics["cam/miou"], run.data.metrics["cam/threshold"]) == (0.40123, 0.3)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "cgnet/cam_miou")
    assert [(point.step, round(point.value, 7)) for point in history] == [(1, 0.40123), (2, 0.395)]
    expected = {
        "cgnet.lambda_start": "0.3",
        "cgnet.lambda_slope": "0.05",
        "cgnet.weight_decay": "0.0005",
        "cgnet.momentum": "0.0005",
        "cgnet.resize_min": "256",
        "cgnet.resize_max": "448",
        "cgnet.erasing": "cse",
        "cgnet.init": "resnet_38d.params",
        "oc.init": "od_cam.pth",
        "cam.threshold_max": "0.39",
    }
    assert expected.items() <= run.data.params.items()
    tags = run.data.tags
    assert (tags["occse.variant"], tags["occse.seed"], tags["occse.baseline"]) == (
        "cse_l03",
        "7",
        "false",
    )
    assert "alphas" in json.loads(tags["occse.imported.others"])
    assert tags["occse.pixel_truth"] == "cam.threshold on train, cam.epoch on train"
    assert str(folder / "log.txt") in tags["occse.imported"]
    assert tags["occse.fingerprint.cam"] == "imported:" + tags["occse.trial"]


def test_imported_run_is_not_made_again(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_import(uri, "reproduce", write_log(tmp_path / "cse", [(40.0, 0.2)]))
    (run,) = runs_of(uri, "reproduce")
    assert main(["reproduce", run.info.run_id, "--tracking", uri, "--store", str(tmp_path)]) == 2
    assert "was imported from" in capsys.readouterr().err


def test_settings_of_another_model_are_kept_by_their_own_names(uri: str, tmp_path: Path) -> None:
    folder = write_log(tmp_path / "mine", [(40.0, 0.2)], model="model_mine", name="mine")
    assert run_import(uri, "model", folder, "--variant", "ours", "--baseline") == 0
    (run,) = runs_of(uri, "model")
    assert run.data.params == {}
    assert json.loads(run.data.tags["occse.imported.others"])["cc_init"] == "0.3"
    assert json.loads(run.data.tags["occse.protocol"])["cam"]["init"] == "unknown"
    assert (run.data.tags["occse.variant"], run.data.tags["occse.baseline"]) == ("ours", "true")
    assert "ended after 1 of 2 epochs" in run.data.tags["occse.imported.notes"]
    assert "its scores are those of the log" in run.data.tags["occse.imported.notes"]


def test_maps_are_scored_as_the_official_code_scores_them(uri: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2012")
    folder = tmp_path / "cse_l03"
    write_maps(folder, "a_2", [3, 7])
    miou, threshold = best_of(folder / "dict" / "a_2.npy")
    write_log(folder, [(90.0, 0.2), (miou, threshold)])
    assert run_import(uri, "maps", folder, "--data-root", root) == 0
    (run,) = runs_of(uri, "maps")
    assert run.data.metrics["cam/miou"] == pytest.approx(miou / 100, abs=1e-9)
    assert run.data.metrics["cam/threshold"] == round(threshold, 2)
    assert "the CAMs in dict are those of epoch 2" in run.data.tags["occse.imported.notes"]
    # the log's best epoch is another
    assert run.data.tags["occse.pixel_truth"] == "cam.threshold on train"
    path = MlflowClient(uri).download_artifacts(run.info.run_id, "counts/cam.npz", str(tmp_path))
    assert Counts.load(Path(path)).names == ("a_2",)


def test_import_of_the_same_changes_nothing_and_other_content_is_refused(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_log(tmp_path / "cse_l03", [(40.0, 0.2)])
    assert run_import(uri, "again", folder) == 0
    before = [run.to_dictionary() for run in runs_of(uri, "again")]
    moved = folder.rename(tmp_path / "moved")
    assert run_import(uri, "again", moved) == 0
    assert "has it already" in capsys.readouterr().out
    write_log(moved, [(41.0, 0.2)])
    assert run_import(uri, "again", moved) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert [run.to_dictionary() for run in runs_of(uri, "again")] == before


def test_import_that_was_cut_off_is_completed(uri: str, tmp_path: Path) -> None:
    folder = write_log(tmp_path / "cse_l03", [(40.0, 0.2)])
    run_import(uri, "cut", folder)
    (run,) = runs_of(uri, "cut")
    MlflowClient(uri).delete_tag(run.info.run_id, "occse.complete")
    run_import(uri, "cut", folder)
    (again,) = runs_of(uri, "cut")
    assert again.data.to_dictionary() == run.data.to_dictionary()
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "cam/miou")) == 1


def test_csv_file_becomes_a_run_per_row(uri: str, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text(CSV + "cae,0,50.1,60,1,val,table 3\ncae,1,51,,10,,\nplain,0,48,59,,,\n")
    assert run_import(uri, "csv", path, "--unit", "percent") == 0
    first, second, plain = runs_of(uri, "csv")
    assert first.data.metrics == {"cam/miou": 0.501, "seg/miou": 0.6}
    assert second.data.metrics == {"cam/miou": 0.51}
    assert (first.data.params, plain.data.params) == ({"cgnet.lambda_start": "1.0"}, {})
    assert [run.data.tags["occse.order"] for run in (first, second, plain)] == ["0", "0", "1"]
    protocol = json.loads(first.data.tags["occse.protocol"])
    assert protocol.keys() == {"cam", "seg"}
    assert (protocol["cam"]["split"], protocol["cam"]["crf"], protocol["cam"]["pixel_truth"]) == (
        "val",
        "unknown",
        "unknown",
    )
    assert json.loads(second.data.tags["occse.protocol"])["cam"]["split"] == "unknown"


def test_import_of_many_rows_leaves_what_mlflows_interface_leaves(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.csv"
    path.write_text(CSV + "cae,0,50.1,60,1,val,table 3\ncae,1,51,,10,,\nplain,0,48,59,,,\n")
    log = write_log(tmp_path / "cse_l03", [(40.0, 0.2), (41.0, 0.3)])
    sources = (path, log, "--unit", "percent")
    assert run_import(uri, "together", *sources) == 0
    together = runs_of(uri, "together")
    monkeypatch.setattr("sweeps.imports.runs.bulk_writer", lambda client: None)
    assert run_import(uri, "one by one", *sources) == 0
    one_by_one = runs_of(uri, "one by one")
    assert [run.data.to_dictionary() for run in together] == [
        run.data.to_dictionary() for run in one_by_one
    ]
    infos = [
        [
            (run.info.status, run.info.start_time, run.info.end_time, run.info.user_id)
            for run in runs
        ]
        for runs in (together, one_by_one)
    ]
    assert infos[0] == infos[1]
    (first, second) = (runs[1].info.run_id for runs in (together, one_by_one))
    client = MlflowClient(uri)
    points = [client.get_metric_history(run_id, "cgnet/cam_miou") for run_id in (first, second)]
    assert [point.value for point in points[0]] == [point.value for point in points[1]]
    assert "" not in {value for run in together for value in run.data.tags.values()}


def test_column_of_a_stage_goes_before_that_of_the_row(uri: str, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text(
        "variant,seed,cam/miou,seg/miou,split,cam/split,cam/threshold_rule\n"
        "a,0,.5,.6,val,train,best on train\n"
    )
    assert run_import(uri, "columns", path, "--unit", "fraction") == 0
    (run,) = runs_of(uri, "columns")
    protocol = json.loads(run.data.tags["occse.protocol"])
    assert (protocol["cam"]["split"], protocol["seg"]["split"]) == ("train", "val")
    assert run.data.tags["occse.pixel_truth"] == "cam.threshold on train"


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("", "percent", "has no column 'variant'"),
        ("variant,seed,cam/miou\na,0,50\n", None, "line 2: cam/miou: say with --unit"),
        ("variant,seed,cam/miou\na,0,50\n", "fraction", "50 is not a score in the unit fraction"),
        ("variant,seed,cam/miou\na,0,0.5\n", "percent", "no score is above 1 percent"),
        ("variant,seed,cam/miou\na,0,nan\n", "percent", "nan is not a score"),
        ("variant,seed,cam/miou\na,0,x\n", "percent", "'x' is not a number"),
        ("variant,seed,cam/miou\na,-1,50\n", "percent", "seed: '-1' is not a number from 0 on"),
        ("variant,seed,cam/miou\na,0,50,1\n", "percent", "line 2: more cells than the 3 columns"),
        ("variant,seed,cam/miou\na,0,\n", "percent", "line 2: no metric"),
        ("variant,seed,cam/miou\n,0,50\n", "percent", "line 2: no variant"),
        (
            "variant,seed,cam/miou,cam/miou\na,0,50,50\n",
            "percent",
            "has the column 'cam/miou' twice",
        ),
        (
            "variant,seed,lambda\na,0,50\n",
            "percent",
            "has a column 'lambda'; allowed are variant, seed",
        ),
        (
            "variant,seed,cam/miou,cgnet.erasing\na,0,50,both\n",
            "percent",
            "line 2: .*cgnet.erasing.*class_agnostic",
        ),
        (
            "variant,seed,cam/miou,cgnet.erasing\na,0,50,[\n",
            "percent",
            r"line 2: cgnet.erasing: '\[' is not a value",
        ),
        (
            f"variant,seed,cam/miou,cam.scales\na,0,50,{'[' * 101}\n",
            "percent",
            "has 101 characters; expected at most",
        ),
        ("variant,seed,cam/miou\na,0,50\na,0,51\n", "percent", "'a, seed 0' occurs twice"),
    ],
)
def test_csv_file_with_a_fault_is_refused_and_leaves_nothing(
    uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    unit: str | None,
    message: str,
) -> None:
    path = tmp_path / "old.csv"
    path.write_text(text)
    assert run_import(uri, "faulty", path, *(["--unit", unit] if unit else [])) == 2
    assert re.search(message, capsys.readouterr().err)
    assert MlflowClient(uri).get_experiment_by_name("faulty") is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["nothing"], "has no block SETUP"),
        (["--- SETUP ---"], "has no block SETUP"),
        (["----- SETUP -----", "seed : 1", "-----"], "no line `Epoch N mIoU"),
        (
            ["----- SETUP -----", "seed : 1", "-----", "Epoch 0 mIoU=140.0% at threshold 0.2"],
            "out of range",
        ),
        (
            [
                "----- SETUP -----",
                "seed : 1",
                "-----",
                *["Epoch 0 mIoU=40.0% at threshold 0.2"] * 2,
            ],
            "another order",
        ),
        (
            ["----- SETUP -----", "name : a", "-----", "Epoch 0 mIoU=40.0% at threshold 0.2"],
            "names no seed",
        ),
    ],
)
def test_log_of_another_program_is_refused(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: Sequence[str], message: str
) -> None:
    (tmp_path / "log.txt").write_text("\n".join(lines))
    assert run_import(uri, "faulty", tmp_path) == 2
    assert message in capsys.readouterr().err


def test_maps_that_are_missing_or_of_another_size_are_refused(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, folder = write_voc(tmp_path / "VOC2012"), write_log(tmp_path / "cse", [(40.0, 0.2)])
    words = ("faulty", folder, "--data-root", root)
    assert run_import(uri, *words) == 2
    assert "leave --data-root out" in capsys.readouterr().err
    write_maps(folder, "b_1", [0])
    assert run_import(uri, *words) == 2
    assert "names a_2, but" in capsys.readouterr().err
    maps = {0: np.zeros((4, 4), np.float32)}
    np.save(folder / "dict" / "a_2.npy", maps)  # type: ignore[arg-type]
    assert run_import(uri, *words) == 2
    assert "a_2: the ground truth has the size" in capsys.readouterr().err


def test_sweep_of_the_same_experiment_leaves_imported_runs_alone(uri: str, tmp_path: Path) -> None:
    run_import(uri, "shared", write_log(tmp_path / "cse", [(40.0, 0.2)]))
    before = runs_of(uri, "shared")[0].data.to_dictionary()
    tracking = Tracking(uri, spec=Spec(name="shared", question="Does it stay?", baseline={}))
    tracking.open([make_trial(1, data=Probe(label="data"))])
    tracking.close(failed=False)
    assert before in [run.data.to_dictionary() for run in runs_of(uri, "shared")]

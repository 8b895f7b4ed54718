"""Cells that are stale, and what stands behind each, from trials as a sweep records them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.__main__ import main

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
SOUND = {
    "occse.code": json.dumps({"cam": "aaaa", "seg": "aaaa"}),
    "occse.packages": json.dumps({"torch": "2.14"}),
}


@pytest.fixture
def write(record: Record, tracking: str, tmp_path: Path) -> Callable[..., str]:
    """Record a trial with two scored stages and their counts, but for those `without`."""

    def write(
        experiment: str,
        variant: str,
        *,
        without: str = "",
        tags: dict[str, str] | None = None,
        **more: object,
    ) -> str:
        scores = {"cam/miou": 0.5, "seg/miou": 0.5}
        metrics = {"metrics": scores, "fields": ("cam", "seg")} | more
        run = record(experiment, variant, tags=SOUND | (tags or {}), **metrics)
        for stage in {"cam", "seg"} - {without}:
            (tmp_path / f"{stage}.npz").write_bytes(b"counts")
            MlflowClient(tracking).log_artifact(run, str(tmp_path / f"{stage}.npz"), "counts")
        return run

    return write


def test_a_table_of_one_commit_with_all_its_counts_passes(
    write: Callable[..., str], tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("sound", "oc")
    write("sound", "cse", order=1)
    assert main(["table", "sound", "--tracking", tracking, "--check"]) == 0
    assert capsys.readouterr().out.startswith("Every number can be made again")


def test_a_loss_needs_no_counts(
    write: Callable[..., str], tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("loss", "oc", without="cam", metrics={"cam/loss": 0.5})
    assert main(["table", "loss", "--tracking", tracking, "--check", "--metric", "cam/loss"]) == 0


def test_every_reason_is_told_with_its_cells(
    write: Callable[..., str], tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order, name in enumerate(("a", "b", "c", "d")):
        write("stale", name, order=order)
    write(
        "stale", "dirty", order=4, tags={"occse.code": json.dumps({"cam": "aaaa", "seg": "aaaa+"})}
    )
    write(
        "stale", "older", order=5, tags={"occse.code": json.dumps({"cam": "bbbb", "seg": "aaaa"})}
    )
    write(
        "stale",
        "packages",
        order=6,
        tags={"occse.packages": json.dumps({"torch": "2.11", "numpy": "2"})},
    )
    write("stale", "counts", order=7, without="seg")
    write("stale", "silent", order=8, tags={"occse.code": "{}", "occse.fingerprint.cam": ""})
    write(
        "stale",
        "failed",
        order=9,
        status="FAILED",
        metrics={"cam/miou": 0.5},
        tags={"occse.failed": "seg"},
    )
    other_code = {"cam": "made by other code: cam.py changed"}
    write("stale", "code", order=10, tags={"occse.other_code": json.dumps(other_code)})
    write("stale", "gone", order=11, tags={"occse.current": "false"})
    assert main(["table", "stale", "--tracking", tracking, "--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "left out: 1 trial that the sweep's file no longer asks for",
        "dirty · Segmentation mIoU: made by code with uncommitted changes (aaaa+)",
        "older · CAM mIoU; older · Segmentation mIoU: made by the code of commit bbbb, most others "
        "by aaaa",
        "packages · CAM mIoU; packages · Segmentation mIoU: made with numpy 2, most others "
        "with unknown",
        "packages · CAM mIoU; packages · Segmentation mIoU: made with torch 2.11, most "
        "others with 2.14",
        "counts · Segmentation mIoU: no counts per image in MLflow: no interval, no other "
        "threshold",
        "silent · CAM mIoU: no fingerprint of the artifact",
        "silent · CAM mIoU; silent · Segmentation mIoU: the commit of the code is not known",
        "failed · Segmentation mIoU: 1 of 1 seeds failed",
        "code · CAM mIoU; code · Segmentation mIoU: cam was made by other code: cam.py changed; "
        "`run --changed-code rerun` makes it again",
    ]


def test_what_concerns_all_cells_is_said_once(
    write: Callable[..., str], tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order, name in enumerate(("oc", "cse")):
        write("all dirty", name, order=order, tags={"occse.code": json.dumps({"cam": "aaaa+"})})
    assert main(["table", "all dirty", "--tracking", tracking, "--check"]) == 1
    assert capsys.readouterr().out == "all 4 cells: made by code with uncommitted changes (aaaa+)\n"


def test_provenance_names_run_seed_commit_and_artifact_of_every_number(
    write: Callable[..., str], tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write("origin", "oc", seed=seed) for seed in (0, 1)]
    assert (
        main(["table", "origin", "--tracking", tracking, "--provenance", "--metric", "seg/miou"])
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [
        "oc · Segmentation mIoU = 50.0 ± 0.0",
        *(
            f"  seed {seed}  run {run}  code aaaa  artifact seg of oc {seed}"
            for seed, run in enumerate(runs)
        ),
    ]

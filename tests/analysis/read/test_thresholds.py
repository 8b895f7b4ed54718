"""Scores of CAMs at thresholds that were not chosen on the images that they are scored on, from
real counts.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis.__main__ import main
from analysis.read.mlflow import load
from analysis.read.thresholds import DRAW, with_thresholds
from occse.method.evaluation import CountsBuilder

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
IMAGES, SIDE, THRESHOLDS = 12, 8, (0.1, 0.2, 0.3, 0.4, 0.5)
NAMES = [f"image {place}" for place in range(IMAGES)]


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray]:
    """CAMs of one class and masks, such that no threshold suits all images."""
    random = np.random.default_rng(3)
    truth = random.random((IMAGES, SIDE, SIDE)) < 0.4
    level = np.linspace(0.1, 0.6, IMAGES)[:, None, None]
    cams = (level * (truth + random.random(truth.shape)) * 0.8).astype(np.float32)
    return cams, truth.astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def experiment(
    record: Record,
    tracking: str,
    maps: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    builder = CountsBuilder(["fish"], thresholds=THRESHOLDS)
    for name, cam, truth in zip(NAMES, *maps, strict=True):
        builder.add_cam(name, cam[None], classes=np.array([0]), gt=truth)
    path: Path = tmp_path_factory.mktemp("counts") / "cam.npz"
    builder.build().save(path)
    run = record(
        "cut", "oc", metrics={"cam/miou": 0.5}, tags={"occse.pixel_truth": "cam.threshold on train"}
    )
    MlflowClient(tracking).log_artifact(run, str(path), "counts")
    record("cut", "late", order=1, status="RUNNING")


def score(maps: tuple[np.ndarray, np.ndarray], threshold: float, among: list[int]) -> float:
    """The mIoU by its definition, from the maps."""
    found, truth = maps[0][among] > np.float32(threshold), maps[1][among].astype(bool)
    return float(
        np.mean([(a & b).sum() / (a | b).sum() for a, b in ((found, truth), (~found, ~truth))])
    )


def test_a_fixed_threshold_scores_as_the_maps_do(
    tracking: str, maps: tuple[np.ndarray, np.ndarray]
) -> None:
    trials = with_thresholds(
        load("cut", tracking=tracking), ["cam/miou", "cam/miou@0.3"], tracking=tracking
    )
    assert trials["cam/miou@0.3"].tolist() == [
        pytest.approx(score(maps, 0.3, list(range(IMAGES)))),
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_held_out_images_choose_the_threshold_and_the_others_score(
    tracking: str, maps: tuple[np.ndarray, np.ndarray]
) -> None:
    order = np.random.default_rng(DRAW).permutation(IMAGES).tolist()
    chosen, others = order[:3], order[3:]
    best = max(THRESHOLDS, key=lambda threshold: score(maps, threshold, chosen))
    assert best != max(THRESHOLDS, key=lambda threshold: score(maps, threshold, others)), (
        "else nothing is tested"
    )
    metrics = ["cam/miou@held-out-3", "cam/miou@best-without-3"]
    trials = with_thresholds(load("cut", tracking=tracking), metrics, tracking=tracking)
    assert trials["cam/miou@held-out-3"][0] == pytest.approx(score(maps, best, others))
    highest = max(score(maps, threshold, others) for threshold in THRESHOLDS)
    assert trials["cam/miou@best-without-3"][0] == pytest.approx(highest)
    assert highest > trials["cam/miou@held-out-3"][0]


def test_the_ledger_tells_the_three_ways_apart(
    tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ("cam/miou", "cam/miou@0.3", "cam/miou@held-out-3")
    assert main(["table", "cut", "--tracking", tracking, "--metric", *metrics]) == 0
    text = capsys.readouterr().out
    assert (
        text.splitlines()[0].replace(" ", "")
        == "|variant|n|CAMmIoU†|CAMmIoU@0.3|CAMmIoU@held-out-3†|"
    )
    assert "ground truth of train: CAM mIoU is more" in text
    assert "ground truth of 3 images that are not scored; @best-without-3 has" in text


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("cam/miou@0.7", "no counts at the threshold 0.7, but from 0.1 to 0.5"),
        ("cam/miou@held-out-12", "12 of 12 images held out leave none to score"),
        ("cam/miou@best", "expected such as cam/miou@0.3, cam/miou@held-out-50 or"),
    ],
)
def test_what_the_counts_cannot_give_is_refused(
    metric: str, message: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "cut", "--tracking", tracking, "--metric", metric]) == 2
    assert message in capsys.readouterr().err

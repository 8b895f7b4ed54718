"""Comparisons from counts that lie in MLflow as a sweep leaves them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_counts import IMAGES, PIXELS, write_counts
from markdown_text import unpadded
from mlflow import MlflowClient

from analysis.__main__ import main
from analysis.read.counts import PerImage, iou, miou, read_counts
from analysis.read.mlflow import load
from analysis.studies.compare import compare, compare_classes

Record = Callable[..., str]
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def found_by(skill: float, chance: int) -> np.ndarray:
    share = np.random.default_rng(1).beta(4, 3, size=IMAGES) + np.random.default_rng(
        [2, chance]
    ).normal(0, 0.02, IMAGES)
    return np.rint(PIXELS * np.clip(share + skill, 0, 1)).astype(np.int64)


@pytest.fixture(scope="module")
def experiment(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A baseline, a variant that is better and one that is not, three seeds each."""
    client, folder = MlflowClient(tracking), tmp_path_factory.mktemp("counts")
    for order, (variant, skill) in enumerate({"plain": 0.0, "better": 0.08, "same": 0.0}.items()):
        for seed in range(3):
            baseline = {"occse.baseline": str(variant == "plain").lower()}
            run = record(
                "compared",
                variant,
                order=order,
                seed=seed,
                tags=baseline,
                metrics={"cam/threshold": 0.2, "cam/miou": 0.5},
            )
            file = folder / str(order) / str(seed) / "cam.npz"
            write_counts(file, found_by(skill, 10 * order + seed), thresholds=(0.1, 0.2))
            client.log_artifact(run, str(file), "counts")
    return "compared"


def test_a_better_variant_is_told_from_one_that_is_the_same(experiment: str, tracking: str) -> None:
    better, same = compare(
        load(experiment, tracking=tracking), "cam", tracking=tracking, resamples=500
    )
    assert (better.variant, better.verdict) == ("better", "better")
    assert (same.variant, same.verdict) == ("same", "within noise")
    assert better.difference.low > 0
    assert better.difference.seeds == 3
    assert better.p_holm >= (better.difference.p or 0)


def test_the_command_prints_points_and_what_the_interval_speaks_of(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", experiment, "--tracking", tracking]) == 0
    out = capsys.readouterr().out
    assert "| better | +" in unpadded(out)
    assert "within noise; a difference of 1.0 would need " in out
    assert f"{IMAGES} images." in out
    assert "The interval covers chance in images and seeds" in out


def test_variants_with_the_same_artifacts_are_compared_once_and_seeds_that_share_one_count_once(
    experiment: str, tracking: str
) -> None:
    trials = load(experiment, tracking=tracking)
    fields = trials["variant"].map({"plain": "a", "better": "b", "same": "b"}) + trials[
        "seed"
    ].astype(str)
    (only,) = compare(
        trials.assign(**{"fingerprint.cam": fields}), "cam", tracking=tracking, resamples=200
    )
    assert (only.variant, only.same, only.difference.seeds) == ("better", ("same",), 3)
    shared = trials.assign(**{"fingerprint.cam": fields.str[0]})
    (only,) = compare(shared, "cam", tracking=tracking, resamples=200)
    assert (only.difference.seeds, only.need) == (1, None), "one artifact each, whatever the seeds"
    like_baseline = trials.assign(
        **{"fingerprint.cam": fields.where(trials["variant"] == "better", "a")}
    )
    assert [
        each.variant for each in compare(like_baseline, "cam", tracking=tracking, resamples=200)
    ] == ["better"]


def test_imported_runs_without_counts_are_left_out(
    experiment: str, tracking: str, record: Record
) -> None:
    before = compare(load(experiment, tracking=tracking), "cam", tracking=tracking, resamples=50)
    tags, metrics = {"occse.imported": "old.csv"}, {"cam/miou": 0.5}
    run = record(experiment, "old", order=9, fields=("cam",), tags=tags, metrics=metrics)
    trials = load(experiment, tracking=tracking)
    assert (trials["variant"] == "old").any()
    assert compare(trials, "cam", tracking=tracking, resamples=50) == before
    MlflowClient(tracking).delete_run(run)


def test_a_baseline_without_cgnet_stands_beside_every_seed_of_cgnet(
    experiment: str, tracking: str
) -> None:
    trials = load(experiment, tracking=tracking)
    plain = trials["variant"] == "plain"
    by_stage = trials.assign(
        **{"seed.deeplab": trials["seed"] % 2, "seed.cgnet": (trials["seed"] // 2).where(~plain)}
    )
    crossed = by_stage[~(plain & (by_stage["seed"] == 2))]
    better, _ = compare(crossed, "cam", tracking=tracking, resamples=200)
    assert better.difference.seeds == 2, "for the maps, the segmentation's seed is none"
    crossed = crossed.rename(columns={"seed.deeplab": "seed.oc"})
    better, _ = compare(crossed, "cam", tracking=tracking, resamples=200)
    assert better.difference.seeds == 3, "two seeds of the first CGNet and one of the second"


def test_differences_by_class_are_those_of_the_ious(experiment: str, tracking: str) -> None:
    trials = load(experiment, tracking=tracking)
    found = compare_classes(trials, "cam", "better", tracking=tracking, resamples=500)
    (better, _) = compare(trials, "cam", tracking=tracking, resamples=500)
    assert list(found) == ["background", "fish"]
    assert (found["background"].value, found["background"].p) == (0, 1), "no pixel of it was scored"
    assert found["fish"].value == pytest.approx(2 * better.difference.value)
    assert found["fish"].images_sd == pytest.approx(2 * better.difference.images_sd)
    with pytest.raises(
        ValueError,
        match="expected a variant other than the baseline, got 'worse'; there are: plain; better",
    ):
        compare_classes(trials, "cam", "worse", tracking=tracking)


def test_multi_label_images_are_those_with_two_classes_in_the_mask() -> None:
    table = np.zeros((3, 3, 3), np.int64)
    table[:, 1] = [[5, 1, 0], [5, 1, 2], [0, 3, 0]]
    counts = PerImage(names=("one", "two", "none"), classes=("a", "b"), table=table)
    assert counts.multi.names == ("two",)


def test_a_subset_without_images_is_refused(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", experiment, "--subset", "multi", "--tracking", tracking]) == 2
    assert "no image shows two classes" in capsys.readouterr().err


def test_a_stage_without_scores_is_named(
    experiment: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", experiment, "--stage", "crf", "--tracking", tracking]) == 2
    assert "no trial has crf/miou" in capsys.readouterr().err


def test_counts_are_read_at_the_threshold_that_is_asked_for(tmp_path: Path) -> None:
    hits = found_by(0.0, 0)
    path = write_counts(tmp_path / "cam.npz", hits, thresholds=(0.1, 0.2))
    table = read_counts(path, threshold=0.2).table.sum(0)
    assert iou(table)[1] == pytest.approx(hits.sum() / (IMAGES * PIXELS))
    assert miou(table) == pytest.approx(iou(table).mean())
    with pytest.raises(ValueError, match="counts at 2 thresholds; say at which one"):
        read_counts(path)


@pytest.mark.parametrize("damage", ["cut", "label"])
def test_damaged_counts_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = write_counts(tmp_path / "cam.npz", found_by(0.0, 0))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        np.savez(path, **arrays | {"counts/pred": arrays["counts/pred"] + 7})
    with pytest.raises(ValueError, match=r"cam\.npz holds"):
        read_counts(path)

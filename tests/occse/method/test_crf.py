import subprocess
import sys
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from occse.method.crf import (
    PRESETS,
    PresetName,
    ScoresTask,
    bracket_fault,
    dense_crf,
    implied_threshold,
    label_scores,
    refine_labels,
    refine_many,
    with_background,
)

PARITY = np.load(Path(__file__).parents[2] / "parity" / "crf.npz")


def two_halves() -> tuple[np.ndarray, np.ndarray]:
    """A dark and a bright half; the scores know the edge only roughly."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[:, 16:] = 220
    scores = np.full((2, 24, 32), 0.5, np.float32)
    scores[0, :, :10] = 0.9
    scores[1, :, 22:] = 0.9
    return image, scores


@pytest.mark.parametrize(
    ("alpha", "threshold"),
    [(4, 0.276), (6, 0.222), (8, 0.188), (10, 0.165), (16, 0.123), (24, 0.094), (32, 0.077)],
)
def test_implied_thresholds_are_the_published_ones(alpha: float, threshold: float) -> None:
    assert round(implied_threshold(alpha), 3) == threshold


def test_implied_threshold_solves_its_equation() -> None:
    for alpha in (0.01, 0.5, 1, 7.3, 1000):
        threshold = implied_threshold(alpha)
        assert threshold == pytest.approx((1 - threshold) ** alpha, rel=1e-9)
    assert implied_threshold(2) == pytest.approx((3 - sqrt(5)) / 2)


@pytest.mark.parametrize(
    ("threshold", "trusted"), [(0.05, "background"), (0.1, ""), (0.27, ""), (0.28, "foreground")]
)
def test_two_alphas_should_bracket_the_best_threshold(threshold: float, trusted: str) -> None:
    fault = bracket_fault(threshold, low=4, high=24)
    assert bool(fault) == bool(trusted)
    assert trusted in fault
    assert (
        not fault
        or f"{threshold} is not between those of alpha 24 (threshold 0.094) and alpha 4" in fault
    )
    assert bracket_fault(threshold, low=24, high=4), "the wrong way round nothing is between"


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_an_alpha_without_threshold_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be positive"):
        implied_threshold(alpha)


def test_a_class_beats_the_background_above_the_implied_threshold() -> None:
    threshold = implied_threshold(10)
    cam = np.array([[[threshold - 1e-4, threshold + 1e-4]]], np.float32)
    assert with_background(cam, 10).argmax(axis=0).tolist() == [[0, 1]]


def test_background_is_the_power_of_what_the_best_class_leaves() -> None:
    cam = np.array([[[0.25, 0.0]], [[0.5, 0.0]]], np.float32)
    scores = with_background(cam, 2)
    assert scores.dtype == np.float32
    assert scores.tolist() == [[[0.25, 1.0]], [[0.25, 0.0]], [[0.5, 0.0]]]
    assert (
        with_background(np.zeros((0, 2, 3), np.float32), 4).tolist() == np.ones((1, 2, 3)).tolist()
    )


@pytest.mark.parametrize("alpha", [1, 6, 10, 24])
@pytest.mark.parametrize("image", ["a", "b"])
def test_parity_with_the_reference_crf(image: str, alpha: int) -> None:
    scores = with_background(PARITY[f"cams_{image}"], alpha)
    marginals = dense_crf(PARITY[f"image_{image}"], scores, preset=PRESETS["psa"])
    np.testing.assert_allclose(marginals, PARITY[f"crf_{image}_alpha{alpha}"], rtol=0, atol=1e-5)


def test_parity_with_the_reference_refinement_of_label_maps() -> None:
    refined = refine_labels(PARITY["image_a"], PARITY["irn_label_in"], num_labels=3)
    assert np.array_equal(refined, PARITY["irn_label_out"])
    assert not np.array_equal(refined, PARITY["irn_label_in"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_marginals_that_follow_the_edge(name: str) -> None:
    image, scores = two_halves()
    marginals = dense_crf(image, scores, preset=PRESETS[name])
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(marginals[:, :, :16].argmax(axis=0), np.zeros((24, 16)))
    assert np.array_equal(marginals[:, :, 16:].argmax(axis=0), np.ones((24, 16)))


def test_arrays_in_any_memory_order_give_the_same_marginals() -> None:
    image, scores = PARITY["image_b"], with_background(PARITY["cams_b"], 6)
    expected = dense_crf(image, scores, preset=PRESETS["psa"])
    strided = np.asfortranarray(np.repeat(image, 2, axis=1))[:, ::2]
    assert np.array_equal(
        dense_crf(strided, np.asfortranarray(scores), preset=PRESETS["psa"]), expected
    )


def test_one_label_and_one_pixel_are_possible() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    assert dense_crf(image, np.ones((1, 1, 1), np.float32), preset=PRESETS["psa"]).tolist() == [
        [[1.0]]
    ]
    labels = np.zeros((1, 1), np.uint8)
    assert refine_labels(image, labels, num_labels=1).tolist() == [[0]]


@pytest.mark.parametrize(
    ("image_shape", "scores_shape", "complaint"),
    [
        ((5, 4, 3), (2, 4, 5), r"scores: expected the shape \(L, 5, 4\), not \(2, 4, 5\)"),
        ((5, 4, 3), (0, 5, 4), r"scores: expected the shape \(L, 5, 4\), not \(0, 5, 4\)"),
        ((5, 4, 3), (5, 4), r"scores: expected the shape \(L, 5, 4\), not \(5, 4\)"),
        ((5, 4), (2, 5, 4), r"image: expected the shape \(H, W, 3\), not \(5, 4\)"),
        ((5, 4, 4), (2, 5, 4), r"image: expected the shape \(H, W, 3\)"),
        ((0, 4, 3), (2, 0, 4), r"image: expected the shape \(H, W, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    image_shape: tuple[int, ...], scores_shape: tuple[int, ...], complaint: str
) -> None:
    image, scores = np.zeros(image_shape, np.uint8), np.ones(scores_shape, np.float32)
    with pytest.raises(ValueError, match=complaint):
        dense_crf(image, scores, preset=PRESETS["psa"])


def test_scores_that_are_not_finite_and_labels_out_of_range_are_refused() -> None:
    image, scores = two_halves()
    scores[0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="scores: expected finite"):
        dense_crf(image, scores, preset=PRESETS["psa"])
    with pytest.raises(ValueError, match=r"labels: expected .* values below 2, not .* up to 255"):
        refine_labels(image, np.full((24, 32), 255, np.uint8), num_labels=2)


@pytest.mark.parametrize("preset", ["psa", "irn"])
def test_scores_become_labels_through_no_crf_a_crf_of_the_scores_or_one_of_their_labels(
    preset: PresetName,
) -> None:
    image, scores = two_halves()
    scores[0, :, 4:10] = 0.5
    # many pixels that hardly prefer a class against few that are sure of the other
    scores[1, :, 4:22] = 0.55

    def labels(crf: PresetName | Literal["none"], unary: Literal["scores", "labels"]) -> np.ndarray:
        name, found = label_scores(ScoresTask("a", image, scores, (6,), crf, unary))
        assert name == "a"
        assert found.dtype == np.uint8
        return found

    plain = np.where(np.arange(32) < 4, 0, 1) * np.ones((24, 1), int)
    assert np.array_equal(labels("none", "scores"), 7 * plain)
    of_scores = dense_crf(image, scores, preset=PRESETS[preset]).argmax(0)
    assert np.array_equal(labels(preset, "scores"), 7 * of_scores)
    of_labels = refine_labels(image, plain.astype(np.uint8), num_labels=2, preset=PRESETS[preset])
    assert np.array_equal(labels(preset, "labels"), 7 * of_labels)
    assert (of_labels[:, :16] == 1).all() and not of_scores[:, :16].any(), (
        "labels do not say how sure a score was"
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_many_tasks_come_back_in_order_and_are_taken_as_they_are_needed(workers: int) -> None:
    taken = []

    def tasks() -> Iterator[float]:
        for index in range(60):
            taken.append(index)
            yield float(index)

    results = refine_many(tasks(), sqrt, workers=workers)
    for done, result in enumerate(results, start=1):
        assert result == sqrt(done - 1)
        assert len(taken) <= min(60, done + 4 * workers)
    assert len(taken) == 60


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_task_reaches_the_caller(workers: int) -> None:
    results = refine_many([4.0, -1.0, 9.0], sqrt, workers=workers)
    assert next(results) == 2
    with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input"):
        list(results)


def test_worker_processes_need_no_torch() -> None:
    code = "import sys, occse.method.crf; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dense_crf_takes_a_read_only_image() -> None:
    image, scores = two_halves()
    image.flags.writeable = False
    frozen = dense_crf(image, scores, preset=PRESETS["psa"])
    assert np.array_equal(frozen, dense_crf(image.copy(), scores, preset=PRESETS["psa"]))

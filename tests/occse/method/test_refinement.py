"""The CRF on batches of a device, here the CPU, compared with the CRF in processes."""

import weakref
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from occse.data.score_archives import CamBatch, enlarge
from occse.method.crf import CamTask, PresetName, ScoresTask, label_scores, label_values, refine_cam
from occse.method.refinement import (
    ScoreBatch,
    best_labels,
    label_maps,
    one_late,
    refine_cams_on,
    refined_cams,
)

CLASSES = ((0,), (1, 4), (0, 2, 3))
SIZE = (42, 57)


def photographs() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)) for _ in CLASSES]
    smooth = [picture.resize(SIZE[::-1], Image.Resampling.BICUBIC) for picture in coarse]
    return np.stack([np.array(picture) for picture in smooth])


def scores() -> ScoreBatch:
    generator = torch.Generator().manual_seed(0)
    made = []
    for classes in CLASSES:
        coarse = torch.rand(1, len(classes) + 1, 4, 5, generator=generator)
        made.append(torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")[0])
    return ScoreBatch(names=["a", "b", "c"], images=photographs(), scores=made, classes=CLASSES)


def cams() -> CamBatch:
    rng = np.random.default_rng(1)
    maps = [rng.random((len(classes), 11, 15)).astype(np.float16) for classes in CLASSES]
    return CamBatch(names=["a", "b", "c"], images=photographs(), cams=maps, classes=CLASSES)


@pytest.mark.parametrize("preset", ["none", "seam", "psa"])
@pytest.mark.parametrize("unary", ["scores", "labels"])
def test_labels_of_the_batch_are_those_of_each_image_alone(
    preset: PresetName | Literal["none"], unary: Literal["scores", "labels"]
) -> None:
    batch = scores()
    found = best_labels(batch, preset=preset, unary=unary)
    for index, classes in enumerate(CLASSES):
        task = ScoresTask(
            batch.names[index],
            batch.images[index],
            batch.scores[index].numpy(),
            classes,
            preset,
            unary,
        )
        _, expected = label_scores(task)
        np.testing.assert_array_equal(label_values(classes)[found[index].numpy()], expected)


@pytest.mark.parametrize("preset", ["none", "seam"])
def test_label_maps_come_in_order_whatever_the_batches(
    preset: PresetName | Literal["none"],
) -> None:
    whole = scores()
    parts = [
        ScoreBatch(
            names=whole.names[part],
            images=whole.images[part],
            scores=whole.scores[part],
            classes=whole.classes[part],
        )
        for part in (slice(0, 1), slice(1, 3))
    ]
    options = {"preset": preset, "unary": "scores", "device": "cpu", "workers": 0}
    expected = list(label_maps([whole], **options))
    found = list(label_maps(parts, **options))
    assert [name for name, _ in found] == ["a", "b", "c"]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("preset", ["none", "seam"])
def test_scores_of_a_batch_are_gone_before_the_next_ones_are_made(
    preset: PresetName | Literal["none"],
) -> None:
    kept: list[int] = []
    stored: list[weakref.ref[np.ndarray]] = []

    def batch(number: int) -> ScoreBatch:
        kept.append(sum(storage() is not None for storage in stored))
        # Parts of one tensor, as `seg` has them: any of them keeps all of it.
        whole = np.random.default_rng(number).random((2, 3, *SIZE), dtype=np.float32)
        stored.append(weakref.ref(whole))
        return ScoreBatch(
            names=[f"{number}a", f"{number}b"],
            images=photographs()[:2],
            scores=torch.from_numpy(whole).unbind(),
            classes=[(0, 1)] * 2,
        )

    options = {"preset": preset, "unary": "scores", "device": "cpu", "workers": 0}
    assert len(list(label_maps(map(batch, range(4)), **options))) == 8
    assert kept == [0] * 4


def test_refined_cams_of_a_device_are_those_of_the_processes() -> None:
    batch = cams()
    on_device = refine_cams_on("cpu", batch, alpha=4.0, preset="psa")
    in_processes = refined_cams([batch], alpha=4.0, preset="psa", device="cpu", workers=0)
    for (stored, best), expected in zip(on_device, in_processes, strict=True):
        off = np.abs(stored.wait().numpy().astype(int) - expected.scores.astype(int))
        assert off.max() <= 1
        labels = label_values(expected.classes)[best.wait().numpy()]
        np.testing.assert_array_equal(labels, expected.labels)


def test_refined_cams_are_those_of_each_image_alone() -> None:
    batch = cams()
    found = list(refined_cams([batch], alpha=8.0, preset="seam", device="cpu", workers=0))
    for index, classes in enumerate(CLASSES):
        cam = enlarge(torch.from_numpy(batch.cams[index]), SIZE).numpy()
        image = batch.images[index]
        expected = refine_cam(CamTask("a", image, cam, classes, 8.0, "seam"))
        np.testing.assert_array_equal(found[index].scores, expected.scores)


def test_scores_that_are_not_finite_are_refused_with_the_name_of_the_image() -> None:
    batch = scores()
    batch.scores[1][0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="scores of b: expected finite numbers"):
        best_labels(batch, preset="seam", unary="scores")


def test_one_late_yields_an_item_once_the_next_one_is_made() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    late = one_late(map(make, range(3)))
    assert next(late) == 0
    assert made == [0, 1]
    assert list(late) == [1, 2]

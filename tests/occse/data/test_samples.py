"""Training views, compared with the official codes where these differ from the obvious."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occse.data.array_archive import ArrayWriter
from occse.data.dataset import Dataset
from occse.data.normalize import to_tensor
from occse.data.samples import AffinityImages
from occse.data.score_archives import PairedScores
from occse.data.transforms import classification_view, random_crop, segmentation_view
from occse.data.view_names import Padding
from occse.networks.pairs import affinity_label

HEIGHT, WIDTH, CROP = 40, 56, 56


@pytest.fixture
def grey(tmp_path: Path) -> Dataset:
    (tmp_path / "JPEGImages").mkdir()
    image = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    image.save(tmp_path / "JPEGImages" / "a.jpg")
    return Dataset(root=tmp_path, classes=("x",), splits={}, labels={"a": (0,)})


@pytest.mark.parametrize("padding", ["mean", "black"])
def test_affinity_view_has_psa_s_black_or_the_mean_colour_beyond_the_image(
    grey: Dataset, padding: Padding
) -> None:
    samples = AffinityImages(
        grey,
        ["a"],
        lambda _: (torch.ones(4, HEIGHT, WIDTH), torch.tensor([0, 1], dtype=torch.uint8)),
        lambda pair: affinity_label(*pair.chunk(2), pool=8),
        scale=(1.0, 1.0),
        jitter=0.0,
        hue=0.0,
        crop=CROP,
        padding=padding,
    )
    view, label = samples.sample(0, torch.Generator().manual_seed(0))
    inside = to_tensor(np.full((1, 1, 3), 128, np.uint8))
    # psa crops first, so a pixel of value 0 is normalized: -2.1179, -2.0357, -1.8044.
    beyond = (
        to_tensor(np.zeros((1, 1, 3), np.uint8)) if padding == "black" else torch.zeros(3, 1, 1)
    )
    is_inside = torch.isclose(view, inside, atol=0.02).all(dim=0)
    assert is_inside.sum() == HEIGHT * WIDTH
    torch.testing.assert_close(view[:, ~is_inside], beyond.flatten(1).expand(3, 896))
    assert (label == 255).any(), "cells beyond the image have no label"


def split_in_half(dataset: Dataset, *, label: int) -> AffinityImages:
    """Views of image "a": the left half is of `label`, the right one background, at both alphas."""
    scores = torch.zeros(4, HEIGHT, WIDTH)
    scores[[1, 3], :, : WIDTH // 2] = 1
    scores[[0, 2], :, WIDTH // 2 :] = 1
    return AffinityImages(
        dataset,
        ["a"],
        lambda _: (scores, torch.tensor([0, label], dtype=torch.uint8)),
        lambda pair: affinity_label(*pair.chunk(2), pool=1),
        scale=(1.0, 1.0),
        jitter=0.0,
        hue=0.0,
        crop=CROP,
        padding="mean",
    )


def test_affinity_labels_are_the_classes_of_the_scores_and_not_their_positions(
    grey: Dataset,
) -> None:
    samples = split_in_half(grey, label=17)
    _, label = samples.sample(0, torch.Generator().manual_seed(0))
    assert label.dtype == torch.uint8
    assert sorted(label.unique().tolist()) == [0, 17, 255]
    assert (label == 17).sum() == HEIGHT * (WIDTH // 2)
    assert (label == 0).sum() == HEIGHT * (WIDTH - WIDTH // 2)


def test_affinity_view_flips_image_and_labels_together(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    half = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    half[:, : WIDTH // 2] = 255
    Image.fromarray(half).save(tmp_path / "JPEGImages" / "a.jpg", quality=100)
    dataset = Dataset(root=tmp_path, classes=("x",), splits={}, labels={"a": (0,)})
    # Label 1 at both alphas where the image is white, background where it is black.
    samples = split_in_half(dataset, label=1)
    white_side = set()
    for seed in range(8):
        view, label = samples.sample(0, torch.Generator().manual_seed(seed))
        bright = view[0] > 0
        assert torch.equal(bright[label != 255], (label == 1)[label != 255])
        white_side.add(bool(bright[:, : CROP // 2].float().mean() > 0.5))
    assert white_side == {True, False}, "some views are flipped, some are not"


def test_random_crop_places_a_small_image_anywhere_and_cuts_a_large_one_anywhere() -> None:
    numbers = torch.arange(1.0, 13.0).reshape(1, 3, 4)
    tops, lefts = set(), set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        (crop,) = random_crop((numbers,), (0.0,), crop=5, generator=generator)
        rows, columns = torch.nonzero(crop[0]).T
        top, left = int(rows.min()), int(columns.min())
        assert torch.equal(crop[:, top : top + 3, left : left + 4], numbers)
        tops.add(top)
        lefts.add(left)
        (window,) = random_crop((numbers,), (0.0,), crop=2, generator=generator)
        first = int(window[0, 0, 0])
        assert window[0].tolist() == [[first, first + 1], [first + 4, first + 5]]
    assert (tops, lefts) == ({0, 1, 2}, {0, 1})


@pytest.mark.parametrize("high_classes", [[3, 7], [3, 8]])
def test_paired_scores_are_those_of_the_present_classes(
    tmp_path: Path, high_classes: list[int]
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    for path, stored, classes in (("low", scores[0], [3, 7]), ("high", scores[1], high_classes)):
        with ArrayWriter(tmp_path / path) as writer:
            writer.write("a", scores=stored, classes=np.array(classes, np.int16))
    paired = PairedScores(tmp_path / "low", tmp_path / "high")
    if high_classes != [3, 7]:
        with pytest.raises(ValueError, match=r"a: expected the same classes in .*\[3, 8\]"):
            paired.read("a")
        return
    stack, values = paired.read("a")
    assert values.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(stack.numpy() * 255, scores.reshape(6, 4, 5))


@pytest.mark.parametrize(
    ("size", "long", "short"), [((75, 500), 410, 62), ((85, 500), 350, 60), ((110, 500), 275, 60)]
)
def test_classification_view_rounds_the_short_side_as_oc_cse_does(
    size: tuple[int, int], long: int, short: int
) -> None:
    """At these sizes side * (long / longest) rounds to another pixel than side * long / longest."""
    view = classification_view(
        np.full((*size, 3), 255, np.uint8),
        long_side=(long, long),
        jitter=0.0,
        hue=0.0,
        crop=512,
        generator=torch.Generator().manual_seed(0),
    )
    assert round(size[0] * long / size[1]) == short != round(size[0] * (long / size[1]))
    rows = (view[0] != 0).any(dim=1).sum()
    assert rows == short


def test_segmentation_view_of_opencv_scales_image_and_labels_alike() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (6, 7)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    image = np.stack([labels * 200] * 3, axis=-1)
    views = {}
    for resampling in ("pillow", "opencv"):
        view, target = segmentation_view(
            image,
            labels,
            scale=(0.7, 0.7),
            resampling=resampling,
            crop=40,
            generator=torch.Generator().manual_seed(1),
        )
        bright = (view[0] > 0).long()
        assert ((bright == target)[target != 255]).float().mean() > 0.95
        views[resampling] = view
    assert not torch.equal(views["pillow"], views["opencv"])

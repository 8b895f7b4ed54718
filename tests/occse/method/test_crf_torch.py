"""The dense CRF in torch, compared with pydensecrf; on the CPU here, on a GPU in tests/gpu."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occse.method.crf import PRESETS, PresetName, dense_crf, with_background
from occse.method.crf_torch import dense_crf_batch
from occse.method.lattice import Lattice

PARITY = np.load(Path(__file__).parents[2] / "parity" / "crf.npz")
# Stages store marginals in 255ths.
STEP = 1 / 255


def smooth_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def smooth_scores(rng: np.random.Generator, labels: int, height: int, width: int) -> np.ndarray:
    maps = [Image.fromarray(rng.random((5, 7)).astype(np.float32)) for _ in range(labels)]
    resized = [np.array(each.resize((width, height), Image.Resampling.BILINEAR)) for each in maps]
    return np.stack(resized).astype(np.float32)


def assert_equals_pydensecrf(image: np.ndarray, scores: np.ndarray, preset: PresetName) -> None:
    expected = dense_crf(image, scores, preset=PRESETS[preset])
    (found,) = dense_crf_batch([image], [scores], preset=PRESETS[preset], device="cpu")
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < STEP / 4
    np.testing.assert_array_equal(found.argmax(axis=0), expected.argmax(axis=0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [(24, 32), (23, 31), (22, 31), (21, 33)], ids=str)
def test_dense_crf_equals_pydensecrf_at_sizes_of_every_remainder_by_four(
    preset: PresetName, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    assert_equals_pydensecrf(smooth_image(rng, *size), smooth_scores(rng, 3, *size), preset)


@pytest.mark.parametrize("labels", [1, 2, 21, 81])
def test_dense_crf_equals_pydensecrf_with_any_number_of_labels(labels: int) -> None:
    rng = np.random.default_rng(1)
    image, scores = smooth_image(rng, 19, 26), smooth_scores(rng, labels, 19, 26)
    assert_equals_pydensecrf(image, scores, "psa")


@pytest.mark.parametrize("preset", PRESETS)
def test_dense_crf_equals_pydensecrf_on_an_image_of_one_colour_and_on_noise(
    preset: PresetName,
) -> None:
    rng = np.random.default_rng(2)
    scores = smooth_scores(rng, 2, 21, 25)
    assert_equals_pydensecrf(np.full((21, 25, 3), 200, np.uint8), scores, preset)
    noise = rng.integers(0, 256, (21, 25, 3)).astype(np.uint8)
    assert_equals_pydensecrf(noise, scores, preset)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3)])
def test_dense_crf_equals_pydensecrf_on_the_smallest_images(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    assert_equals_pydensecrf(image, rng.random((2, *size)).astype(np.float32), "psa")


@pytest.mark.parametrize("image", ["a", "b"])
@pytest.mark.parametrize("alpha", [1, 6, 10, 24])
def test_parity_with_the_official_crf(image: str, alpha: int) -> None:
    scores = with_background(PARITY[f"cams_{image}"], alpha)
    (found,) = dense_crf_batch(
        [PARITY[f"image_{image}"]], [scores], preset=PRESETS["psa"], device="cpu"
    )
    np.testing.assert_allclose(found, PARITY[f"crf_{image}_alpha{alpha}"], rtol=0, atol=1e-4)


def test_images_of_a_batch_do_not_influence_each_other_whatever_their_numbers_of_labels() -> None:
    rng = np.random.default_rng(4)
    images = [smooth_image(rng, 22, 27) for _ in range(3)]
    scores = [smooth_scores(rng, labels, 22, 27) for labels in (2, 5, 1)]
    preset = PRESETS["psa"]
    together = dense_crf_batch(images, scores, preset=preset, device="cpu")
    for image, score, found in zip(images, scores, together, strict=True):
        (alone,) = dense_crf_batch([image], [score], preset=preset, device="cpu")
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)
        assert found.shape == score.shape
        np.testing.assert_allclose(found.sum(axis=0), 1, rtol=0, atol=1e-5)


def test_memory_bounds_the_images_and_the_labels_that_are_computed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    images = [smooth_image(rng, 22, 27) for _ in range(4)]
    scores = [smooth_scores(rng, 7, 22, 27) for _ in range(4)]
    preset = PRESETS["psa"]
    expected = dense_crf_batch(images, scores, preset=preset, device="cpu")
    widths: list[int] = []
    original = Lattice._filter

    def record(self: Lattice, values: torch.Tensor) -> torch.Tensor:
        widths.append(values.numel())
        return original(self, values)

    monkeypatch.setattr(Lattice, "_filter", record)
    generous = dense_crf_batch(images, scores, preset=preset, device="cpu")
    most = max(widths)
    widths.clear()
    bounded = dense_crf_batch(images, scores, preset=preset, device="cpu", memory=15_000)
    assert max(widths) < most / 8
    for first, second, third in zip(expected, generous, bounded, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, third, rtol=0, atol=1e-5)


def test_the_same_images_give_the_same_marginals_twice() -> None:
    rng = np.random.default_rng(6)
    images, scores = [smooth_image(rng, 30, 37)], [smooth_scores(rng, 4, 30, 37)]
    first, second = (
        dense_crf_batch(images, scores, preset=PRESETS["irn"], device="cpu")[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_lattice_approximates_the_gaussian_of_the_distances() -> None:
    features = torch.rand(1, 41, 2, generator=torch.Generator().manual_seed(0)) * 4
    distances = torch.cdist(features[0], features[0])
    gaussian = torch.exp(-distances.square() / 2)
    norm = gaussian.sum(dim=1).rsqrt()
    exact = gaussian * norm[:, None] * norm
    matrix = Lattice(features)(torch.eye(41))
    assert (matrix > -1e-6).all()
    assert torch.corrcoef(torch.stack([matrix.flatten(), exact.flatten()]))[0, 1] > 0.97


def test_coordinates_that_fit_no_lattice_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit one lattice"):
        Lattice(torch.rand(1, 8, 5) * 1e6)


def test_no_images_give_no_marginals_and_wrong_shapes_are_refused() -> None:
    assert dense_crf_batch([], [], preset=PRESETS["psa"], device="cpu") == []
    with pytest.raises(ValueError, match="scores: expected the shape"):
        dense_crf_batch(
            [np.zeros((4, 5, 3), np.uint8)],
            [np.zeros((2, 4, 6), np.float32)],
            preset=PRESETS["psa"],
            device="cpu",
        )

"""The recursive experiment: on a network made by hand, and as a stage on the embedded data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from occse.artifacts.execute import execute
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.data.normalize import IMAGENET_MEAN, to_tensor
from occse.method.evaluation import Counts, CountsBuilder, summarize
from occse.method.recursive_erasing import activations, recursive_cams
from occse.pipeline import Node, Pipeline, override, plan

MEAN = np.rint(255 * np.array(IMAGENET_MEAN)).astype(np.uint8)
RED = MEAN + np.array([120, 0, 0], np.uint8)
PALE = MEAN + np.array([60, 0, 0], np.uint8)
BLUE = MEAN + np.array([0, 0, 100], np.uint8)
USUAL: dict[str, Any] = {"num_erasures": 2, "mask_threshold": None, "min_probability": 0.0}


def red_and_blue(images: Tensor) -> Tensor:
    """Maps of two classes at stride 1: how red and how blue each pixel is, -5 where it has the mean
    colour.
    """
    return images[:, [0, 2]] * 10 - 5


def steps(
    *colors: np.ndarray, present: list[int], **knobs: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps and probabilities by number of erasures of an image that is one row of pixels."""
    image = np.stack(colors)[None, None]
    options: dict[str, Any] = {
        "network": red_and_blue,
        "scales": (1.0,),
        "flip": False,
        "device": "cpu",
    }
    found = recursive_cams(images=image, present=[present], **USUAL | options | knobs)
    return [(maps[0][:, 0], probability) for maps, probability in found]


def left_after(erasures: int, *colors: np.ndarray, **knobs: Any) -> np.ndarray:
    """The red of each pixel, as the network receives it after so many erasures of red."""
    received: list[Tensor] = []

    def network(images: Tensor) -> Tensor:
        received.append(images)
        return red_and_blue(images)

    steps(*colors, present=[0], network=network, **knobs)
    # twice per step: for the probability and for the map
    return received[2 * erasures][0, 0, 0].numpy()


def test_what_is_erased_no_longer_hides_the_rest() -> None:
    (first, _), (second, _), _ = steps(RED, PALE, MEAN, present=[0])
    pale = 5.3 / 15.5  # both pixels' values of the map
    np.testing.assert_allclose(first, [[1, pale, 0]], atol=0.01)
    np.testing.assert_allclose(second, [[1, 1, 0]], atol=0.01)


def test_a_soft_mask_leaves_of_each_pixel_what_its_map_leaves() -> None:
    red, pale = to_tensor(np.stack([RED, PALE])[None])[0, 0].tolist()
    assert left_after(0, RED, PALE) == pytest.approx([red, pale])
    assert left_after(1, RED, PALE) == pytest.approx([0, pale * (1 - 5.3 / 15.5)], abs=0.01)
    assert left_after(2, RED, PALE) == pytest.approx([0, 0], abs=0.01)


def test_a_hard_mask_erases_what_exceeds_the_threshold_and_nothing_else() -> None:
    pale = to_tensor(PALE[None, None])[0].item()
    assert left_after(1, RED, PALE, mask_threshold=0.5) == pytest.approx([0, pale], abs=0.01)
    assert left_after(1, RED, PALE, mask_threshold=0.2) == pytest.approx([0, 0], abs=0.01)


def test_each_class_is_erased_from_a_copy_of_its_own() -> None:
    both = steps(RED, BLUE, PALE, present=[0, 1])
    for index in (0, 1):
        for (maps, probability), (alone, its_own) in zip(
            both, steps(RED, BLUE, PALE, present=[index]), strict=True
        ):
            np.testing.assert_array_equal(maps[index], alone[0])
            assert probability[index] == its_own[0]


def test_a_class_that_is_no_longer_seen_is_given_up() -> None:
    known = [float(probability[0]) for _, probability in steps(RED, PALE, MEAN, present=[0])]
    assert known[0] > 0.99
    assert known[1] < 0.1
    kept = steps(RED, PALE, MEAN, present=[0], min_probability=0.5)
    for maps, probability in kept[1:]:
        np.testing.assert_array_equal(maps, kept[0][0])
        assert probability[0] == pytest.approx(known[1]), "nothing more is erased"


def counts_of(prediction: list[list[float]], truth: list[int]) -> Counts:
    """The counts of two classes' maps over one row of pixels, at the thresholds 0.3 and 0.6."""
    builder = CountsBuilder(("a", "b"), thresholds=(0.3, 0.6))
    maps = np.array(prediction, np.float32)[:, None]
    builder.add_cam("image", maps, classes=np.array([0, 1]), gt=np.array([truth], np.uint8))
    return builder.build()


def test_activation_is_measured_at_the_threshold_that_is_best_without_erasing() -> None:
    truth = [1, 1, 2, 2, 0, 0, 255]
    first = counts_of([[0.9, 0.1, 0, 0, 0.4, 0, 1], [0, 0, 0.9, 0, 0, 0, 0]], truth)  # 0.6 is best
    second = counts_of([[0.9, 0.9, 0, 0.7, 0.7, 0.4, 1], [0, 0, 0.9, 0, 0, 0, 0]], truth)
    assert list(activations([first, second])) == [
        {"covered": 2 / 4, "false_activation": 0},  # void is not a pixel
        # one is of b, one is background
        {"covered": 3 / 4, "false_activation": pytest.approx(2 / 5)},
    ]


def test_without_activation_nothing_is_false() -> None:
    assert list(activations([counts_of([[0.0], [0.0]], [1])])) == [
        {"covered": 0, "false_activation": 0}
    ]


@pytest.fixture(scope="module")
def experiment(own_store: Path, small_pipeline: Pipeline) -> tuple[Path, dict[str, Node]]:
    nodes = plan(override(small_pipeline, {"cam.source": "oc"}), targets=("erase_and_infer", "cam"))
    for node in nodes.values():
        execute(node, root=own_store)
    return own_store, nodes


def test_without_erasing_it_is_the_classifier_s_own_map(
    experiment: tuple[Path, dict[str, Node]],
) -> None:
    store, nodes = experiment
    cam = Counts.load(artifact_folder(store, nodes["cam"]) / "counts.npz")
    first = Counts.load(artifact_folder(store, nodes["erase_and_infer"]) / "0" / "counts.npz")
    assert first.names == cam.names
    shared = np.isin(first.thresholds, cam.thresholds)
    assert shared.sum() == len(cam.thresholds)
    # Batches of another size round differently, which moves single pixels across a threshold.
    difference = np.abs(first.confusion()[shared] - cam.confusion())
    assert difference.sum() < 0.001 * cam.confusion().sum()


def test_the_curves_are_those_of_the_stored_counts(
    experiment: tuple[Path, dict[str, Node]],
) -> None:
    store, nodes = experiment
    folder = artifact_folder(store, nodes["erase_and_infer"])
    curves = json.loads((folder / "curves.json").read_text())
    assert [point["step"] for point in curves] == [0, 1, 2]
    counted = [Counts.load(folder / str(number) / "counts.npz") for number in range(3)]
    for point, counts, activation in zip(curves, counted, activations(counted), strict=True):
        assert point["miou"] == summarize(counts, multi_label=())["miou"]
        assert {name: point[name] for name in activation} == activation
        assert 0 < point["probability"] < 1


def test_the_metrics_are_the_last_point_and_its_classes(
    experiment: tuple[Path, dict[str, Node]],
) -> None:
    store, nodes = experiment
    folder = artifact_folder(store, nodes["erase_and_infer"])
    manifest = load_manifest(store, nodes["erase_and_infer"])
    assert manifest is not None
    *_, last = json.loads((folder / "curves.json").read_text())
    assert {name: manifest.metrics[name] for name in last if name != "step"} == {
        name: value for name, value in last.items() if name != "step"
    }
    assert {"threshold", "precision", "iou/beetle", "miou_multi"} <= set(manifest.metrics)

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from occse.data.array_archive import ArrayWriter
from occse.method.evaluation import Counts, CountsBuilder, iou, precision, recall, summarize

PARITY = Path(__file__).parents[2] / "parity" / "evaluation.npz"
CLASSES = ("cat", "cow", "dog", "emu")
THRESHOLDS = tuple(0.1 + index / 10 for index in range(6))
Image = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_image(
    rng: np.random.Generator, *, size: tuple[int, int] = (13, 17), num_present: int = 2
) -> Image:
    """CAMs on a grid of tenths, so that many scores equal each other or a threshold, and a ground
    truth with void.
    """
    classes = np.sort(rng.choice(len(CLASSES), num_present, replace=False))
    cam = (rng.integers(0, 11, (num_present, *size)) / 10).astype(np.float32)
    gt = rng.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), size)
    return cam, classes, gt


def naive_confusion(
    cam: np.ndarray, classes: np.ndarray, gt: np.ndarray, *, thresholds: tuple[float, ...]
) -> np.ndarray:
    """Pixel by pixel, one threshold after another."""
    confusion = np.zeros((len(thresholds), len(CLASSES) + 1, len(CLASSES) + 1), np.int64)
    for level, threshold in enumerate(thresholds):
        for (row, column), truth in np.ndenumerate(gt):
            scores = [np.float32(threshold), *cam[:, row, column]]
            labels = [0, *(classes + 1)]
            if truth != 255:
                confusion[level, truth, labels[int(np.argmax(scores))]] += 1
    return confusion


def count_cams(images: dict[str, Image], *, thresholds: tuple[float, ...] = THRESHOLDS) -> Counts:
    builder = CountsBuilder(CLASSES, thresholds=thresholds)
    for name, (cam, classes, gt) in images.items():
        builder.add_cam(name, cam, classes=classes, gt=gt)
    return builder.build()


def big_counts() -> Counts:
    """Three labels, pixels beyond what 32-bit and even float64 counters hold exactly."""
    entries = {
        "image": [0, 0, 1],
        "bin": [1, 1, 1],
        "gt": [0, 1, 1],
        "pred": [0, 1, 0],
        "count": [2**60 + 1, 2**33, 1],
    }
    arrays = {key: np.array(values, np.int64) for key, values in entries.items()}
    return Counts(
        names=("a", "b"), classes=("cat", "cow"), thresholds=np.zeros(0, np.float32), **arrays
    )


@pytest.mark.parametrize("seed", range(8))
def test_all_thresholds_in_one_pass_equal_the_loop_over_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = {f"image{index}": random_image(rng, num_present=1 + index) for index in range(4)}
    expected = {
        name: naive_confusion(*image, thresholds=THRESHOLDS) for name, image in images.items()
    }
    counts = count_cams(images)
    assert np.array_equal(counts.confusion(), sum(expected.values()))
    for name in images:
        assert np.array_equal(counts.confusion({name}), expected[name])
    subset = ["image0", "image2"]
    assert np.array_equal(counts.confusion(subset), expected["image0"] + expected["image2"])


def test_a_threshold_of_zero_and_more_thresholds_than_fit_a_byte() -> None:
    image = random_image(np.random.default_rng(0), size=(5, 6), num_present=3)
    thresholds = tuple(index / 400 for index in range(300))
    counts = count_cams({"image": image}, thresholds=thresholds)
    assert np.array_equal(counts.confusion(), naive_confusion(*image, thresholds=thresholds))


def test_tie_with_the_threshold_is_background_and_the_first_class_wins_a_tie() -> None:
    cam = np.array([[[0.3, 0.8, 0.5]], [[0.2, 0.8, 0.9]]], np.float32)
    counts = count_cams(
        {"a": (cam, np.array([1, 3]), np.zeros((1, 3), np.uint8))}, thresholds=(0.3,)
    )
    assert counts.confusion()[0, 0].tolist() == [1, 0, 1, 0, 1]


def test_the_threshold_is_compared_as_float32() -> None:
    score = np.float32(0.1)  # above the float64 0.1, equal to the float32 one
    cam = np.full((1, 1, 1), score, np.float32)
    counts = count_cams({"a": (cam, np.array([0]), np.zeros((1, 1), np.uint8))}, thresholds=(0.1,))
    assert float(score) > 0.1
    assert counts.confusion()[0, 0].tolist() == [1, 0, 0, 0, 0]


def test_an_image_without_a_present_class_is_predicted_as_background() -> None:
    image = (
        np.zeros((0, 2, 2), np.float32),
        np.zeros(0, np.int64),
        np.array([[0, 1], [1, 255]], np.uint8),
    )
    confusion = count_cams({"a": image}).confusion()
    assert confusion.shape == (6, 5, 5)
    assert confusion[:, :2, 0].tolist() == [[1, 2]] * 6
    assert confusion.sum() == 18


def test_label_maps_count_as_one_level_and_ignore_void() -> None:
    rng = np.random.default_rng(3)
    builder = CountsBuilder(CLASSES)
    expected = np.zeros((1, 5, 5), np.int64)
    for index in range(3):
        gt = rng.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), (9, 8))
        prediction = rng.integers(0, 5, (9, 8)).astype(np.uint8)
        builder.add_labels(f"image{index}", prediction, gt=gt)
        for truth, label in zip(gt.ravel(), prediction.ravel(), strict=True):
            if truth != 255:
                expected[0, truth, label] += 1
    assert np.array_equal(builder.build().confusion(), expected)


def test_parity_with_the_reference_evaluation() -> None:
    arrays = np.load(PARITY)
    classes = [f"class{index}" for index in range(20)]
    builder = CountsBuilder(classes, thresholds=arrays["thresholds"].tolist())
    for index in range(3):
        keys, gt = arrays[f"keys_i{index}"], arrays[f"gt_i{index}"]
        builder.add_cam(f"i{index}", arrays[f"cams_i{index}"], classes=keys, gt=gt)
    counts = builder.build()
    assert np.array_equal(counts.confusion(), arrays["confusion_gt_pred"])
    scores = iou(counts.confusion())
    assert np.array_equal(scores * 100, arrays["iou_percent"])
    assert np.array_equal(scores.mean(axis=-1) * 100, arrays["miou_percent"])
    metrics = summarize(counts, multi_label={"i1", "i2"})
    best = int(arrays["miou_percent"].argmax())
    assert metrics["miou"] * 100 == arrays["miou_percent"][best]
    assert metrics["threshold"] == pytest.approx(arrays["thresholds"][best])
    assert metrics["iou/class3"] * 100 == arrays["iou_percent"][best, 4]


def test_scores_of_a_confusion_worked_out_by_hand() -> None:
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert iou(confusion) == pytest.approx([6 / 9, 3 / 6, 0])
    assert precision(confusion) == pytest.approx([6 / 7, 3 / 5, 0])
    assert recall(confusion) == pytest.approx([6 / 8, 3 / 4, 0])


def test_summary_names_every_metric_and_means_over_absent_classes_too() -> None:
    builder = CountsBuilder(("cat", "cow"))
    builder.add_labels(
        "one", np.array([[0, 1, 1, 1]], np.uint8), gt=np.array([[0, 0, 1, 255]], np.uint8)
    )
    metrics = summarize(builder.build(), multi_label={"elsewhere"})
    expected = {"miou": 1 / 3, "precision": 0.5, "recall": 0.5}
    expected |= {"iou/background": 0.5, "iou/cat": 0.5, "iou/cow": 0.0}
    assert metrics == pytest.approx(expected)


def test_summary_takes_the_first_of_equally_good_thresholds() -> None:
    cam = np.array([[[0.15, 0.55, 0.95]]], np.float32)
    image = (cam, np.array([0]), np.array([[0, 1, 1]], np.uint8))
    metrics = summarize(count_cams({"a": image}), multi_label=set())
    assert metrics["threshold"] == 0.2
    assert metrics["iou/cat"] == pytest.approx(1)


def test_the_multi_label_subset_is_scored_at_the_threshold_of_all_images() -> None:
    rng = np.random.default_rng(5)
    images = {f"image{index}": random_image(rng, num_present=1 + index % 2) for index in range(6)}
    multi = {name for name, (_, classes, _) in images.items() if len(classes) > 1}
    counts = count_cams(images)
    metrics = summarize(counts, multi_label=multi)
    level = THRESHOLDS.index(pytest.approx(metrics["threshold"]))
    expected = sum(naive_confusion(*images[name], thresholds=THRESHOLDS) for name in multi)
    assert metrics["miou_multi"] == iou(expected[level]).mean()


def test_counters_hold_more_pixels_than_32_bits_and_float64() -> None:
    confusion = big_counts().confusion()
    assert confusion[0].tolist() == [[2**60 + 1, 0, 0], [1, 2**33, 0], [0, 0, 0]]
    assert iou(confusion)[0].tolist() == pytest.approx([1, 1, 0])


def test_saved_counts_come_back_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for index, counts in enumerate(
        (count_cams({"ä/1": random_image(rng)}), big_counts(), count_cams({}))
    ):
        path = tmp_path / f"counts{index}.npz"
        counts.save(path)
        loaded = Counts.load(path)
        for field in dataclasses.fields(Counts):
            before, after = getattr(counts, field.name), getattr(loaded, field.name)
            assert np.array_equal(before, after), field.name
        assert np.array_equal(loaded.confusion(), counts.confusion())


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("image", np.array([0, 0, 2]), "image: expected values from 0 to below 2"),
        ("bin", np.array([0, 1, 2]), "bin: expected values from 0 to below 2"),
        ("gt", np.array([0, 1, 3]), "gt: expected values"),
        ("pred", np.array([0, -1, 0]), "pred: expected values"),
        ("pred", np.array([0, 1]), "pred: expected 3 64-bit integers"),
        ("count", np.array([1, 2, -3]), "count: expected values"),
        ("count", np.array([1.0, 2.0, 3.0]), "count: expected 3 64-bit integers"),
        ("count", np.ones((3, 1), np.int64), "image: expected 3 64-bit integers|count: expected 3"),
        ("names", np.array(["a", "a"]), "names: expected a list of distinct texts"),
        ("names", np.array([1, 2]), "names: expected a list of distinct texts"),
        ("names", np.array("ab"), "names: expected a list"),
        ("classes", np.array([["cat", "cow"]]), "classes: expected a list"),
        ("thresholds", np.array([0.5, 0.4], np.float32), "thresholds: expected ascending"),
        ("thresholds", np.array([np.nan], np.float32), "thresholds: expected ascending"),
        ("thresholds", np.array([0.5]), "thresholds: expected"),
        ("surplus", np.array([0]), "surplus"),
    ],
)
def test_counts_that_contradict_themselves_are_refused(
    tmp_path: Path, key: str, value: np.ndarray, complaint: str
) -> None:
    counts, path = big_counts(), tmp_path / "counts.npz"
    arrays = {
        field.name: np.asarray(getattr(counts, field.name)) for field in dataclasses.fields(Counts)
    }
    with ArrayWriter(path) as writer:
        writer.write("counts", **(arrays | {key: value}))
    with pytest.raises(ValueError, match=complaint) as raised:
        Counts.load(path)
    assert str(path) in str(raised.value)


def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    big_counts().save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"counts\.npz"):
            Counts.load(path)
    np.savez(path, image=np.zeros(3))
    with pytest.raises(ValueError, match=r"counts\.npz"):
        Counts.load(path)


def test_what_cannot_be_counted_is_refused_by_image() -> None:
    cam, classes, gt = random_image(np.random.default_rng(7))
    builder = CountsBuilder(CLASSES, thresholds=THRESHOLDS)
    builder.add_cam("seen", cam, classes=classes, gt=gt)
    with pytest.raises(ValueError, match="seen: this image was counted before"):
        builder.add_cam("seen", cam, classes=classes, gt=gt)
    with pytest.raises(
        ValueError,
        match=r"new: the ground truth has the size \(12, 17\), the prediction \(13, 17\)",
    ):
        builder.add_cam("new", cam, classes=classes, gt=gt[1:])
    with pytest.raises(ValueError, match=r"new: ground truth labels .* allowed are 0 to 4 and 255"):
        builder.add_cam("new", cam, classes=classes, gt=np.full_like(gt, 5))
    with pytest.raises(ValueError, match=r"new: classes .* expected ascending"):
        builder.add_cam("new", cam, classes=np.array([2, 1]), gt=gt)
    with pytest.raises(ValueError, match=r"new: classes .* expected ascending"):
        builder.add_cam("new", cam, classes=np.array([2, 4]), gt=gt)
    with pytest.raises(ValueError, match="new: the CAM has scores that are not finite"):
        builder.add_cam("new", np.where(cam == 0, np.float32("nan"), cam), classes=classes, gt=gt)
    with pytest.raises(ValueError, match="new: a label map has no scores"):
        builder.add_labels("new", gt, gt=gt)
    assert builder.build().names == ("seen",)
    with pytest.raises(ValueError, match="no counts of the image 'new'"):
        builder.build().confusion({"new"})


def test_label_maps_out_of_range_are_refused_by_image() -> None:
    builder = CountsBuilder(CLASSES)
    labels = np.array([[0, 4]], np.uint8)
    for value in (5, 255):
        with pytest.raises(
            ValueError, match=f"new: the prediction goes up to {value}; allowed are 0 to 4"
        ):
            builder.add_labels("new", np.array([[0, value]], np.uint8), gt=labels)
    with pytest.raises(ValueError, match=r"new: ground truth labels .*254"):
        builder.add_labels("new", labels, gt=np.array([[0, 254]], np.uint8))
    with pytest.raises(ValueError, match="254 do"):
        CountsBuilder([str(index) for index in range(255)])
    for thresholds in ((0.2, 0.1), (0.1, 1.0), (-0.1,)):
        with pytest.raises(ValueError, match="thresholds: expected ascending"):
            CountsBuilder(CLASSES, thresholds=thresholds)

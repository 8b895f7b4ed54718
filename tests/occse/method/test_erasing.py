import itertools

import pytest
import torch
from parity_inputs import hashed, parity
from torch import Tensor
from torch.nn import functional

from occse.method.erasing import (
    balancing_weights,
    class_agnostic_mask,
    class_specific_mask,
    draw_class,
    erase,
    erasing_loss,
    erasing_targets,
    harden,
    soft_labels,
)

MASK_MAX = ["batch", "image"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_pixel(*, value: float, at: tuple[int, int], size: int = 3) -> Tensor:
    """A map that is -1 but for one pixel."""
    single = torch.full((size, size), -1.0)
    single[at] = value
    return single


@pytest.fixture
def hand_made() -> tuple[Tensor, Tensor]:
    """Two images of 3 x 3 maps: the first shows the classes 0 and 2, the second class 2."""
    absent = one_pixel(value=100.0, at=(1, 1))
    first = [one_pixel(value=4.0, at=(0, 0)), absent, one_pixel(value=2.0, at=(2, 2))]
    second = [absent, absent, one_pixel(value=1.0, at=(0, 2))]
    return torch.stack([torch.stack(first), torch.stack(second)]), torch.tensor(
        [[1.0, 0, 1], [0, 0, 1]]
    )


def pixels(mask: Tensor) -> list[dict[tuple[int, int], float]]:
    """Per image, the erased pixels and how much of each is erased."""
    return [
        {(int(y), int(x)): round(float(each[y, x]), 3) for y, x in each.nonzero()}
        for each in mask[:, 0]
    ]


def test_specific_mask_erases_the_drawn_class_and_nothing_else(
    hand_made: tuple[Tensor, Tensor],
) -> None:
    cams, _ = hand_made
    erased = torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    mask = class_specific_mask(cams, erased, size=(3, 3), mask_max="image")
    assert pixels(mask) == [{(2, 2): 1.0}, {(0, 2): 1.0}]


def test_batch_maximum_leaves_weaker_images_partly_visible(
    hand_made: tuple[Tensor, Tensor],
) -> None:
    cams, _ = hand_made
    erased = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    mask = class_specific_mask(cams, erased, size=(3, 3), mask_max="batch")
    assert pixels(mask) == [{(0, 0): 1.0}, {(0, 2): 0.25}]


def test_agnostic_mask_erases_every_present_class_at_its_own_peak(
    hand_made: tuple[Tensor, Tensor],
) -> None:
    cams, labels = hand_made
    mask = class_agnostic_mask(cams, labels, size=(3, 3), mask_max="image")
    assert pixels(mask) == [{(0, 0): 1.0, (2, 2): 1.0}, {(0, 2): 1.0}]


def test_agnostic_batch_maximum_is_per_class_and_ignores_images_without_the_class(
    hand_made: tuple[Tensor, Tensor],
) -> None:
    cams, labels = hand_made
    mask = class_agnostic_mask(cams, labels, size=(3, 3), mask_max="batch")
    assert pixels(mask) == [{(0, 0): 1.0, (2, 2): 1.0}, {(0, 2): 0.5}]


def test_agnostic_mask_takes_the_maximum_of_overlapping_classes_not_their_sum() -> None:
    cams = torch.tensor([[[[4.0, 2, 0]], [[0, 3, 6]]]])
    mask = class_agnostic_mask(cams, torch.ones(1, 2), size=(1, 3), mask_max="image")
    torch.testing.assert_close(mask, torch.tensor([[[[1.0, 0.5, 1.0]]]]), atol=1e-4, rtol=0)


def test_map_is_enlarged_before_its_negative_values_are_cut() -> None:
    cams = torch.tensor([[[[1.0, -1.0]]]])
    mask = class_specific_mask(cams, torch.ones(1, 1), size=(1, 4), mask_max="image")
    # Enlarged: 1, 0.5, -0.5, -1. Cut first, the third pixel would be 0.25.
    torch.testing.assert_close(mask, torch.tensor([[[[1.0, 0.5, 0.0, 0.0]]]]), atol=1e-4, rtol=0)


def test_map_without_activation_erases_nothing() -> None:
    cams = -torch.rand(2, 3, 4, 4, generator=generator())
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    for mask_max in MASK_MAX:
        mask, _ = erasing_targets(
            cams, labels, mode="cse", size=(8, 8), mask_max=mask_max, generator=generator()
        )
        assert not mask.any()
        assert not class_agnostic_mask(cams, labels, size=(8, 8), mask_max=mask_max).any()


def test_erasing_replaces_pixels_by_the_mean_color() -> None:
    images = torch.full((1, 3, 1, 3), 2.0)
    erased = erase(images, torch.tensor([[[[0.0, 0.25, 1.0]]]]))
    assert erased[0].tolist() == [[[2.0, 1.5, 0.0]]] * 3


def test_draw_takes_one_present_class_uniformly() -> None:
    labels = torch.tensor([[0.0, 1, 1, 0, 1], [1.0, 0, 0, 0, 0]]).repeat(3000, 1)
    erased = draw_class(labels, generator=generator())
    assert (erased.sum(dim=1) == 1).all()
    assert ((labels - erased) >= 0).all()
    frequency = erased[::2].mean(dim=0)
    torch.testing.assert_close(frequency, torch.tensor([0, 1, 1, 0, 1]) / 3, atol=0.04, rtol=0)
    assert erased[1::2].mean(dim=0).tolist() == [1, 0, 0, 0, 0]


def test_balanced_draw_takes_the_rarer_class_more_often_and_absent_ones_never() -> None:
    training = torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]])
    weights = balancing_weights(training)
    torch.testing.assert_close(weights, torch.tensor([1, 1 / 3, 1, 1]))
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 0]]).repeat(3000, 1)
    erased = draw_class(labels, generator=generator(), weights=weights)
    torch.testing.assert_close(
        erased[::2].mean(dim=0), torch.tensor([0.75, 0.25, 0, 0]), atol=0.04, rtol=0
    )
    assert erased[1::2].mean(dim=0).tolist() == [0, 1, 0, 0]


def test_targets_are_of_the_class_that_the_weights_favour(hand_made: tuple[Tensor, Tensor]) -> None:
    cams, labels = hand_made
    favoured = torch.tensor([1e-9, 1, 1])
    mask, remaining = erasing_targets(
        cams,
        labels,
        mode="cse",
        size=(3, 3),
        mask_max="image",
        generator=generator(),
        weights=favoured,
    )
    assert pixels(mask) == [{(2, 2): 1.0}, {(0, 2): 1.0}]
    assert remaining.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_hard_mask_erases_whole_pixels_above_the_threshold() -> None:
    mask = torch.tensor([[[[0.0, 0.29, 0.3, 0.31, 1.0]]]])
    hard = harden(mask, threshold=0.3)
    assert hard[0, 0, 0, :2].tolist() == [0, 0]
    assert hard[0, 0, 0, 3:].tolist() == [1, 1]
    assert harden(mask, threshold=0.5).flatten().tolist() == [0, 0, 0, 0, 1]
    # A pixel at the threshold stays; 0.5 is exact in float32.
    assert harden(torch.full((1, 1, 1, 1), 0.5), threshold=0.5).item() == 0


def test_hard_mask_passes_the_gradient_on_to_every_pixel_as_a_soft_one_does() -> None:
    mask = torch.tensor([[[[0.1, 0.6]]]], requires_grad=True)
    (harden(mask, threshold=0.5) * torch.tensor([3.0, 5.0])).sum().backward()
    assert mask.grad is not None
    assert mask.grad.flatten().tolist() == [3, 5]


def test_soft_labels_ask_for_what_oc_saw_of_the_remaining_classes_alone() -> None:
    remaining = torch.tensor([[1.0, 0, 1, 0]])
    intact = torch.logit(torch.tensor([[0.9, 0.8, 0.2, 0.6]]))
    torch.testing.assert_close(soft_labels(remaining, intact), torch.tensor([[0.9, 0, 0.2, 0]]))


def test_draw_is_a_function_of_the_generator() -> None:
    labels = torch.ones(50, 5)
    assert torch.equal(
        draw_class(labels, generator=generator(3)), draw_class(labels, generator=generator(3))
    )
    assert not torch.equal(
        draw_class(labels, generator=generator(3)), draw_class(labels, generator=generator(4))
    )


@pytest.mark.parametrize("mode", ["cse", "class_agnostic"])
def test_image_without_label_is_refused(mode: str) -> None:
    labels = torch.tensor([[1.0, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"got none for images \[1\] of the batch"):
        erasing_targets(
            torch.ones(2, 2, 3, 3),
            labels,
            mode=mode,
            size=(3, 3),
            mask_max="image",
            generator=generator(),
        )


def test_remaining_labels_are_all_but_the_erased_class_or_none(
    hand_made: tuple[Tensor, Tensor],
) -> None:
    cams, labels = hand_made
    seen = set()
    for seed in range(20):
        mask, remaining = erasing_targets(
            cams, labels, mode="cse", size=(3, 3), mask_max="image", generator=generator(seed)
        )
        seen.add((tuple(remaining[0].tolist()), tuple(pixels(mask)[0])))
        assert remaining[1].tolist() == [0, 0, 0]
    assert seen == {((0, 0, 1), ((0, 0),)), ((1, 0, 0), ((2, 2),))}
    _, remaining = erasing_targets(
        cams, labels, mode="class_agnostic", size=(3, 3), mask_max="image", generator=generator()
    )
    assert not remaining.any()


def test_modes_agree_on_single_label_images_under_the_image_maximum() -> None:
    cams = torch.randn(6, 4, 5, 7, generator=generator())
    labels = functional.one_hot(torch.tensor([0, 1, 2, 3, 1, 0]), 4).float()
    masks, targets = zip(
        *(
            erasing_targets(
                cams, labels, mode=mode, size=(20, 28), mask_max="image", generator=generator()
            )
            for mode in ("cse", "class_agnostic")
        ),
        strict=True,
    )
    assert torch.equal(*masks)
    assert torch.equal(*targets)


@pytest.mark.parametrize("mask_max", MASK_MAX)
def test_gradient_flows_through_the_mask_and_its_maximum(mask_max: str) -> None:
    cams = torch.randn(2, 3, 3, 2, dtype=torch.float64, generator=generator(), requires_grad=True)
    labels = torch.tensor([[1.0, 1, 0], [0, 1, 1]], dtype=torch.float64)
    erased = draw_class(labels, generator=generator())
    size = (5, 4)
    # Finite differences see the maximum move with the map that it is taken from.
    assert torch.autograd.gradcheck(
        lambda x: class_specific_mask(x, erased, size=size, mask_max=mask_max), cams
    )
    assert torch.autograd.gradcheck(
        lambda x: class_agnostic_mask(x, labels, size=size, mask_max=mask_max), cams
    )


@pytest.mark.parametrize("mask_max", MASK_MAX)
def test_masks_equal_loops_over_images_and_classes(mask_max: str) -> None:
    cams = torch.randn(4, 5, 6, 6, generator=generator(1))
    labels = (torch.rand(4, 5, generator=generator(2)) < 0.6).float()
    labels[:, 0] = 1
    size = (13, 17)
    big = functional.interpolate(cams, size, mode="bilinear", align_corners=False).relu()
    present = [[c for c in range(5) if labels[b, c]] for b in range(4)]

    def peak(b: int, c: int) -> Tensor:
        images = [i for i in range(4) if labels[i, c]] if mask_max == "batch" else [b]
        return max(big[i, c].max() for i in images)

    agnostic = torch.stack(
        [
            torch.stack([big[b, c] / (peak(b, c) + 1e-5) for c in present[b]]).amax(0, keepdim=True)
            for b in range(4)
        ]
    )
    torch.testing.assert_close(
        class_agnostic_mask(cams, labels, size=size, mask_max=mask_max), agnostic
    )

    erased = draw_class(labels, generator=generator())
    chosen = big[torch.arange(4), erased.argmax(1)]
    maximum = (
        chosen.max()
        if mask_max == "batch"
        else torch.stack([m.max() for m in chosen])[:, None, None]
    )
    expected = (chosen / (maximum + 1e-5)).unsqueeze(1)
    torch.testing.assert_close(
        class_specific_mask(cams, erased, size=size, mask_max=mask_max), expected
    )


@pytest.fixture
def step() -> dict[str, Tensor]:
    """One training step of KAIST-vilab/OC-CSE."""
    return {
        name: torch.from_numpy(array)
        for name, array in parity("cse_step").items()
        if array.dtype.kind == "f"
    }


def draw_like_the_reference(step: dict[str, Tensor]) -> torch.Generator:
    """A generator that draws the classes which the reference erased."""
    seeds = itertools.count()
    seed = next(
        s
        for s in seeds
        if torch.equal(draw_class(step["label"], generator=generator(s)), step["label_mask"])
    )
    return generator(seed)


def test_parity_of_mask_erased_image_and_remaining_labels(step: dict[str, Tensor]) -> None:
    mask, remaining = erasing_targets(
        step["cam_er"],
        step["label"],
        mode="cse",
        size=(64, 64),
        mask_max="batch",
        generator=draw_like_the_reference(step),
    )
    assert torch.equal(remaining, step["label"] - step["label_mask"])
    torch.testing.assert_close(mask, step["mask"], rtol=1e-4, atol=1e-5)
    assert mask.max().item() == pytest.approx(step["steps"][0, 3].item(), rel=1e-6)
    images = hashed("input.cse", (2, 3, 64, 64), scale=2.0)
    torch.testing.assert_close(erase(images, mask), step["img_masked"], rtol=1e-4, atol=2e-5)


def test_parity_of_the_maxima_per_image(step: dict[str, Tensor]) -> None:
    per_image = class_specific_mask(
        step["cam_er"], step["label_mask"], size=(64, 64), mask_max="image"
    )
    peaks = step["raw_mask_max_per_image"]
    rescaled = per_image * (peaks / peaks.max()).view(2, 1, 1, 1)
    torch.testing.assert_close(rescaled, step["mask"], rtol=1e-4, atol=1e-5)


def test_parity_of_the_losses(step: dict[str, Tensor]) -> None:
    weight, loss_all, loss_select = step["steps"][0, :3].tolist()
    remaining = step["label"] - step["label_mask"]
    parts = erasing_loss(step["out_er"], step["label"], step["out_cl"], remaining, lambda_=weight)
    assert parts["classification"].item() == pytest.approx(loss_all, rel=1e-5)
    assert parts["erasing"].item() == pytest.approx(loss_select, rel=1e-5)
    assert parts["loss"].item() == pytest.approx(loss_all + loss_select, rel=1e-5)

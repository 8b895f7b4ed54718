import numpy as np
import pytest
import torch
from parity_inputs import parity

from occse.networks.pairs import (
    affinity_label,
    affinity_loss,
    block_mean,
    pair_labels,
    pair_offsets,
    pair_views,
)


def test_offsets_are_the_half_disk_row_by_row() -> None:
    assert pair_offsets(2) == [(0, 1), (1, -1), (1, 0), (1, 1)]
    assert len(pair_offsets(5)) == 34
    assert pair_offsets(5)[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, -4)]
    # Distances below 5, not up to it; no pixel is its own partner and no pair comes twice.
    assert (3, 4) not in pair_offsets(5)
    both = {*pair_offsets(5), *((-dy, -dx) for dy, dx in pair_offsets(5))}
    assert both == {(y, x) for y in range(-9, 10) for x in range(-9, 10) if 0 < y * y + x * x < 25}


def test_pairs_of_a_small_map_are_listed_by_offset_and_source() -> None:
    source, partners = pair_views(torch.arange(9).view(3, 3), radius=2)
    assert source.tolist() == [[1], [4]]
    assert [partner.flatten().tolist() for partner in partners] == [[2, 5], [3, 6], [4, 7], [5, 8]]


@pytest.mark.parametrize("size", [(4, 9), (5, 8), (1, 1)])
def test_map_too_small_for_a_pair_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError,
        match=rf"{size[0]} x {size[1]} has no pairs at radius 5; expected at least 5 x 9",
    ):
        pair_labels(torch.zeros(2, *size, dtype=torch.uint8), radius=5)


def test_void_belongs_to_no_pair_and_classes_are_told_apart() -> None:
    labels = torch.tensor([[[0, 0, 3], [3, 3, 255], [255, 7, 0]]], dtype=torch.uint8)
    pairs = pair_labels(labels, radius=2)
    # Sources (0, 1) and (1, 1) of value 0 and 3; partners right, below left, below, below right.
    assert pairs.background[0].int().tolist() == [[0, 0]] * 4
    assert pairs.foreground[0].int().tolist() == [[0, 0]] * 4
    assert pairs.negative[0].int().tolist() == [[1, 0], [1, 0], [1, 1], [0, 1]]


def test_pair_labels_equal_a_loop_over_pairs() -> None:
    labels = torch.from_numpy(
        np.random.default_rng(0).choice([0, 1, 2, 255], (2, 7, 12)).astype(np.uint8)
    )
    radius = 3
    expected = []
    for image in labels.tolist():
        sources = [(y, x) for y in range(7 - 2) for x in range(2, 12 - 2)]
        rows = []
        for dy, dx in pair_offsets(radius):
            pairs = [(image[y][x], image[y + dy][x + dx]) for y, x in sources]
            rows.append(
                [
                    (a == b == 0, a == b and a not in (0, 255), a != b and 255 not in (a, b))
                    for a, b in pairs
                ]
            )
        expected.append(rows)
    found = torch.stack(pair_labels(labels, radius=radius), dim=-1)
    assert found.tolist() == [[[list(pair) for pair in row] for row in rows] for rows in expected]


def test_each_kind_of_pair_has_its_own_mean_and_weight() -> None:
    given = torch.tensor([[[0.5, 0.9, 0.1, 0.2]]])
    background, foreground, negative = torch.eye(4, dtype=torch.bool)[:3].view(3, 1, 1, 4)
    logs = [np.log(0.5), np.log(0.9), np.log(1 - 0.1)]
    expected = -(logs[0] / 4 + logs[1] / 4 + logs[2] / 2)
    assert affinity_loss(given, background, foreground, negative).item() == pytest.approx(
        expected, rel=1e-4
    )
    # A kind without pairs costs nothing; more equal pairs cost no more.
    nothing = torch.zeros_like(background)
    assert affinity_loss(given, nothing, nothing, nothing).item() == 0
    twice = affinity_loss(
        given.repeat(1, 1, 2),
        *(each.repeat(1, 1, 2) for each in (background, foreground, negative)),
    )
    assert twice.item() == pytest.approx(expected, rel=1e-4)


def test_loss_stays_finite_at_affinities_of_zero_and_one() -> None:
    given = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    every = torch.ones(1, 1, 2, dtype=torch.bool)
    loss = affinity_loss(given, every, every, every)
    loss.backward()
    assert loss.isfinite()
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_blocks_beyond_the_map_count_as_zero() -> None:
    scores = torch.ones(1, 3, 5)
    assert block_mean(scores, pool=2).tolist() == [[[1, 1, 0.5], [0.5, 0.5, 0.25]]]


def test_label_trusts_foreground_of_the_low_alpha_and_background_of_the_high() -> None:
    #                     fg   both say bg  only low says bg  nothing
    low = torch.tensor([[[0.1, 0.9, 0.6, 0.0]], [[0.2, 0.1, 0.4, 0.0]], [[0.7, 0.0, 0.3, 0.0]]])
    high = torch.tensor([[[0.0, 0.8, 0.3, 0.0]], [[0.2, 0.1, 0.4, 0.0]], [[0.8, 0.1, 0.3, 0.0]]])
    assert affinity_label(low, high, pool=1).tolist() == [[2, 0, 255, 255]]


def test_parity_of_labels_and_pairs() -> None:
    """jiwoon-ahn/psa: VOC12AffDataset and ExtractAffinityLabelInRadius."""
    arrays = parity("psa_affinity")
    label = affinity_label(torch.from_numpy(arrays["la"]), torch.from_numpy(arrays["ha"]), pool=8)
    np.testing.assert_array_equal(label.numpy(), arrays["label12"])
    for found, name in zip(
        pair_labels(label.unsqueeze(0), radius=5), ("bg", "fg", "neg"), strict=True
    ):
        np.testing.assert_array_equal(found[0].numpy(), arrays[name] == 1, err_msg=name)
    source, partners = pair_views(torch.arange(144).view(12, 12), radius=5)
    np.testing.assert_array_equal(source.flatten().numpy(), arrays["ind_from"])
    np.testing.assert_array_equal(torch.stack(partners).flatten().numpy(), arrays["ind_to"])

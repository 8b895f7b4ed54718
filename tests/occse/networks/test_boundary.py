import math

import pytest
import torch
from torch import Tensor

from occse.networks.boundary import BoundaryNet, path, path_affinities
from occse.networks.pairs import affinity_loss, pair_labels, pair_offsets
from occse.training.optimizer import Optimization, build_optimizer


def test_paths_are_lines_of_pixels_with_both_ends() -> None:
    assert path(0, 3) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    # The pixels beside a diagonal are 0.7 from it, so that no path slips through a diagonal
    # boundary.
    assert path(1, -1) == [(0, -1), (0, 0), (1, -1), (1, 0)]
    assert path(3, 3)[:2] == [(0, 0), (0, 1)]
    assert (0, 2) not in path(3, 3)


def test_path_affinities_equal_a_walk_along_every_line() -> None:
    boundaries = torch.rand(
        2, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    radius = 4
    expected = []
    for image in boundaries.tolist():
        sources = [(y, x) for y in range(7 - 3) for x in range(3, 12 - 3)]
        rows = []
        for dy, dx in pair_offsets(radius):
            box = [
                (y, x) for y in range(dy + 1) for x in (range(dx + 1) if dx > 0 else range(dx, 1))
            ]
            line = [(y, x) for y, x in box if abs(dy * x - dx * y) / math.hypot(dy, dx) < 1 - 1e-9]
            rows.append([1 - max(image[y + i][x + j] for i, j in line) for y, x in sources])
        expected.append(rows)
    assert path_affinities(boundaries, radius=radius).tolist() == expected


def test_a_wall_parts_what_lies_on_its_two_sides() -> None:
    boundaries = torch.zeros(1, 3, 7)
    boundaries[..., 3] = 1
    found = path_affinities(boundaries, radius=3)[0]
    columns = torch.arange(2, 5)  # of the sources, in the one row of them
    for (_, dx), pairs in zip(pair_offsets(3), found, strict=True):
        crosses = (torch.minimum(columns, columns + dx) <= 3) & (
            torch.maximum(columns, columns + dx) >= 3
        )
        assert pairs.tolist() == (~crosses).double().tolist(), dx


def test_the_gradient_reaches_the_highest_boundary_alone() -> None:
    boundaries = torch.tensor([[[0.1, 0.4, 0.3]]]).expand(1, 2, 3).clone()
    boundaries[0, 1] = 0.2
    boundaries.requires_grad_()
    path_affinities(boundaries, radius=2)[0, 0].sum().backward()  # from (0, 1) to (0, 2)
    assert boundaries.grad is not None
    assert boundaries.grad.nonzero().tolist() == [[0, 0, 1]]
    assert boundaries.grad[0, 0, 1] == -1


def test_only_the_head_learns_and_the_backbone_s_statistics_stay() -> None:
    model = BoundaryNet("tiny").train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(
        torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items()
    )
    learning = [
        name
        for name, value in model.named_parameters()
        if value.grad is not None and value.grad.any()
    ]
    assert learning == [name for name, _ in model.named_parameters() if name.startswith("head.")]


def test_boundaries_of_the_mirror_image_are_mirrored() -> None:
    torch.manual_seed(0)
    model, image = BoundaryNet("tiny").eval(), torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        found = model.boundaries(image)
        assert not torch.allclose(found, torch.sigmoid(model(image)))
        torch.testing.assert_close(model.boundaries(image.flip(-1)).flip(-1), found)


def half_and_half(count: int) -> tuple[Tensor, Tensor]:
    """Noisy images, dark above and bright below a row that differs, and their label maps at stride
    4.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 32, 32, generator=generator) * 0.1
    labels = torch.zeros(count, 8, 8, dtype=torch.uint8)
    for image, label, row in zip(images, labels, (2, 3, 5, 6), strict=True):
        image[:, 4 * row :] += 1
        label[row:] = 1
    return images, labels


def test_training_finds_the_boundary_that_no_label_shows() -> None:
    torch.manual_seed(0)
    model = BoundaryNet("tiny").train()
    images, labels = half_and_half(4)
    options = Optimization(
        optimizer="adamw",
        lr=0.003,
        momentum=0,
        weight_decay=0,
        poly_power=0,
        bias_lr=1,
        head_lr=10,
        freeze_bn=True,
        freeze_stem=True,
    )
    optimizer = build_optimizer(model, options)
    losses = []
    for _ in range(60):
        loss = affinity_loss(
            model.affinities(model(images), radius=3), *pair_labels(labels, radius=3)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    found = model.eval().boundaries(images).mean(dim=2)  # a boundary by row
    for profile, row in zip(found, (2, 3, 5, 6), strict=True):
        assert profile.argmax().item() in (row - 1, row)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_s16"])
def test_a_residual_network_gives_irn_s_five_levels(name: str) -> None:
    backbone = BoundaryNet(name).eval().backbone
    with torch.no_grad():
        levels = backbone.levels(torch.zeros(1, 3, 64, 96))
    strides = [4, 4, 8, backbone.stride, backbone.stride]
    assert [tuple(level.shape[1:]) for level in levels] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip((64, 256, 512, 1024, 2048), strides, strict=True)
    ]

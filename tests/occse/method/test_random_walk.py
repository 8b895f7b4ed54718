import time

import numpy as np
import pytest
import torch
from parity_inputs import hashed, parity
from torch import Tensor

from occse.method.random_walk import boundary_walk, random_walk, transition_matrix, walk_scores
from occse.networks.affinity import AffinityHead, AffinityNet, affinities
from occse.networks.backbones import Backbone
from occse.networks.boundary import BoundaryNet
from occse.networks.pairs import pair_offsets

RESNET38 = (512, 1024, 4096)


def random_affinities(size: tuple[int, int], radius: int, seed: int = 0) -> Tensor:
    features = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return affinities(features, radius=radius)[0]


def dense_affinity(pairs: Tensor, size: tuple[int, int], radius: int) -> Tensor:
    """The affinity matrix, pair by pair."""
    height, width = size
    matrix = torch.eye(height * width)
    sources = [
        (y, x) for y in range(height - radius + 1) for x in range(radius - 1, width - radius + 1)
    ]
    for p, (dy, dx) in enumerate(pair_offsets(radius)):
        for s, (y, x) in enumerate(sources):
            i, j = y * width + x, (y + dy) * width + x + dx
            matrix[i, j] = matrix[j, i] = pairs[p, s]
    return matrix


@pytest.mark.parametrize(
    ("size", "radius", "beta"), [((6, 9), 3, 8.0), ((4, 5), 2, 1.5), ((9, 12), 5, 3.0)]
)
def test_transition_equals_the_pairwise_construction(
    size: tuple[int, int], radius: int, beta: float
) -> None:
    pairs = random_affinities(size, radius)
    matrix = dense_affinity(pairs, size, radius) ** beta
    transition = transition_matrix(pairs, size=size, radius=radius, beta=beta).to_dense()
    torch.testing.assert_close(transition, matrix / matrix.sum(dim=0, keepdim=True))
    torch.testing.assert_close(transition.sum(dim=0), torch.ones(size[0] * size[1]))


def test_walk_equals_the_dense_power() -> None:
    size, steps = (8, 10), 16
    transition = transition_matrix(random_affinities(size, 4), size=size, radius=4, beta=2.0)
    scores = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    expected = scores.flatten(1) @ torch.linalg.matrix_power(transition.to_dense(), steps)
    torch.testing.assert_close(
        random_walk(transition, scores, steps=steps), expected.view(3, *size)
    )
    assert torch.equal(random_walk(transition, scores, steps=0), scores)


def test_map_too_small_for_a_pair_does_not_walk() -> None:
    size = (3, 7)
    transition = transition_matrix(random_affinities(size, 5), size=size, radius=5, beta=8.0)
    scores = torch.rand(2, *size)
    assert torch.equal(random_walk(transition, scores, steps=4), scores)


def test_similar_pixels_share_their_scores_and_strange_ones_do_not() -> None:
    features = torch.zeros(1, 1, 3, 12)
    features[..., 6:] = 100.0
    pairs = affinities(features, radius=2)[0]
    transition = transition_matrix(pairs, size=(3, 12), radius=2, beta=8.0)
    scores = torch.zeros(1, 3, 12)
    scores[0, 1, 2] = 1.0
    walked = random_walk(transition, scores, steps=64)[0]
    assert (walked[1, 1:6] > 0.01).all()
    assert (walked[:, 6:] < 1e-6).all()


class GivenTaps(Backbone):
    """Answers any image with the same taps, at the stride that fits them."""

    channels = RESNET38
    stride = 8

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.given = tuple(
            hashed(f"aff.w.conv{i}", (1, channels, *size), offset=0.5).relu()
            for i, channels in zip((4, 5, 6), RESNET38, strict=True)
        )

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert tuple(images.shape[2:]) == (80, 112)
        return self.given


@pytest.fixture(scope="module")
def official() -> AffinityNet:
    """jiwoon-ahn/psa's head on the recorded features of a 77 x 107 image."""
    network = AffinityNet("tiny")
    network.backbone, network.head = GivenTaps((10, 14)), AffinityHead(RESNET38)
    for name, weight in network.head.state_dict().items():
        gain = 4 if name == "f9.weight" else 1
        weight.copy_(
            hashed(f"aff.{name}", tuple(weight.shape), scale=gain * (3 / weight.shape[1]) ** 0.5)
        )
    return network.eval()


def test_parity_of_matrices_and_walk(official: AffinityNet) -> None:
    """jiwoon-ahn/psa, infer_aff: its dense matrices squared 8 times against 256 sparse steps."""
    arrays = parity("psa_affinity")
    with torch.no_grad():
        pairs = affinities(official(torch.zeros(1, 3, 80, 112)), radius=5)[0]
    sums = transition_matrix(pairs, size=(10, 14), radius=5, beta=1.0).to_dense()
    np.testing.assert_allclose(
        (sums / sums.diagonal()).numpy(), arrays["rw_aff_mat"], rtol=1e-4, atol=1e-5
    )
    transition = transition_matrix(pairs, size=(10, 14), radius=5, beta=8.0)
    np.testing.assert_allclose(
        transition.to_dense().numpy(), arrays["rw_trans1"], rtol=1e-4, atol=1e-5
    )
    scores = torch.from_numpy(arrays["rw_pooled"]).view(3, 10, 14)
    walked = random_walk(transition, scores, steps=256)
    # 256 steps add up the rounding of float32, here and in the reference: each is within 6e-5 of
    # the exact walk.
    np.testing.assert_allclose(walked.numpy(), arrays["rw_out"], rtol=3e-4, atol=1e-5)
    exact = transition_matrix(pairs.double(), size=(10, 14), radius=5, beta=8.0)
    walked = random_walk(exact, scores.double(), steps=256)
    np.testing.assert_allclose(walked.numpy(), arrays["rw_out"], rtol=1e-4, atol=1e-5)


def test_parity_of_the_pseudo_label(official: AffinityNet) -> None:
    """jiwoon-ahn/psa, infer_aff: padding, pooling, walk, enlargement and argmax."""
    arrays = parity("psa_affinity")
    (scores,) = walk_scores(
        official,
        torch.zeros(1, 3, 77, 107),
        torch.from_numpy(arrays["rw_cam"])[None],
        alpha=16,
        radius=5,
        beta=8,
        steps=256,
    )
    labels = np.array([0, *(arrays["rw_keys"] + 1)])
    np.testing.assert_array_equal(labels[scores.argmax(0).numpy()], arrays["rw_pred"])


def test_parity_of_the_walk_on_boundaries() -> None:
    """jiwoon-ahn/irn, propagate_to_edge: padding, paths, its dense matrices squared 8 times against
    256 steps.
    """
    edge, cam = (
        hashed("irn.edge", (1, 10, 14), scale=0.5, offset=0.5),
        hashed("irn.cam", (2, 10, 14), scale=0.5, offset=0.5),
    )
    arrays = parity("irn_walk")
    assert np.array_equal(edge.numpy(), arrays["edge"])
    assert np.array_equal(cam.numpy(), arrays["cam"])
    expected = arrays["rw"][:, 0]
    # As above: float32 adds up its rounding over 256 steps, here and in the reference.
    for dtype, tolerance in ((torch.float32, 3e-4), (torch.float64, 1e-4)):
        walked = boundary_walk(edge[0].to(dtype), cam.to(dtype), radius=5, beta=10, steps=256)
        np.testing.assert_allclose(walked.numpy(), expected, rtol=tolerance, atol=1e-5)


def test_no_score_passes_a_closed_boundary_or_leaves_the_map() -> None:
    boundaries, scores = torch.zeros(9, 11), torch.zeros(2, 9, 11)
    boundaries[:, 6] = 1
    scores[0, 4, 2] = 1
    scores[1, :, :6] = 1
    single, full = boundary_walk(boundaries, scores, radius=4, beta=1, steps=256)
    assert (single[:, :6] > 1e-3).all()
    assert not single[:, 6:].any()
    torch.testing.assert_close(full, scores[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", [AffinityNet, BoundaryNet])
@pytest.mark.parametrize("num_classes", [0, 1, 2])
def test_a_batch_gives_each_image_what_it_gets_alone(
    kind: type[AffinityNet | BoundaryNet], num_classes: int
) -> None:
    torch.manual_seed(0)
    network = kind("tiny").eval()
    images, cams = torch.randn(3, 3, 45, 50), torch.rand(3, num_classes, 45, 50)
    options = {"alpha": 4, "radius": 4, "beta": 8, "steps": 8}
    together = walk_scores(network, images, cams, **options)
    assert together.shape == (3, num_classes + 1, 45, 50)
    for i, scores in enumerate(together):
        alone = walk_scores(network, images[i : i + 1], cams[i : i + 1], **options)[0]
        torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)
    if num_classes == 0:
        assert not together.argmax(1).any(), "without classes all is background"


def test_a_batch_is_walked_as_one_graph_of_unconnected_images() -> None:
    size = (6, 9)
    pairs = torch.stack([random_affinities(size, 3, seed) for seed in (0, 1)])
    together = transition_matrix(pairs, size=size, radius=3, beta=2.0).to_dense()
    alone = [transition_matrix(each, size=size, radius=3, beta=2.0).to_dense() for each in pairs]
    torch.testing.assert_close(together, torch.block_diag(*alone))


def test_boundary_scores_are_divided_by_their_maximum_before_the_background_is_set() -> None:
    torch.manual_seed(0)
    cams = 0.1 * torch.rand(1, 2, 32, 32)
    options = {"radius": 4, "beta": 10, "steps": 16}
    scores = walk_scores(
        BoundaryNet("tiny").eval(), torch.randn(1, 3, 32, 32), cams, alpha=4.82, **options
    )[0]
    assert scores[1:].max().item() == pytest.approx(1)
    # irn's constant background of 0.25 decides alike.
    assert torch.equal(scores.argmax(0) > 0, scores[1:].amax(0) > 0.25)


def test_a_large_image_walks_on_a_sparse_matrix() -> None:
    """1024 x 1024 at stride 8: the dense matrix alone would take 1 GB, and its powers minutes."""
    size = (128, 128)
    transition = transition_matrix(random_affinities(size, 5), size=size, radius=5, beta=8.0)
    assert transition.values().numel() < 70 * 128 * 128
    scores = torch.rand(2, *size)
    scores[1] = 0.5
    spread, level = random_walk(transition, scores, steps=256)
    torch.testing.assert_close(level, scores[1], rtol=1e-4, atol=0)
    margin = slice(5, -5)  # without the corners, which are in no pair
    assert spread[margin, margin].std() < scores[0].std() / 3


def test_walk_of_a_small_image_takes_milliseconds() -> None:
    size = (20, 20)
    pairs, scores = random_affinities(size, 5), torch.rand(4, *size)

    def seconds() -> float:
        start = time.perf_counter()
        random_walk(transition_matrix(pairs, size=size, radius=5, beta=8.0), scores, steps=256)
        return time.perf_counter() - start

    # 10 ms measured; the bound leaves room for a machine that does other things too.
    assert min(seconds() for _ in range(10)) < 0.1


def test_boundaries_are_computed_on_images_padded_to_irn_s_crop() -> None:
    """irn pads images to 512 before its group norms, which average over the padding too."""
    torch.manual_seed(0)
    network = BoundaryNet("tiny").eval()
    images, cams = torch.randn(1, 3, 30, 46), torch.rand(1, 2, 30, 46)
    inputs: set[tuple[int, ...]] = set()
    network.register_forward_pre_hook(lambda _, given: inputs.add(tuple(given[0].shape[2:])))
    options = {"alpha": 4.0, "radius": 3, "beta": 10.0, "steps": 4}
    plain = walk_scores(network, images, cams, **options)
    padded = walk_scores(network, images, cams, **options, pad_to=64)
    assert inputs == {(32, 48), (64, 64)}
    assert plain.shape == padded.shape == (1, 3, 30, 46)
    assert not torch.equal(plain, padded)

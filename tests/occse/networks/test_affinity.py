from pathlib import Path

import numpy as np
import pytest
import torch
from parity_inputs import hashed, parity
from torch import Tensor

from occse.networks.affinity import (
    AffinityHead,
    AffinityNet,
    affinities,
    load_affinity_net,
    save_affinity_net,
)
from occse.networks.boundary import BoundaryNet
from occse.networks.classifier import Classifier, save_classifier
from occse.networks.pairs import affinity_loss, pair_views

RESNET38 = (512, 1024, 4096)


def official_head() -> AffinityHead:
    """ResNet38's head with the weights of the parity arrays."""
    head = AffinityHead(RESNET38)
    for name, weight in head.state_dict().items():
        gain = 4 if name == "f9.weight" else 1
        weight.copy_(
            hashed(f"aff.{name}", tuple(weight.shape), scale=gain * (3 / weight.shape[1]) ** 0.5)
        )
    return head


def official_taps(kind: str, size: tuple[int, int]) -> list[Tensor]:
    return [
        hashed(f"aff.{kind}.conv{i}", (1, channels, *size), offset=0.5).relu()
        for i, channels in zip((4, 5, 6), RESNET38, strict=True)
    ]


@pytest.mark.parametrize("size", [(4, 9), (5, 8), (1, 1)])
def test_map_too_small_for_a_pair_has_none(size: tuple[int, int]) -> None:
    assert affinities(torch.rand(2, 3, *size), radius=5).shape == (2, 34, 0)


def test_affinity_is_one_for_equal_features_and_falls_with_the_mean_distance() -> None:
    features = torch.zeros(1, 4, 2, 3)
    features[0, :2, 0, 2] = 3.0
    found = affinities(features, radius=2)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([-1.5, 0, 0, 0]).exp())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_affinities_and_their_gradient_equal_the_plain_formula(
    memory_format: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    features = (
        torch.rand(2, 6, 7, 12, dtype=torch.float64)
        .to(memory_format=memory_format)
        .requires_grad_()
    )
    found = affinities(features, radius=4)
    source, partners = pair_views(features, radius=4)
    expected = torch.stack(
        [(-(partner - source).abs().mean(1)).exp().flatten(1) for partner in partners], dim=1
    )
    torch.testing.assert_close(found, expected)
    weights = torch.rand_like(expected)
    gradients = [
        torch.autograd.grad((each * weights).sum(), features)[0] for each in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_head_never_widens_a_tap_and_interpolates_to_the_last() -> None:
    head = AffinityHead((8, 200, 300))
    assert [tuple(weight.shape[:2]) for weight in head.state_dict().values()] == [
        (8, 8),
        (128, 200),
        (256, 300),
        (392, 392),
    ]
    features = head([torch.rand(2, 8, 12, 10), torch.rand(2, 200, 6, 5), torch.rand(2, 300, 6, 5)])
    assert features.shape == (2, 392, 6, 5)


def test_head_starts_as_the_official_one() -> None:
    torch.manual_seed(0)
    weights = AffinityHead(RESNET38).state_dict()
    for name in ("f8_3", "f8_4", "f8_5"):
        weight = weights[f"{name}.weight"]
        assert weight.std().item() == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.05)
    bound = 4 * (6 / (448 + 448)) ** 0.5
    assert weights["f9.weight"].abs().max().item() == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("kind", [AffinityNet, BoundaryNet])
def test_saved_network_comes_back_as_what_it_was(
    kind: type[AffinityNet | BoundaryNet], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = kind("tiny")
    save_affinity_net(network, tmp_path / "model.safetensors")
    loaded = load_affinity_net(tmp_path / "model.safetensors")
    assert type(loaded) is kind
    assert not loaded.training
    saved = network.state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in loaded.state_dict().items())


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_classifier(Classifier("tiny", 5), tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"model\.safetensors holds no weights of build_affinity_net"
    ):
        load_affinity_net(tmp_path / "model.safetensors")


def test_parity_of_affinities_losses_and_gradients() -> None:
    """jiwoon-ahn/psa: resnet38_aff and train_aff."""
    arrays = parity("psa_affinity")
    head = official_head()
    found = affinities(head(official_taps("t", (12, 12))), radius=5)
    np.testing.assert_allclose(found.detach().numpy(), arrays["aff"], rtol=1e-4, atol=1e-5)
    pairs = [torch.from_numpy(arrays[name] == 1).unsqueeze(0) for name in ("bg", "fg", "neg")]
    nothing = torch.zeros_like(pairs[0])
    for i, weight in enumerate((4, 4, 2)):
        alone = [pair if i == j else nothing for j, pair in enumerate(pairs)]
        assert weight * affinity_loss(found, *alone).item() == pytest.approx(
            arrays["losses"][i], rel=1e-4
        )
    loss = affinity_loss(found, *pairs)
    assert loss.item() == pytest.approx(arrays["losses"][3], rel=1e-4)
    loss.backward()
    norms = [
        parameter.grad.norm().item()
        for parameter in head.parameters()
        if parameter.grad is not None
    ]
    np.testing.assert_allclose(norms, arrays["grad_norms"], rtol=1e-4)
    row = head.f9.weight.grad
    assert row is not None
    np.testing.assert_allclose(
        row[0].flatten().numpy(),
        arrays["grad_f9_row0"],
        rtol=1e-4,
        atol=1e-5 * np.abs(arrays["grad_f9_row0"]).max(),
    )

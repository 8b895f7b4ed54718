"""Every function of the method on a GPU, compared with the CPU.

`python -m pytest -m gpu` needs torch, torchvision, occse and its own dependencies, and no Ray,
MLflow or pandas. Everything is computed in float32 without TF32. OCCSE_GPU_DEVICE names another
device: with "cpu" the tests compare the CPU with itself, which shows that they work.
"""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from occse.method.cam import multi_scale_cam
from occse.method.crf import PRESETS, PresetName, dense_crf
from occse.method.crf_torch import dense_crf_batch
from occse.method.erasing import MaskMax, erase, erasing_loss, erasing_targets
from occse.method.random_walk import random_walk, transition_matrix, walk_scores
from occse.networks.affinity import AffinityNet, affinities
from occse.networks.boundary import BoundaryNet
from occse.networks.classifier import Classifier, logits
from occse.networks.deeplab import DeepLab, multi_scale_scores, segmentation_loss
from occse.networks.device_memory import in_portions
from occse.networks.pairs import affinity_loss, pair_labels

DEVICE = os.environ.get("OCCSE_GPU_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.startswith("cuda") and not torch.cuda.is_available(), reason="needs a GPU"
    ),
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Compute in float32 and not in TF32, whose 10 bits would be all that is compared."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution


def photographs(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
        smooth.append(np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return np.stack(smooth)


def assert_near(found: Tensor, expected: Tensor, *, share: float) -> None:
    """Compare by a share of the largest value."""
    bound = share * max(expected.abs().max().item(), 1e-6)
    difference = (found.cpu() - expected).abs().max().item()
    assert difference <= bound, f"{difference:.2e} is above {bound:.2e}"


@pytest.mark.parametrize("mode", ["cse", "class_agnostic"])
@pytest.mark.parametrize("mask_max", ["batch", "image"])
def test_step_of_cgnet_gives_the_cpu_s_mask_losses_and_gradients(
    mode: str, mask_max: MaskMax
) -> None:
    torch.manual_seed(0)
    start, oc_start = Classifier("tiny", 5).eval(), Classifier("tiny", 5).eval()
    weights, oc_weights = start.state_dict(), oc_start.state_dict()
    images = torch.randn(3, 3, 48, 48)
    labels = torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 0, 1]])
    results = []
    for device in ("cpu", DEVICE):
        model, oc = Classifier("tiny", 5).eval(), Classifier("tiny", 5).eval()
        model.load_state_dict(weights)
        oc.load_state_dict(oc_weights)
        model, oc = model.to(device), oc.to(device).requires_grad_(False)
        cams = model(images.to(device))
        mask, remaining = erasing_targets(
            cams,
            labels.to(device),
            mode=mode,
            size=(48, 48),
            mask_max=mask_max,
            generator=torch.Generator().manual_seed(1),
        )
        erased_logits = logits(oc(erase(images.to(device), mask)))
        parts = erasing_loss(logits(cams), labels.to(device), erased_logits, remaining, lambda_=1.0)
        parts["loss"].backward()
        gradients = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        results.append((mask.detach(), torch.stack(list(parts.values())).detach(), gradients))
    for expected, found in zip(*results, strict=True):
        assert_near(found, expected, share=1e-4)


def test_cams_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    network = Classifier("tiny", 4).eval()
    images = photographs(3, 60, 80)
    options = {"present": [[0, 2], [1], [3, 0]], "scales": (0.5, 1.0, 1.5), "flip": True}
    expected = multi_scale_cam(network, images, device="cpu", **options)
    on_device = in_portions(network.to(DEVICE), DEVICE)
    found = multi_scale_cam(on_device, images, device=DEVICE, **options)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("labels", [2, 21, 81])
def test_crf_gives_pydensecrf_s_labels(preset: PresetName, labels: int) -> None:
    rng = np.random.default_rng(labels)
    images = photographs(3, 59, 79)
    coarse = torch.from_numpy(rng.random((3, labels, 6, 8)).astype(np.float32))
    scores = torch.nn.functional.interpolate(coarse, (59, 79), mode="bilinear").numpy()
    found = dense_crf_batch(list(images), list(scores), preset=PRESETS[preset], device=DEVICE)
    for image, score, marginals in zip(images, scores, found, strict=True):
        expected = dense_crf(image, score, preset=PRESETS[preset])
        assert np.abs(marginals - expected).max() < 1 / 255
        np.testing.assert_array_equal(marginals.argmax(axis=0), expected.argmax(axis=0))


def test_walk_is_that_of_the_cpu() -> None:
    features = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    scores = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    expected, found = (
        random_walk(
            transition_matrix(
                affinities(features.to(device), radius=5), size=(20, 24), radius=5, beta=8.0
            ),
            scores.to(device),
            steps=256,
        )
        for device in ("cpu", DEVICE)
    )
    assert_near(found, expected, share=1e-5)


@pytest.mark.parametrize("kind", [AffinityNet, BoundaryNet])
def test_walked_scores_and_affinity_losses_are_those_of_the_cpu(
    kind: type[AffinityNet] | type[BoundaryNet],
) -> None:
    torch.manual_seed(0)
    network = kind("tiny").eval()
    images, cams = torch.randn(2, 3, 40, 56), torch.rand(2, 2, 40, 56)
    labels = torch.randint(0, 3, (2, 10, 14), dtype=torch.uint8)
    results = []
    for device in ("cpu", DEVICE):
        network = network.to(device)
        walked = walk_scores(
            network,
            images.to(device),
            cams.to(device),
            alpha=4.0,
            radius=3,
            beta=8.0,
            steps=16,
        )
        pairs = pair_labels(labels.to(device), radius=3)
        outputs = network(images.to(device))
        loss = affinity_loss(network.affinities(outputs, radius=3), *pairs)
        results.append((walked, loss.detach()))
    for expected, found in zip(*results, strict=True):
        assert_near(found, expected, share=1e-4)


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_segmentation_is_that_of_the_cpu(merge: str) -> None:
    torch.manual_seed(0)
    network = DeepLab("tiny", 5, width=16, dilation=4).eval()
    images = photographs(2, 50, 66)
    labels = torch.randint(0, 6, (2, 50, 66))
    options = {"scales": (0.75, 1.0), "flip": True, "merge": merge}
    expected = multi_scale_scores(network, images, device="cpu", **options)
    inputs = torch.randn(2, 3, 50, 66)
    expected_loss = segmentation_loss(network(inputs), labels).detach()
    network = network.to(DEVICE)
    found = multi_scale_scores(network, images, device=DEVICE, **options)
    assert_near(found, expected, share=1e-3)
    loss = segmentation_loss(network(inputs.to(DEVICE)), labels.to(DEVICE)).detach()
    assert_near(loss, expected_loss, share=1e-4)

from collections.abc import Callable

import numpy as np
import torch
from parity_inputs import parity
from torch import Tensor, nn

from occse.method.cam import multi_scale_cam

SCALES = (0.5, 1.0, 1.5, 2.0)


def network(num_classes: int = 5, seed: int = 0) -> nn.Module:
    """A strided convolution that is not symmetric, so that mirroring the image is not mirroring the
    maps.
    """
    torch.manual_seed(seed)
    return nn.Conv2d(3, num_classes, 3, stride=4, padding=1).eval()


def images(count: int = 2, seed: int = 0, size: tuple[int, int] = (21, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def recording(
    inner: Callable[[Tensor], Tensor], inputs: list[Tensor]
) -> Callable[[Tensor], Tensor]:
    def forward(batch: Tensor) -> Tensor:
        inputs.append(batch)
        return inner(batch)

    return forward


def test_maps_are_normalized_per_class_and_come_in_the_order_of_the_labels() -> None:
    forward, every = network(), multi_scale_cam
    both = every(forward, images(), present=[[3, 0], [1]], scales=SCALES, flip=True, device="cpu")
    assert [cam.shape for cam in both] == [(2, 21, 30), (1, 21, 30)]
    assert all(cam.dtype == np.float32 for cam in both)
    for cam in both:
        assert cam.min() >= 0
        np.testing.assert_allclose(cam.max(axis=(1, 2)), 1, atol=1e-3)
    swapped = every(
        forward, images(), present=[[0, 3], [1]], scales=SCALES, flip=True, device="cpu"
    )
    assert np.array_equal(swapped[0], both[0][::-1])


def test_batch_gives_each_image_what_it_gets_alone() -> None:
    forward, batch, present = network(), images(3), [[3, 0], [], [1, 2, 4]]
    together = multi_scale_cam(
        forward, batch, present=present, scales=SCALES, flip=True, device="cpu"
    )
    for i, cam in enumerate(together):
        (alone,) = multi_scale_cam(
            forward, batch[i : i + 1], present=[present[i]], scales=SCALES, flip=True, device="cpu"
        )
        np.testing.assert_allclose(cam, alone, atol=1e-5)


def test_mirrored_image_gives_mirrored_maps_only_with_flip() -> None:
    forward, batch = network(), images()
    mirrored = np.ascontiguousarray(batch[:, :, ::-1])
    for flip in (True, False):
        plain, other = (
            multi_scale_cam(
                forward, each, present=[[0, 1]] * 2, scales=(1.0,), flip=flip, device="cpu"
            )
            for each in (batch, mirrored)
        )
        assert np.allclose(plain[0], other[0][:, :, ::-1], atol=1e-5) == flip


def test_each_scale_is_one_batch_of_images_and_mirror_images() -> None:
    inputs: list[Tensor] = []
    multi_scale_cam(
        recording(network(), inputs),
        images(),
        present=[[0], [1]],
        scales=(0.5, 1.5),
        flip=True,
        device="cpu",
    )
    # 21 * 0.5 = 10.5 and 21 * 1.5 = 31.5 are rounded to the even neighbour.
    assert [tuple(each.shape) for each in inputs] == [(4, 3, 10, 15), (4, 3, 32, 45)]
    assert all(torch.equal(each[2:], each[:2].flip(-1)) for each in inputs)


def test_images_without_any_label_have_no_maps() -> None:
    cams = multi_scale_cam(
        network(), images(), present=[[], []], scales=(1.0,), flip=True, device="cpu"
    )
    assert [cam.shape for cam in cams] == [(0, 21, 30)] * 2


def test_class_that_is_nowhere_active_stays_zero() -> None:
    def silent(batch: Tensor) -> Tensor:
        return -torch.ones(len(batch), 2, 4, 4)

    (cam,) = multi_scale_cam(
        silent, images(1), present=[[1]], scales=(1.0,), flip=True, device="cpu"
    )
    assert not cam.any()


def test_parity_with_the_official_inference() -> None:
    """KAIST-vilab/OC-CSE: VOC12ClsDatasetMSF and infer_msf, 8 passes; the network answers with the
    recorded maps.
    """
    arrays = parity("msf_merge")
    inputs: list[Tensor] = []

    def answer(batch: Tensor) -> Tensor:
        first = 2 * (len(inputs) - 1)
        return torch.from_numpy(
            np.concatenate([arrays[f"rawcam_{first}"], arrays[f"rawcam_{first + 1}"]])
        )

    (cam,) = multi_scale_cam(
        recording(answer, inputs),
        arrays["image"][None],
        present=[arrays["keys"].tolist()],
        scales=SCALES,
        flip=True,
        device="cpu",
    )
    for i in range(8):
        np.testing.assert_allclose(inputs[i // 2][i % 2].numpy(), arrays[f"input_{i}"], atol=1e-6)
    np.testing.assert_allclose(cam, arrays["norm_cam"], rtol=1e-4, atol=1e-5)

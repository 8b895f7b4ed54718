"""Batches that follow from memory, with a device whose memory is made up."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from occse.method.cam import multi_scale_cam
from occse.networks.classifier import Classifier
from occse.networks.device_memory import HostMeter, Portions, in_portions


class MadeUp:
    """A device of `total` bytes on which an image takes `each`; `honest` tells it beforehand."""

    def __init__(self, total: int, each: int, *, honest: bool = True) -> None:
        self.total, self.each, self.honest = total, each, honest
        self.portions: list[int] = []

    def free(self) -> int | None:
        return self.total

    def taken_by(self, call: Callable[[], Tensor]) -> tuple[Tensor, int]:
        return call(), self.each * self.portions[-1] if self.honest else 1

    def network(self, images: Tensor) -> Tensor:
        self.portions.append(len(images))
        if len(images) * self.each > self.total:
            raise torch.OutOfMemoryError("made up")
        return images.mean((2, 3)) * 2


IMAGES = torch.arange(20.0).view(20, 1, 1, 1).expand(20, 3, 4, 5)


def test_portions_follow_from_the_measured_image_and_the_free_memory() -> None:
    device = MadeUp(total=1000, each=100)
    portions = Portions(device)
    result = portions(device.network, IMAGES, size=(4, 5))
    torch.testing.assert_close(result, IMAGES.mean((2, 3)) * 2)
    # One image is measured; eight take 80 % of the memory.
    assert device.portions == [1, 8, 8, 3]
    device.portions.clear()
    portions(device.network, IMAGES, size=(4, 5))
    assert device.portions == [8, 8, 4], "a known size is not measured again"


def test_portions_that_do_not_fit_are_halved_and_the_limit_is_remembered() -> None:
    device = MadeUp(total=500, each=100, honest=False)
    portions = Portions(device)
    result = portions(device.network, IMAGES, size=(4, 5))
    torch.testing.assert_close(result, IMAGES.mean((2, 3)) * 2)
    assert device.portions == [1, 19, 9, 4, 4, 4, 4, 3]
    assert portions.limits == {(4, 5): 4}


def test_each_size_has_a_limit_of_its_own() -> None:
    device = MadeUp(total=1000, each=300)
    portions = Portions(device)
    portions(device.network, IMAGES, size=(4, 5))
    portions(device.network, IMAGES, size=(8, 9))
    assert set(portions.limits) == {(4, 5), (8, 9)}


def test_one_image_that_does_not_fit_is_an_error_with_its_size() -> None:
    device = MadeUp(total=50, each=100)
    with pytest.raises(ValueError, match=r"one image of 400 x 500 \(height x width\) does not fit"):
        Portions(device)(device.network, IMAGES, size=(400, 500))


def test_a_cpu_takes_a_batch_as_it_is() -> None:
    sizes: list[int] = []

    def network(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images

    assert torch.equal(in_portions(network, "cpu")(IMAGES), IMAGES)
    assert sizes == [20]
    assert HostMeter().free() is None


def test_cams_do_not_depend_on_the_portions() -> None:
    torch.manual_seed(0)
    network = Classifier("tiny", 4).eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3)).astype(np.uint8)
    options = {"present": [[0, 2]] * 5, "scales": (0.5, 1.0, 2.0), "flip": True, "device": "cpu"}
    whole = multi_scale_cam(network, images, **options)
    device = MadeUp(total=300, each=100)
    portions = Portions(device)

    def limited(batch: Tensor) -> Tensor:
        def counted(part: Tensor) -> Tensor:
            device.network(part)
            return network(part)

        return portions(counted, batch, size=tuple(batch.shape[2:]))

    parts = multi_scale_cam(limited, images, **options)
    assert max(device.portions) <= 3
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)

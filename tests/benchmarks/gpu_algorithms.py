"""Algorithms and data of `bench_gpu.py`: the official ones, and ours on a batch that is there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from occse.data.layouts.voc import VOC_CLASSES, write_label_map
from occse.data.normalize import to_tensor
from occse.networks.classifier import Classifier, logits
from occse.networks.names import Precision
from occse.training.adversarial import ErasingChoices, adversarial_loss
from occse.training.loop import Step
from occse.training.optimizer import Optimization, build_optimizer, set_training
from occse.training.parallel import Spread

NUM_CLASSES = len(VOC_CLASSES)
# Most images of VOC have one of these sizes.
SIZES = ((375, 500), (500, 375), (333, 500))
# The official code's, with a rate that leaves the random weights where they are.
OPTIMIZATION = Optimization(
    optimizer="sgd",
    lr=1e-5,
    momentum=5e-4,
    weight_decay=5e-4,
    poly_power=0.9,
    bias_lr=2.0,
    head_lr=1.0,
    freeze_bn=True,
    freeze_stem=True,
)
ERASING = ErasingChoices(
    mode="cse",
    lambda_start=0.3,
    lambda_slope=0.0,
    mask_max="batch",
    mask_threshold=None,
    remaining="labels",
    weights=None,
)


def photographs(count: int, height: int, width: int) -> np.ndarray:
    """Smooth random colours."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        images.append(np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return np.stack(images)


def official_step(
    model: Classifier, oc: Classifier, images: Tensor, labels: Tensor
) -> Callable[[], object]:
    """The official step: all maps enlarged, the classifier trainable, losses read at once."""
    model, oc = (network.to(memory_format=torch.contiguous_format) for network in (model, oc))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=5e-4, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        cams = model(images)
        enlarged = functional.relu(
            functional.interpolate(cams, images.shape[2:], mode="bilinear", align_corners=False)
        )
        remaining = labels.clone()
        masks = []
        for index in range(len(images)):
            present = labels[index].nonzero().flatten()
            drawn = present[torch.randint(len(present), (1,), generator=generator).item()]
            remaining[index, drawn] = 0
            masks.append(enlarged[index, drawn])
        mask = torch.stack(masks)[:, None]
        mask = mask / (mask.max() + 1e-5)
        answer = logits(oc(images * (1 - mask)))
        bce = functional.binary_cross_entropy_with_logits
        parts = bce(logits(cams), labels), 0.3 * bce(answer, remaining)
        optimizer.zero_grad()
        (parts[0] + parts[1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for part in parts:
            part.item()

    return step


def our_step(
    model: Classifier, oc: Classifier, images: Tensor, labels: Tensor, *, precision: Precision
) -> Callable[[], object]:
    """The stage's own loss and optimizer, on a batch that is there already.

    Args:
        model: CGNet, on the device.
        oc: the classifier, on the device.
        images: on the device.
        labels: on the CPU.
        precision: that the networks compute in.
    """
    oc.requires_grad_(False)
    optimizer = build_optimizer(model, OPTIMIZATION)
    set_training(model, OPTIMIZATION)
    loss = adversarial_loss(model, oc, ERASING)
    spread = Spread(model, batch_size=len(images), parts=1, precision=precision)
    batch = (images.to(memory_format=torch.channels_last), labels.to(images.device))
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        at = Step(number=0, epoch=0, generator=generator, on_host=(labels,), spread=spread)
        parts = loss(batch, at)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


@torch.no_grad()
def official_cam(
    network: Classifier, image: np.ndarray, scales: tuple[float, ...], *, device: str
) -> np.ndarray:
    """The official inference: one image and one view at a time, all classes, summed in numpy."""
    height, width = image.shape[:2]
    total = np.zeros((NUM_CLASSES, height, width), np.float32)
    for scale in scales:
        size = round(width * scale), round(height * scale)
        view = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        for mirrored in (False, True):
            inputs = to_tensor(view[None])
            maps = network((inputs.flip(-1) if mirrored else inputs).to(device))
            full = functional.interpolate(maps, (height, width), mode="bilinear")[0]
            found = functional.relu(full).cpu().numpy()
            total += found[:, :, ::-1] if mirrored else found
    normalized: np.ndarray = total / (total.max(axis=(1, 2), keepdims=True) + 1e-5)
    return normalized


def write_voc(root: Path, count: int, *, part: float = 1.0) -> Path:
    """Draw a tree in VOC's layout; a quarter of the images is `val`. Sides are `part` of VOC's."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"image_{index:04d}" for index in range(count)]
    for index, name in enumerate(names):
        height, width = (round(part * side) for side in SIZES[index % len(SIZES)])
        image = Image.fromarray(photographs(1, height, width)[0]).rotate(index % 4)
        image.save(root / "JPEGImages" / f"{name}.jpg")
        label = index % NUM_CLASSES
        text = f"<annotation><object><name>{VOC_CLASSES[label]}</name></object></annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 8 : height // 2, width // 8 : width // 2] = label + 1
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask)
    val = names[: max(2, count // 4)]
    train = names[len(val) :]
    splits = {"train_aug": train, "train": train[: max(2, count // 8)], "val": val}
    for split, listed in splits.items():
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(listed) + "\n")
    return root

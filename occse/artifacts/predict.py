"""Results of a trained network for new images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps

from occse.artifacts.panels import overlay
from occse.data.layouts.voc import write_label_map
from occse.data.view_names import Resampling
from occse.method.cam import multi_scale_cam
from occse.method.crf import PRESETS, PresetName, dense_crf
from occse.networks.checkpoint import read_metadata
from occse.networks.classifier import load_classifier, logits
from occse.networks.deeplab import load_deeplab, multi_scale_scores
from occse.networks.device_memory import in_portions
from occse.networks.names import Precision
from occse.networks.precision import in_precision

# A class is said to be in an image from this probability on.
PRESENT = 0.5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Way from an image to its result.

    Attributes:
        model: file of the network.
        classes: names of the foreground classes.
        scales: sizes of the image at which the network runs.
        flip: run it on the mirror image too.
        merge: mean of the scores, or maximum of the probabilities; of segmentations.
        resampling: way in which images are scaled; of segmentations.
        crf: preset of a dense CRF on the scores, or "none"; of segmentations.
        precision: precision that the network computes in.
        device: torch's name of the device.
    """

    model: Path
    classes: tuple[str, ...]
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge: Literal["mean", "max"] = "mean"
    resampling: Resampling = "pillow"
    crf: Literal["none", PresetName] = "none"
    precision: Precision = "float32"
    device: str = "cpu"

    def with_knobs(self, config: dict[str, Any]) -> "Recipe":
        """Return the recipe with those knobs of a stage that it has."""
        names = ("scales", "flip", "merge", "resampling", "crf", "precision")
        known = {name: config[name] for name in names if name in config}
        return replace(self, **known | {"scales": tuple(known.get("scales", self.scales))})


def predict(recipe: Recipe, images: Sequence[Path], out: Path) -> Iterator[Path]:
    """Write the results of `images` into `out`, and yield the files as they are written.

    A segmentation network writes NAME.png, labels with VOC's palette. A classifier writes
    NAME_CLASS.png for each class that it sees, its map over the image.

    Raises:
        ValueError: the file is not a network of these, or an image cannot be read or does not fit
            into the memory of the device.
    """
    architecture = read_metadata(recipe.model)
    if "network" in architecture:
        raise ValueError(
            f"{recipe.model} is a network of the stage affinity, which labels no image; "
            "expected one of deeplab, cgnet or oc"
        )
    # Of all our networks only DeepLab's description names a head, and only AffinityNet's a network.
    make = _segmentations if "head" in architecture else _maps
    for path, picture in make(recipe, images):
        target = out / path
        if picture.ndim == 2:
            write_label_map(target, picture)
        else:
            Image.fromarray(picture).save(target)
        yield target


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as RGB, turned as its EXIF orientation says.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from None


def _check_scales(path: Path, image: UInt8[np.ndarray, "H W 3"], scales: Sequence[float]) -> None:
    """Raise ValueError if a scale leaves no pixel of an image."""
    height, width = image.shape[:2]
    for scale in scales:
        if round(scale * min(height, width)) < 1:
            raise ValueError(
                f"{path} is {height} x {width} (height x width), and the scale {scale:g} leaves no "
                "pixel of it; --scales gives larger ones"
            )


def _segmentations(recipe: Recipe, images: Sequence[Path]) -> Iterator[tuple[str, np.ndarray]]:
    network = load_deeplab(recipe.model, device=recipe.device)
    compute = in_portions(in_precision(network, recipe.precision), recipe.device)
    for path in images:
        image = read_image(path)
        _check_scales(path, image, recipe.scales)
        scores = multi_scale_scores(
            compute,
            image[None],
            scales=recipe.scales,
            flip=recipe.flip,
            merge=recipe.merge,
            resampling=recipe.resampling,
            align_corners=network.align_corners,
            device=recipe.device,
        )
        score: Float32[np.ndarray, "L H W"] = scores[0].cpu().numpy()
        if recipe.crf != "none":
            score = dense_crf(image, score, preset=PRESETS[recipe.crf])
        yield f"{path.stem}.png", score.argmax(0).astype(np.uint8)


def _maps(recipe: Recipe, images: Sequence[Path]) -> Iterator[tuple[str, np.ndarray]]:
    # Imported here, as the reader of a segmentation does without.
    import torch

    from occse.data.normalize import to_tensor

    network = load_classifier(recipe.model, device=recipe.device)
    compute = in_portions(in_precision(network, recipe.precision), recipe.device)
    for path in images:
        image = read_image(path)
        _check_scales(path, image, recipe.scales)
        with torch.inference_mode():
            scores = logits(compute(to_tensor(image[None]).to(recipe.device)))[0].sigmoid()
        # Where no class is seen, the likeliest one is shown: a run without a file would look
        # failed.
        present = (scores > PRESENT).nonzero().flatten().tolist() or [int(scores.argmax())]
        (cams,) = multi_scale_cam(
            compute,
            image[None],
            present=[present],
            scales=recipe.scales,
            flip=recipe.flip,
            device=recipe.device,
        )
        for index, cam in zip(present, cams, strict=True):
            yield f"{path.stem}_{recipe.classes[index]}.png", overlay(image, cam)

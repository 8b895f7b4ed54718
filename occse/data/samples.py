"""Training samples of the networks: views of images, with the labels that each network learns."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torch.nn import functional

from occse.data.dataset import VOID, Dataset
from occse.data.normalize import to_tensor
from occse.data.resize import resize, scaled_size
from occse.data.transforms import (
    classification_view,
    color_jitter,
    random_crop,
    segmentation_view,
    uniform,
)
from occse.data.view_names import Padding, Resampling

# A black pixel as the networks see it, (3, 1, 1).
BLACK = to_tensor(np.zeros((1, 1, 3), np.uint8))


class LabelledImages:
    """Views with image labels: (3, crop, crop) and multi-hot (C,)."""

    def __init__(
        self,
        dataset: Dataset,
        names: Sequence[str],
        *,
        long_side: tuple[int, int],
        jitter: float,
        hue: float,
        crop: int,
    ) -> None:
        self.dataset = dataset
        self.names = names
        self.targets = torch.from_numpy(dataset.targets(names))
        self.long_side = long_side
        self.jitter = jitter
        self.hue = hue
        self.crop = crop

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return a classification view of image `index`, and its labels."""
        view = classification_view(
            self.dataset.image(self.names[index]),
            long_side=self.long_side,
            jitter=self.jitter,
            hue=self.hue,
            crop=self.crop,
            generator=generator,
        )
        return view, self.targets[index]


class LabelMapImages:
    """Views with a label map: (3, crop, crop) and (crop, crop).

    `labels(name)` returns the label map of an image.
    """

    def __init__(
        self,
        dataset: Dataset,
        names: Sequence[str],
        labels: Callable[[str], UInt8[np.ndarray, "H W"]],
        *,
        scale: tuple[float, float],
        resampling: Resampling,
        crop: int,
    ) -> None:
        self.dataset = dataset
        self.names = names
        self.labels = labels
        self.scale = scale
        self.resampling = resampling
        self.crop = crop

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return a segmentation view of image `index`, and its label map."""
        name = self.names[index]
        return segmentation_view(
            self.dataset.image(name),
            self.labels(name),
            scale=self.scale,
            resampling=self.resampling,
            crop=self.crop,
            generator=generator,
        )


class AffinityImages:
    """Views with the affinity labels of the crop: (3, crop, crop) and (crop / pool, crop / pool).

    `scores(name)` returns the CRF scores of L labels at the low and at the high alpha, as one array
    (2 * L, H, W), and the value of each label. `label` makes positions among the L, or void, of the
    cropped scores. Scores are cropped before they are pooled, so that no pooled cell lies across
    the edge of the crop.
    """

    def __init__(
        self,
        dataset: Dataset,
        names: Sequence[str],
        scores: Callable[[str], tuple[Tensor, Tensor]],
        label: Callable[[Tensor], Tensor],
        *,
        scale: tuple[float, float],
        jitter: float,
        hue: float,
        crop: int,
        padding: Padding,
    ) -> None:
        self.dataset = dataset
        self.names = names
        self.scores = scores
        self.label = label
        self.scale = scale
        self.jitter = jitter
        self.hue = hue
        self.crop = crop
        self.fill = BLACK if padding == "black" else 0.0

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return a rescaled, jittered and flipped crop of image `index`, and its labels."""
        name = self.names[index]
        image = self.dataset.image(name)
        scores, values = self.scores(name)
        # psa's views are not rescaled, and take no random number for it.
        if self.scale != (1.0, 1.0):
            factor = uniform(*self.scale, generator)
            image = resize(image, scaled_size(image.shape[:2], factor))
            scores = functional.interpolate(
                scores[None], image.shape[:2], mode="bilinear", align_corners=False
            )[0]
        image = color_jitter(image, jitter=self.jitter, hue=self.hue, generator=generator)
        maps = to_tensor(image), scores
        if torch.rand((), generator=generator) < 0.5:
            maps = maps[0].flip(-1), maps[1].flip(-1)
        view, scores = random_crop(maps, (self.fill, 0.0), crop=self.crop, generator=generator)
        # A table from positions to labels, in which void stays void.
        value_of = torch.full((VOID + 1,), VOID, dtype=torch.uint8)
        value_of[: len(values)] = values
        return view, value_of[self.label(scores).long()]

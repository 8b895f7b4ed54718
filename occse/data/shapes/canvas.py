"""A canvas at twice the size of the image, and the poses, textures and noise that go on it."""

import colorsys
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from occse.data.dataset import VOID
from occse.data.shapes.objects import TEXTURES, Coordinate, Region

# Canvas pixels per image pixel, in both directions: enough for smooth outlines.
OVERSAMPLING = 2

Rng = np.random.Generator
Window = tuple[slice, slice]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Colours in [0, 1], labels and parts, at twice the size of the image.

    `x` and `y` are the centres of the canvas's pixels, in pixels of the image.
    """

    x: Float32[np.ndarray, "n n"]
    y: Float32[np.ndarray, "n n"]
    colour: Float32[np.ndarray, "n n 3"]
    labels: UInt8[np.ndarray, "n n"]
    parts: UInt8[np.ndarray, "n n"]

    @classmethod
    def empty(cls, size: int) -> "Canvas":
        """Return a black canvas for an image of `size` x `size` pixels."""
        n = size * OVERSAMPLING
        x, y = _grid(n)
        labels, parts = np.zeros((2, n, n), np.uint8)
        return cls(x=x, y=y, colour=np.zeros((n, n, 3), np.float32), labels=labels, parts=parts)

    def window(self, x: float, y: float, reach: float) -> Window:
        """Return the square of half side `reach` around a point, cut at the borders.

        Drawing inside a window saves the time of computing the whole canvas.
        """
        return self._span(y, reach), self._span(x, reach)

    def _span(self, middle: float, reach: float) -> slice:
        low = math.floor((middle - reach) * OVERSAMPLING)
        high = math.ceil((middle + reach) * OVERSAMPLING)
        # A slice stops at the canvas by itself, but a negative end counts from the far side.
        return slice(max(low, 0), max(high, 0))

    def paint(
        self,
        window: Window,
        region: Region,
        colour: Float32[np.ndarray, "*N 3"],
        *,
        label: int = 0,
        part: int = 0,
    ) -> None:
        """Cover a region of a window, with one colour or a colour for each of its pixels."""
        self.colour[window][region] = colour
        self.labels[window][region] = label
        self.parts[window][region] = part

    def average(self) -> Float32[np.ndarray, "H W 3"]:
        """Return the colours at the size of the image."""
        # Sums of float32 depend on their order, and a drawing has the same pixels on any machine.
        rows = self.colour[::2] + self.colour[1::2]
        average: Float32[np.ndarray, "H W 3"] = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
        return average

    def pure_labels(self) -> UInt8[np.ndarray, "H W"]:
        """Return the labels at the size of the image, void where a pixel shows more than one."""
        first = self.labels[::2, ::2]
        right, below = self.labels[::2, 1::2], self.labels[1::2, ::2]
        diagonal = self.labels[1::2, 1::2]
        pure = (first == right) & (first == below) & (first == diagonal)
        return np.where(pure, first, np.uint8(VOID))


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Position of an object: centre and half extent in pixels, and angle in radians.

    `flip` is -1 if the object is mirrored, otherwise 1.
    """

    x: float
    y: float
    half_extent: float
    angle: float
    flip: int

    def to_object(self, x: Coordinate, y: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return the object coordinates of points of the image."""
        u, v = turn(x - self.x, y - self.y, self.angle)
        return u * (self.flip / self.half_extent), v / self.half_extent

    def to_image(self, u: float, v: float) -> tuple[float, float]:
        """Return the point of the image with these object coordinates."""
        cos, sin = math.cos(self.angle) * self.half_extent, math.sin(self.angle) * self.half_extent
        return self.x + cos * u * self.flip - sin * v, self.y + sin * u * self.flip + cos * v


@dataclass(frozen=True, kw_only=True)
class Texture:
    """The texture of a class's bodies at a random angle, with a period of 5 to 7.5 pixels."""

    index: int
    period: float
    angle: float
    phase: float
    contrast: float

    @classmethod
    def random(cls, rng: Rng, index: int, *, contrast: Range) -> "Texture":
        """Draw the texture of class `index`, with a contrast from the range."""
        # In this order: the draws are the data set.
        period = rng.uniform(5, 7.5)
        angle = rng.uniform(0, math.pi)
        phase = rng.uniform()
        return cls(
            index=index, period=period, angle=angle, phase=phase, contrast=rng.uniform(*contrast)
        )

    def at(self, x: Coordinate, y: Coordinate) -> Coordinate:
        """Return the brightness that the texture adds at points of the image."""
        a, b = turn(x, y, self.angle)
        brightness = TEXTURES[self.index](
            a / self.period + self.phase, b / self.period + 0.37 * self.phase
        )
        return brightness * self.contrast


def turn(x: Coordinate, y: Coordinate, angle: float) -> tuple[Coordinate, Coordinate]:
    """Return coordinates along axes that are turned by `angle`."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def rgb(hue: float, saturation: float, value: float) -> Float32[np.ndarray, "3"]:
    """Return a colour; hues repeat with period 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def random_rgb(rng: Rng, saturation: Range, value: Range) -> Float32[np.ndarray, "3"]:
    """Draw a colour of any hue."""
    return rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))


def smooth_noise(rng: Rng, n: int, num_cells: int) -> Float32[np.ndarray, "n n"]:
    """Draw normal noise on a coarse grid, interpolated bicubically to n x n."""
    coarse = Image.fromarray(rng.standard_normal((num_cells, num_cells)).astype(np.float32))
    # Two matrix products would be faster, but round differently from machine to machine.
    return np.asarray(coarse.resize((n, n), Image.Resampling.BICUBIC))


@cache
def _grid(n: int) -> tuple[Float32[np.ndarray, "n n"], Float32[np.ndarray, "n n"]]:
    centres = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / OVERSAMPLING
    x, y = np.meshgrid(centres, centres)
    # All drawings of this process share them.
    x.flags.writeable = y.flags.writeable = False
    return x, y

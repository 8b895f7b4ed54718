"""Silhouettes, textures and heads of the embedded data set's objects, one of each per class.

Object coordinates (u, v) are in half extents from the object's centre, u to the right and v down.
Head coordinates are in head radii from the head's centre.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32

SHAPES_CLASSES = ("beetle", "fish", "cart", "sofa", "plant")
# Mean hue of the bodies of each class, in [0, 1).
HUES = (0.08, 0.55, 0.95, 0.75, 0.33)
# Centre of the head of each class, in object coordinates.
HEAD_POSITIONS = ((0.72, 0.0), (0.55, -0.05), (0.62, 0.12), (-0.05, 0.02), (0.05, -0.40))
# No silhouette reaches further from the object's centre, in half extents.
REACH = 1.2
# No head reaches further from its centre, in head radii.
HEAD_REACH = 1.3

Coordinate = Float32[np.ndarray, "..."]
Region = Bool[np.ndarray, "..."]


def _beetle(u: Coordinate, v: Coordinate, jitter: Sequence[float]) -> tuple[Region, Region]:
    """An ellipse on six legs that lean."""
    body = (u / (0.80 + 0.08 * jitter[0])) ** 2 + (v / (0.50 + 0.08 * jitter[1])) ** 2 < 1
    along = u - 0.25 * jitter[2] * np.abs(v)
    legs = (np.abs(along + 0.45) < 0.055) | (np.abs(along) < 0.055) | (np.abs(along - 0.4) < 0.055)
    return body, legs & (np.abs(v) < 0.85) & ~body


def _fish(u: Coordinate, v: Coordinate, jitter: Sequence[float]) -> tuple[Region, Region]:
    """A long ellipse and a tail that widens; no limbs."""
    trunk = ((u - 0.1) / 0.75) ** 2 + (v / (0.38 + 0.07 * jitter[1])) ** 2 < 1
    tail = (u < -0.45) & (u > -1) & (np.abs(v) < 0.10 - (u + 0.45) * (0.8 + 0.2 * jitter[0]))
    return trunk | tail, np.zeros_like(trunk)


def _cart(u: Coordinate, v: Coordinate, jitter: Sequence[float]) -> tuple[Region, Region]:
    """A box with a cabin; the limbs are two wheels."""
    box = (np.abs(u) < 0.90) & (v > -0.10 + 0.08 * jitter[0]) & (v < 0.48)
    cabin = (u > -0.55 + 0.2 * jitter[1]) & (u < 0.45) & (v > -0.62) & (v < 0)
    wheels = (np.abs(u) - 0.5) ** 2 + (v - 0.55) ** 2 < 0.22**2
    return (box | cabin) & ~wheels, wheels


def _sofa(u: Coordinate, v: Coordinate, jitter: Sequence[float]) -> tuple[Region, Region]:
    """Back, seat and two arms; the limbs are two feet."""
    side = np.abs(u)
    back = (side < 0.75) & (v > -0.62 + 0.1 * jitter[0]) & (v < 0.2)
    seat = (side < 0.92) & (v > 0) & (v < 0.55)
    arms = (np.abs(side - 0.84) < 0.13) & (v > -0.22) & (v < 0.6)
    body = back | seat | arms
    feet = (np.abs(side - 0.75) < 0.07) & (v >= 0.55) & (v < 0.72)
    return body, feet & ~body


def _plant(u: Coordinate, v: Coordinate, jitter: Sequence[float]) -> tuple[Region, Region]:
    """Five round bushes; the limbs are trunk and pot."""
    body = np.zeros(u.shape, bool)
    for turn in range(5):
        angle = turn * 2 * np.pi / 5 + jitter[0]
        across, down = 0.36 * float(np.cos(angle)), -0.28 + 0.30 * float(np.sin(angle))
        body |= (u - across) ** 2 + (v - down) ** 2 < (0.38 + 0.05 * jitter[1]) ** 2
    trunk = (np.abs(u) < 0.09) & (v > 0.1) & (v < 0.7)
    pot = (np.abs(u) < 0.26 + 0.1 * (1 - v)) & (v > 0.62) & (v < 0.98)
    return body, (trunk | pot) & ~body


def _fraction(a: Coordinate) -> Coordinate:
    fraction: Coordinate = a - np.floor(a)
    return fraction


def _signs(positive: Region) -> Coordinate:
    return np.where(positive, np.float32(1), np.float32(-1))


def _stripes(a: Coordinate, b: Coordinate) -> Coordinate:
    return _signs(_fraction(a) < 0.5)


def _dots(a: Coordinate, b: Coordinate) -> Coordinate:
    inside = (_fraction(a) - 0.5) ** 2 + (_fraction(b) - 0.5) ** 2 < 0.30**2
    return np.where(inside, np.float32(1), np.float32(-0.4))


def _checker(a: Coordinate, b: Coordinate) -> Coordinate:
    return _signs((np.floor(a) + np.floor(b)) % 2 == 0)


def _bricks(a: Coordinate, b: Coordinate) -> Coordinate:
    row = np.floor(b)
    joint = (b - row < 0.25) | (_fraction(0.5 * (a + row % 2)) < 0.14)
    return np.where(joint, np.float32(-1), np.float32(0.4))


def _zigzag(a: Coordinate, b: Coordinate) -> Coordinate:
    return _signs(_fraction(a + 0.7 * np.abs(2 * _fraction(0.5 * b) - 1)) < 0.5)


def _rings(u: Coordinate, v: Coordinate) -> tuple[Region, Region]:
    radius = np.hypot(u, v)
    return radius < 1, np.sin(9.5 * radius) > 0


def _star(u: Coordinate, v: Coordinate) -> tuple[Region, Region]:
    radius = np.hypot(u, v)
    return radius < 1, radius < 0.35 + 0.5 * np.abs(np.cos(2 * np.arctan2(v, u)))


def _spokes(u: Coordinate, v: Coordinate) -> tuple[Region, Region]:
    return np.maximum(np.abs(u), np.abs(v)) < 0.9, np.sin(5 * np.arctan2(v, u)) > 0


def _checked_diamond(u: Coordinate, v: Coordinate) -> tuple[Region, Region]:
    return np.abs(u) + np.abs(v) < 1.25, np.sin(5 * u) * np.sin(5 * v) > 0


def _flower(u: Coordinate, v: Coordinate) -> tuple[Region, Region]:
    radius = np.hypot(u, v)
    return radius < 0.7 + 0.3 * np.cos(6 * np.arctan2(v, u)), radius < 0.35


# By class: (u, v, four jitters in [-1, 1]) -> body and limbs, disjoint.
SILHOUETTES: tuple[Callable[[Coordinate, Coordinate, Sequence[float]], tuple[Region, Region]], ...]
SILHOUETTES = (_beetle, _fish, _cart, _sofa, _plant)

# By class: turned coordinates in periods -> brightness in [-1, 1].
TEXTURES: tuple[Callable[[Coordinate, Coordinate], Coordinate], ...]
TEXTURES = (_stripes, _dots, _checker, _bricks, _zigzag)

# By class: head coordinates -> the head, and the region of the first of its emblem's two colours.
HEADS: tuple[Callable[[Coordinate, Coordinate], tuple[Region, Region]], ...]
HEADS = (_rings, _star, _spokes, _checked_diamond, _flower)

# By class: the two colours of the emblem, as RGB in [0, 1].
HEAD_COLOURS = (
    ((0.95, 0.85, 0.10), (0.10, 0.05, 0.05)),
    ((0.95, 0.95, 0.95), (0.80, 0.10, 0.10)),
    ((0.95, 0.95, 0.95), (0.10, 0.20, 0.80)),
    ((0.90, 0.20, 0.80), (0.10, 0.10, 0.10)),
    ((0.95, 0.60, 0.10), (0.95, 0.90, 0.95)),
)

"""Drawing of one image of the embedded data set: cluttered background and composite objects.

An object has a head, a body and limbs. The head is a small saturated emblem of its class. The body
has the silhouette and, weaker, the texture of its class; four of ten objects have any hue. Limbs
are plain, without texture and emblem. Some classes occur in pairs, and most objects touch. The
clutter of the background has random textures of bodies, so that a texture alone is ambiguous
evidence. Nothing in the background depends on the classes that are present.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from occse.data.dataset import VOID
from occse.data.shapes.canvas import (
    Canvas,
    Pose,
    Range,
    Rng,
    Texture,
    Window,
    random_rgb,
    rgb,
    smooth_noise,
    turn,
)
from occse.data.shapes.objects import (
    HEAD_COLOURS,
    HEAD_POSITIONS,
    HEAD_REACH,
    HEADS,
    HUES,
    REACH,
    SHAPES_CLASSES,
    SILHOUETTES,
    Region,
)

# Values of the parts of an object; 0 is background.
HEAD = 1
BODY = 2
LIMB = 3
# Classes that occur together in most images of several classes.
PAIRS = ((0, 2), (1, 3), (2, 4))
# The sofa is larger and drawn first, so that other objects stand in front of it.
SOFA = 3
# Mean radius of a head, in half extents of its object.
HEAD_RADIUS = 0.25
# Probability that an object is drawn without its head.
NO_HEAD = 0.25
# A class is present if it covers more than this share of the image.
MIN_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Parameters of a kind of image.

    Attributes:
        size: side of the square image in pixels.
        num_objects: probabilities of 1, 2, ... objects, each of another class.
        half_extent: smallest and largest half extent of an object in pixels.
        num_clutter: smallest and largest number of blobs in the background.
        touch: probability that a further object is placed next to, or over, another one.
        occluded: probability that a flat blob hides a piece of an object.
        only_head: probability that an object is cut down to the surroundings of its head.
    """

    size: int = 80
    num_objects: tuple[float, ...] = (0.15, 0.60, 0.25)
    half_extent: Range = (19, 30)
    num_clutter: tuple[int, int] = (2, 5)
    touch: float = 0.95
    occluded: float = 0.25
    only_head: float = 0.10


SCENE = Scene()
OBJECT_CENTRIC = Scene(
    size=48,
    num_objects=(1,),
    half_extent=(17, 34),
    num_clutter=(0, 2),
    touch=0,
    occluded=0.1,
    only_head=0.05,
)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An image with its truth.

    Attributes:
        image: RGB.
        labels: 0 background, 1 to C classes, 255 void: outlines, and classes that cover too little
            of the image.
        parts: 0, HEAD, BODY or LIMB.
        present: class indices, ascending.
    """

    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]
    parts: UInt8[np.ndarray, "H W"]
    present: tuple[int, ...]


def draw(rng: Rng, scene: Scene = SCENE) -> Drawing:
    """Draw an image with at least one class. It depends on the state of `rng` alone."""
    while True:
        drawing = _draw_once(rng, scene)
        if drawing.present:
            return drawing


def _draw_once(rng: Rng, scene: Scene) -> Drawing:
    canvas = Canvas.empty(scene.size)
    _draw_background(rng, scene, canvas)
    for _ in range(rng.integers(scene.num_clutter[0], scene.num_clutter[1] + 1)):
        _draw_clutter(rng, scene, canvas)
    classes = _choose_classes(rng, scene)
    poses: list[Pose] = []
    for index in classes:
        scale = (1.15 if index == SOFA else 1.0) * (0.85 if len(classes) > 2 else 1.0)
        poses.append(_place(rng, scene, poses, scale=scale))
        _draw_object(rng, scene, canvas, pose=poses[-1], index=index)
    if rng.random() < scene.occluded:
        _draw_occluder(rng, canvas, poses[int(rng.integers(len(poses)))])
    return _finish(rng, canvas)


def _draw_background(rng: Rng, scene: Scene, canvas: Canvas) -> None:
    """Paint two regions with an irregular horizon, a grain for each, and smooth shading."""
    n = len(canvas.labels)
    above = canvas.y < rng.uniform(0.2, 0.8) * scene.size + 6 * smooth_noise(rng, n, 4)
    bases, grains = [], []
    for _ in range(2):
        bases.append(random_rgb(rng, (0.05, 0.45), (0.3, 0.85)))
        grains.append(smooth_noise(rng, n, int(rng.integers(4, 40))) * rng.uniform(0, 0.09))
    grain = np.where(above, *grains)
    for channel, (upper, lower) in enumerate(zip(*bases, strict=True)):
        canvas.colour[..., channel] = (
            grain + np.where(above, upper, lower) + 0.05 * smooth_noise(rng, n, 5)
        )


def _draw_clutter(rng: Rng, scene: Scene, canvas: Canvas) -> None:
    x, y = rng.uniform(0, scene.size), rng.uniform(0, scene.size)
    width, height = rng.uniform(5, 15), rng.uniform(5, 15)
    window, blob = _blob(rng, canvas, x, y, radii=(width, height))
    colour = random_rgb(rng, (0.1, 0.7), (0.3, 0.85))
    if rng.random() < 0.8:
        texture = Texture.random(rng, int(rng.integers(len(SHAPES_CLASSES))), contrast=(0.07, 0.20))
        colour = colour + texture.at(canvas.x[window][blob], canvas.y[window][blob])[:, None]
    canvas.paint(window, blob, colour)


def _draw_occluder(rng: Rng, canvas: Canvas, pose: Pose) -> None:
    x, y = (middle + rng.uniform(-0.8, 0.8) * pose.half_extent for middle in (pose.x, pose.y))
    width, height = (rng.uniform(0.15, 0.45) * pose.half_extent for _ in range(2))
    window, blob = _blob(rng, canvas, x, y, radii=(width, height))
    canvas.paint(window, blob, random_rgb(rng, (0, 0.4), (0.3, 0.8)))


def _blob(
    rng: Rng, canvas: Canvas, x: float, y: float, *, radii: tuple[float, float]
) -> tuple[Window, Region]:
    """Draw an ellipse or a rectangle at any angle."""
    angle = rng.uniform(0, math.pi)
    window = canvas.window(x, y, math.hypot(*radii))
    a, b = turn(canvas.x[window] - x, canvas.y[window] - y, angle)
    a, b = a / radii[0], b / radii[1]
    if rng.random() < 0.5:
        return window, a**2 + b**2 < 1
    return window, np.maximum(np.abs(a), np.abs(b)) < 0.9


def _choose_classes(rng: Rng, scene: Scene) -> list[int]:
    """Draw distinct classes, in the order in which they are painted.

    Most images of several classes have a frequent pair.
    """
    num = 1 + int(rng.choice(len(scene.num_objects), p=scene.num_objects))
    classes = [int(index) for index in rng.permutation(len(SHAPES_CLASSES))]
    if num > 1 and rng.random() < 0.9:
        pair = PAIRS[int(rng.integers(len(PAIRS)))]
        classes = [*pair, *(index for index in classes if index not in pair)]
    # False comes first: the sofa stands behind the others, which come in random order.
    return sorted(classes[:num], key=lambda index: (index != SOFA, rng.random()))


def _place(rng: Rng, scene: Scene, others: list[Pose], *, scale: float) -> Pose:
    half_extent = rng.uniform(*scene.half_extent) * scale
    if others and rng.random() < scene.touch:
        other = others[int(rng.integers(len(others)))]
        direction = rng.uniform(0, 2 * math.pi)
        distance = (other.half_extent + half_extent) * rng.uniform(0.55, 0.85)
        x = other.x + distance * math.cos(direction)
        y = other.y + distance * math.sin(direction) * 0.9
    else:
        x, y = (rng.uniform(0.2, 0.8) * scene.size for _ in range(2))
    x, y = (min(max(value, 0.12 * scene.size), 0.88 * scene.size) for value in (x, y))
    angle = math.radians(rng.uniform(-25, 25))
    return Pose(x=x, y=y, half_extent=half_extent, angle=angle, flip=int(rng.choice([-1, 1])))


def _draw_object(rng: Rng, scene: Scene, canvas: Canvas, *, pose: Pose, index: int) -> None:
    window = canvas.window(pose.x, pose.y, REACH * pose.half_extent)
    x, y = canvas.x[window], canvas.y[window]
    u, v = pose.to_object(x, y)
    body, limbs = SILHOUETTES[index](u, v, rng.uniform(-1, 1, 4).tolist())
    hue = HUES[index] + 0.06 * rng.standard_normal() if rng.random() < 0.6 else rng.uniform()
    body_colour = rgb(hue, rng.uniform(0.25, 0.7), rng.uniform(0.4, 0.85))
    texture = Texture.random(rng, index, contrast=(0.09, 0.19))
    limb_colour = rgb(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.15, 0.5))
    radius = HEAD_RADIUS * rng.uniform(0.85, 1.15)
    head_u, head_v = (middle + 0.06 * rng.uniform(-1, 1) for middle in HEAD_POSITIONS[index])
    tint = 1 + 0.12 * rng.standard_normal(3).astype(np.float32)
    fate = rng.random()
    # One number decides both: an object without a head is never cut down to its head.
    has_head, only_head = fate >= NO_HEAD, NO_HEAD <= fate < NO_HEAD + scene.only_head
    if only_head:
        near = (u - head_u) ** 2 + (v - head_v) ** 2 < (1.5 * HEAD_RADIUS) ** 2
        body, limbs = body & near, limbs & near
    canvas.paint(window, limbs, limb_colour, label=index + 1, part=LIMB)
    shade = 1 - 0.12 * v[body]
    textured = (body_colour + texture.at(x[body], y[body])[:, None]) * shade[:, None]
    canvas.paint(window, body, textured, label=index + 1, part=BODY)
    if has_head:
        _draw_head(
            canvas, pose=pose, index=index, middle=(head_u, head_v), radius=radius, tint=tint
        )


def _draw_head(
    canvas: Canvas,
    *,
    pose: Pose,
    index: int,
    middle: tuple[float, float],
    radius: float,
    tint: Float32[np.ndarray, "3"],
) -> None:
    window = canvas.window(*pose.to_image(*middle), HEAD_REACH * radius * pose.half_extent)
    u, v = pose.to_object(canvas.x[window], canvas.y[window])
    head, first = HEADS[index]((u - middle[0]) / radius, (v - middle[1]) / radius)
    colours = np.array(HEAD_COLOURS[index], np.float32) * tint
    canvas.paint(window, head, np.where(first[head][:, None], *colours), label=index + 1, part=HEAD)


def _finish(rng: Rng, canvas: Canvas) -> Drawing:
    """Average the canvas, add camera noise, and set pixels without one clear label to void."""
    image = canvas.average()
    image += 0.03 * rng.standard_normal(image.shape, dtype=np.float32)
    labels = canvas.pure_labels()
    share = np.bincount(canvas.labels.ravel()) / canvas.labels.size
    visible = [
        int(label)
        for label in np.flatnonzero(share > MIN_SHARE)
        if label > 0 and (labels == label).any()
    ]
    # A table from label to label: classes that cover too little become void.
    kept = np.full(256, VOID, np.uint8)
    kept[[0, *visible]] = [0, *visible]
    return Drawing(
        image=(np.clip(image, 0, 1) * 255).astype(np.uint8),
        labels=kept[labels],
        parts=canvas.parts[::2, ::2].copy(),
        present=tuple(label - 1 for label in visible),
    )

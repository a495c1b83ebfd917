"""Photograph-like images with a class for each image: the data set ``rendered``.

It stands in for a real data set where none is at hand; its classes are meant to need resolution and
network capacity. Each image shows one object in a scene. Classes come in pairs. The two classes of
a pair differ in a single attribute, which is either fine (surface pattern, its period or angle, the
glyph on a badge) or structural (number of limbs, the end at which the badge sits); different pairs
differ in body and pattern as well. Everything else (colours, pose, light, background, other
objects, occlusion, blur, noise, size, aspect ratio) is drawn for each image and says nothing about
its class. ``docs/rendered.md`` says how hard the classes are for networks.

An image depends on the configuration and its index alone.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter

from efficientnet_elite.errors import UserError

from .kinds import PATTERNS, Kind, draw_kinds, random_kind
from .objects import (
    Array,
    Light,
    Pose,
    darker_colour,
    noise_patch,
    paint_object,
    pattern_coverage,
    random_colour,
)

_LIMITS = {
    "classes": (2, 1000),
    "images": (2, 10_000_000),
    "size": (32, 1024),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class RenderedConfig:
    """What to draw.

    Attributes:
      classes: number of classes, 2 to 1000.
      images: number of images in all, at least one for each class; the sizes of classes differ by
        at most one.
      size: nominal longer side in pixels, 32 to 1024; actual sizes and aspect ratios vary.
      seed: seed of everything, both the classes and the images.

    Raises:
      UserError: a value is out of its range.
    """

    classes: int = 10
    images: int = 4000
    size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"rendered: {name}={value} is outside {low} to {high}")
        if self.images < self.classes:
            raise UserError(
                f"rendered: images={self.images} is fewer than classes={self.classes}; "
                "ask for at least one image for each class"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a configuration such as ``classes=20,size=64``; "" stands for the defaults.

        Raises:
          UserError: a key is unknown or repeated, or a value is no integer or out of its range.
        """
        values: dict[str, int] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (part.strip() for part in item.partition("="))
            if name not in _LIMITS:
                raise UserError(f"rendered: unknown key {name!r}; keys are {', '.join(_LIMITS)}")
            if name in values:
                raise UserError(f"rendered: {name} is given twice")
            try:
                values[name] = int(value)
            except ValueError:
                raise UserError(f"rendered: {name}={value!r} is not an integer") from None
        return cls(**values)


def label_names(config: RenderedConfig) -> tuple[str, ...]:
    """Returns a unique name for each class, by label; a name lists the class's attributes."""
    return tuple(kind.name() for kind in draw_kinds(config.classes, config.seed))


SUPERSAMPLING = 2  # scenes are painted this many times larger, then averaged down
# Pixels. In larger images the surface patterns shrink, so that they are fine details at any size.
REFERENCE_SIZE = 96


def pattern_scale(size: int) -> float:
    """Returns the factor of the period of surface patterns in images of a nominal size."""
    return min(1.0, REFERENCE_SIZE / size)


def _axes(height: int, width: int) -> tuple[Array, Array]:
    """Returns coordinates y, (height, 1), and x, (1, width), both from -1 to 1."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return y, np.linspace(-1, 1, width, dtype=np.float32)[None, :]


def paint_background(height: int, width: int, rng: np.random.Generator) -> Array:
    """Paints a wall and a floor, unevenly lit, often patterned, and out of focus.

    Returns:
      An image of (height * SUPERSAMPLING, width * SUPERSAMPLING, 3) in [0, 1].
    """
    y, x = _axes(height, width)
    below = y - rng.uniform(-0.2, 0.7) - rng.normal(0, 0.06) * x  # distance below the floor's edge
    floor = np.clip(below * height / 2, 0, 1)[:, :, None]
    scene = np.zeros((height, width, 3), np.float32)
    # The pattern of the floor grows towards the viewer.
    distance = 1 / (0.35 + np.maximum(below, 0))
    everywhere = np.ones_like(floor)
    for area, across, along in ((everywhere, x, y), (floor, x * distance, 2 * distance)):
        colour = random_colour(rng, 0.25, 0.25, 0.65)
        patch = np.broadcast_to(colour, scene.shape)
        if rng.random() < 0.3:
            repeats, angle = rng.uniform(3, 14), rng.uniform(0, math.pi)
            cosine, sine = repeats * math.cos(angle), repeats * math.sin(angle)
            a, b = across * cosine - along * sine, across * sine + along * cosine
            coverage = pattern_coverage(str(rng.choice(PATTERNS)), a, b)[:, :, None]
            patch = colour + coverage * (darker_colour(colour, rng, 0.05, 0.25) - colour)
        light = 1 + rng.normal(0, 0.25) * x + rng.normal(0, 0.25) * y
        light = light + rng.uniform(0.04, 0.2) * noise_patch(height, width, rng)
        scene += area * (patch * light[:, :, None] - scene)
    blurred = _to_image(scene).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    large = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    pixels = blurred.resize(large, Image.Resampling.BILINEAR)
    return np.asarray(pixels, np.float32) / 255


def _to_image(scene: Array) -> Image.Image:
    return Image.fromarray((np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8))


def photograph(scene: Array, rng: np.random.Generator) -> bytes:
    """Takes a photograph of a scene: exposure, colour cast, vignette, noise, JPEG compression.

    Args:
      scene: (height * SUPERSAMPLING, width * SUPERSAMPLING, 3) in [0, 1].
      rng: source of random numbers.

    Returns:
      A JPEG file of (height, width).
    """
    image = _to_image(scene).reduce(SUPERSAMPLING)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
    photo = np.asarray(image, np.float32) / 255
    y, x = _axes(*photo.shape[:2])
    vignette = 1 - rng.uniform(0, 0.25) * (x * x + y * y)
    gain = rng.uniform(0.75, 1.25) * rng.normal(1, 0.06, 3).astype(np.float32)
    photo = np.minimum(photo * vignette[:, :, None] * gain, 1) ** rng.uniform(0.75, 1.3)
    photo += rng.standard_normal(photo.shape, np.float32) * rng.uniform(0, 0.03)
    buffer = io.BytesIO()
    _to_image(photo).save(buffer, "JPEG", quality=int(rng.integers(70, 96)))
    return buffer.getvalue()


def render(config: RenderedConfig, index: int) -> tuple[bytes, int]:
    """Draws an image.

    The same classes, size, seed and index give the same bytes in every process with the same
    versions of NumPy and Pillow; ``config.images`` has no influence. Labels repeat 0, 1, ...,
    classes - 1.

    Args:
      config: what to draw.
      index: number of the image.

    Returns:
      A JPEG file and the image's label.

    Raises:
      IndexError: ``index`` is not in [0, config.images).
    """
    if not 0 <= index < config.images:
        raise IndexError(f"image {index} of {config.images}")
    label = index % config.classes
    kind = draw_kinds(config.classes, config.seed)[label]
    rng = np.random.default_rng([config.seed, 2, index])
    longer = config.size * rng.uniform(0.85, 1.15)
    sides = [round(longer), round(longer * rng.uniform(0.72, 1))]
    height, width = sides if rng.random() < 0.4 else sides[::-1]
    scene = paint_background(height, width, rng)
    light = Light.draw(rng)
    centre_x, centre_y = scene.shape[1] / 2, scene.shape[0] / 2
    unit = min(centre_x, centre_y)

    def paint(kind: Kind, x: float, y: float, scale: float) -> None:
        pose = Pose.draw(centre_x + x * unit, centre_y + y * unit, scale * unit, rng)
        paint_object(scene, kind, pattern_scale(config.size), pose, light, rng)

    def paint_other_object(distance: float) -> None:
        turn = rng.uniform(0, 2 * math.pi)
        offset_x, offset_y = distance * math.cos(turn), distance * math.sin(turn)
        paint(random_kind(rng), offset_x, offset_y, rng.uniform(0.14, 0.24))

    for _ in range(rng.integers(0, 3)):
        paint_other_object(rng.uniform(0.75, 1.15))
    paint(kind, rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), rng.uniform(0.56, 0.72))
    if rng.random() < 0.25:  # in front of the main object's edge
        paint_other_object(rng.uniform(0.65, 0.9))
    return photograph(scene, rng), label

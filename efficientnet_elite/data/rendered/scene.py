"""Seeded, photograph-like images whose classes are meant to need resolution and capacity.

``--dataset=rendered`` stands in for a real data set where none can be had. Each image shows one
object in a scene. Classes come in pairs: the two of a pair differ in a single attribute, be it fine
(surface pattern, its period or angle, the glyph on a badge) or structural (number of parts, the end
at which the badge sits); different pairs differ in body and pattern too. Everything else - colours,
pose, light, background, bystanders, occlusion, blur, noise, size, aspect - is drawn per image and
tells nothing about the class. ``docs/rendered.md`` says how hard that is, in figures.

An image is a pure function of the configuration and its index. This module must not import
TensorFlow or Keras.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter

from efficientnet_elite.errors import UserError

from .objects import (
    PATTERNS,
    Array,
    Kind,
    Light,
    Pose,
    cut_cloud,
    darkened,
    draw_kinds,
    paint_object,
    pattern_cover,
    random_colour,
    random_kind,
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
      images: images in all, at least one a class; class sizes differ by one at most.
      size: nominal longer side in pixels, 32 to 1024; actual sizes and aspects vary by image.
      seed: of everything: the classes themselves and each image.

    Raises:
      UserError: a value out of its range.
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
                "ask for at least one image a class"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The configuration in ``text``: ``key=value`` pairs joined by commas, "" for defaults.

        Raises:
          UserError: an unknown or repeated key, a value that is no integer or out of range.
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
    """One unique name a class, in the order of the labels; it lists the class's attributes."""
    return tuple(kind.name() for kind in draw_kinds(config.classes, config.seed))


SUPERSAMPLING = 2  # scenes are painted this many times larger, then averaged down
REFERENCE_SIZE = 96  # above it surface patterns shrink, so that they stay fine at every size


def _axes(height: int, width: int) -> tuple[Array, Array]:
    """y (height, 1) and x (1, width), from -1 to 1."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return y, np.linspace(-1, 1, width, dtype=np.float32)[None, :]


def backdrop(height: int, width: int, rng: np.random.Generator) -> Array:
    """Wall and floor, uneven, often patterned, out of focus: (height, width, 3)."""
    y, x = _axes(height, width)
    below = y - rng.uniform(-0.2, 0.7) - rng.normal(0, 0.06) * x  # the horizon
    floor = np.clip(below * height / 2, 0, 1)[:, :, None]
    scene = np.zeros((height, width, 3), np.float32)
    distance = 1 / (0.35 + np.maximum(below, 0))  # the floor's pattern grows towards the viewer
    whole = np.ones_like(floor)
    for share, across, along in ((whole, x, y), (floor, x * distance, 2 * distance)):
        colour = random_colour(rng, 0.25, 0.25, 0.65)
        patch = np.broadcast_to(colour, scene.shape)
        if rng.random() < 0.3:
            repeats, angle = rng.uniform(3, 14), rng.uniform(0, math.pi)
            cosine, sine = repeats * math.cos(angle), repeats * math.sin(angle)
            a, b = across * cosine - along * sine, across * sine + along * cosine
            cover = pattern_cover(str(rng.choice(PATTERNS)), a, b)[:, :, None]
            patch = colour + cover * (darkened(colour, rng, 0.05, 0.25) - colour)
        light = 1 + rng.normal(0, 0.25) * x + rng.normal(0, 0.25) * y
        light = light + rng.uniform(0.04, 0.2) * cut_cloud(height, width, rng)
        scene += share * (patch * light[:, :, None] - scene)
    blurred = _to_image(scene).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    large = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    pixels = blurred.resize(large, Image.Resampling.BILINEAR)
    return np.asarray(pixels, np.float32) / 255


def _to_image(scene: Array) -> Image.Image:
    return Image.fromarray((np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8))


def develop(scene: Array, rng: np.random.Generator) -> bytes:
    """What the camera makes of a supersampled scene: exposure, cast, vignette, noise, JPEG."""
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
    """Image ``index`` of ``config`` as JPEG bytes, and its label.

    The same (classes, size, seed, index) give the same bytes in every process with the same
    versions of NumPy and Pillow; ``images`` has no influence. Labels repeat 0, 1, ..., classes - 1.

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
    scene = backdrop(height, width, rng)
    light = Light.draw(rng)
    centre_x, centre_y = scene.shape[1] / 2, scene.shape[0] / 2
    unit = min(centre_x, centre_y)
    fineness = min(1.0, REFERENCE_SIZE / config.size)

    def paint(kind: Kind, x: float, y: float, scale: float) -> None:
        pose = Pose.draw(centre_x + x * unit, centre_y + y * unit, scale * unit, rng)
        paint_object(scene, kind, fineness, pose, light, rng)

    def paint_bystander(distance: float) -> None:
        turn = rng.uniform(0, 2 * math.pi)
        offset_x, offset_y = distance * math.cos(turn), distance * math.sin(turn)
        paint(random_kind(rng), offset_x, offset_y, rng.uniform(0.14, 0.24))

    for _ in range(rng.integers(0, 3)):
        paint_bystander(rng.uniform(0.75, 1.15))
    paint(kind, rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), rng.uniform(0.56, 0.72))
    if rng.random() < 0.25:  # in front of the object's rim
        paint_bystander(rng.uniform(0.65, 0.9))
    return develop(scene, rng), label

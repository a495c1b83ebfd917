"""Seeded scenes with a class for each pixel: ``--dataset=rendered_masks`` for segmentation.

Painted with the objects of `rendered`, one to three a scene, in front of each other. Classes differ
in outline and surface pattern; everything else is drawn per image. A pixel that an outline crosses
belongs to no class (`IGNORED`), as in hand-drawn masks.

An image is a pure function of the configuration and its index. This module must not import
TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .rendered import REFERENCE_SIZE, SUPERSAMPLING, RenderedConfig, backdrop, develop
from .rendered_objects import Kind, Light, Pose, draw_kinds, paint_object
from .segmentation_score import IGNORED

BACKGROUND = "background"
_OBJECTS = (1, 3)  # in a scene, at least and at most


@dataclass(frozen=True)
class MasksConfig(RenderedConfig):
    """What to draw: as `RenderedConfig`, with ``classes`` kinds of objects beside the background.

    Raises:
      UserError: a value out of its range.
    """

    classes: int = 4
    images: int = 800
    size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes >= IGNORED:  # a mask's value is a class above the background
            raise UserError(f"rendered_masks: classes={self.classes} is more than {IGNORED - 1}")


def _kinds(config: MasksConfig) -> tuple[Kind, ...]:
    """One kind a class: the first of each pair of siblings, which only differ in small things."""
    return draw_kinds(2 * config.classes, config.seed)[::2]


def pixel_labels(config: MasksConfig) -> tuple[str, ...]:
    """Names of the pixels' classes: the background, then the kinds of objects."""
    return (BACKGROUND, *(kind.name() for kind in _kinds(config)))


def render_masked(config: MasksConfig, index: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Image ``index`` as JPEG bytes, and its mask, uint8 (height, width).

    A mask's values are positions in `pixel_labels`, or `IGNORED`. An object of class 1 + index mod
    ``classes`` is in front of all others. The same (classes, size, seed, index) give the same image
    in every process with the same versions of NumPy and Pillow.

    Raises:
      IndexError: ``index`` is not in [0, config.images).
    """
    if not 0 <= index < config.images:
        raise IndexError(f"image {index} of {config.images}")
    rng = np.random.default_rng([config.seed, 3, index])
    kinds = _kinds(config)
    longer = config.size * rng.uniform(0.85, 1.15)
    sides = [round(longer), round(longer * rng.uniform(0.8, 1))]
    height, width = sides if rng.random() < 0.4 else sides[::-1]
    scene = backdrop(height, width, rng)
    light = Light.draw(rng)
    painted = np.zeros(scene.shape[:2], np.uint8)
    unit = min(scene.shape[:2]) / 2
    others = rng.integers(len(kinds), size=rng.integers(_OBJECTS[0], _OBJECTS[1] + 1) - 1)
    for number in (*others, index % config.classes):
        x, y = rng.uniform(0.2, 0.8, 2) * (scene.shape[1], scene.shape[0])
        pose = Pose.draw(x, y, rng.uniform(0.35, 0.55) * unit, rng)
        fineness = min(1.0, REFERENCE_SIZE / config.size)
        covered = paint_object(scene, kinds[number], fineness, pose, light, rng)
        painted[covered] = 1 + number
    return develop(scene, rng), _reduced(painted)


def _reduced(painted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A supersampled mask at the image's size; pixels of several classes are of none."""
    height, width = (side // SUPERSAMPLING for side in painted.shape)
    blocks = painted.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    least, most = blocks.min((1, 3)), blocks.max((1, 3))
    return np.where(least == most, least, IGNORED).astype(np.uint8)

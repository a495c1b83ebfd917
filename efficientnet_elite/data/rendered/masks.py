"""Images with a class for each pixel, for segmentation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import IGNORED
from efficientnet_elite.data.assembly import Example, assemble, pipeline_for
from efficientnet_elite.data.cache import Add, ImageCache
from efficientnet_elite.data.decode import Pixels, decode
from efficientnet_elite.data.geometry import PipelineConfig
from efficientnet_elite.data.parts import ImageData, IndexedPart
from efficientnet_elite.data.store import DecodedStore, ImageStore, ReadingStore, decode_all
from efficientnet_elite.errors import UserError

from .objects import Kind, Light, Pose, draw_kinds, paint_object
from .scene import REFERENCE_SIZE, SUPERSAMPLING, RenderedConfig, backdrop, develop

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


class MaskedPart(IndexedPart):
    """Images of a store that has each one's mask below it.

    The labels that it is made with are the images' own; they split and sample, and are not fetched.
    """

    def fetch(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The image, uint8 (height, width, 3), and its mask, int32 (height, width)."""
        both, _ = super().fetch(key)
        image, mask = tf.split(both, 2, axis=0)
        return image, tf.cast(mask[..., 0], tf.int32)


def load_rendered_masks(
    config: DataConfig, settings: str, open_cache: Callable[[object], ImageCache]
) -> ImageData:
    """The data set of `rendered_masks`; its labels are those of pixels.

    Images are split and sampled by the object in front of all others.
    """
    scene = MasksConfig.parse(settings)
    cache = open_cache(["rendered_masks", astuple(scene)])
    origin = f"rendered masks with size={scene.size},seed={scene.seed}"
    examples = [Example(f"{origin}: {i}", i % scene.classes) for i in range(scene.images)]
    labels = pixel_labels(scene)

    def keep(add: Add) -> list[tuple[int, str]]:
        read = functools.partial(_read, scene)
        numbers = range(scene.images)
        return decode_all(numbers, read, add, total=scene.images, progress=cache.progress)

    kept = cache.keep("masked", keep)
    store: ImageStore = (
        ReadingStore(functools.partial(_read, scene))
        if kept.flat is None
        else DecodedStore(kept.flat, kept.shapes)
    )
    pipeline = pipeline_for(config, PipelineConfig(center_crop=False, min_area=0.5))
    # The background is no image's own class.
    data = assemble(config, labels[1:], examples, {}, store, pipeline, cache, part_type=MaskedPart)
    return replace(data, labels=labels, masks=True)


def _read(scene: MasksConfig, index: int) -> Pixels:
    encoded, mask = render_masked(scene, index)
    return np.concatenate([decode(encoded), np.repeat(mask[..., np.newaxis], 3, axis=-1)])

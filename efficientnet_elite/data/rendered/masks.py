"""Photograph-like images with a class for each pixel: the data set ``rendered_masks``.

`render_masked` draws an image with its mask, and `load_rendered_masks` loads all of them as a data
set for segmentation. A store holds only images, so each mask is stored as three equal channels
below its image; `MaskedPart` takes the two apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import IGNORED
from efficientnet_elite.data.assembly import Example, assemble, pipeline_for
from efficientnet_elite.data.cache import Add, ImageCache
from efficientnet_elite.data.decode import Pixels, decode
from efficientnet_elite.data.geometry import PipelineConfig
from efficientnet_elite.data.parts import ImageData, IndexedPart, Reference
from efficientnet_elite.data.picture import DecodedPicture, Picture
from efficientnet_elite.data.store import ImageStore, decode_all
from efficientnet_elite.errors import UserError

from .kinds import Kind, draw_kinds
from .objects import Light, Pose, paint_object
from .scene import SUPERSAMPLING, RenderedConfig, paint_background, pattern_scale, photograph

BACKGROUND = "background"
_OBJECTS = (1, 3)  # the least and the most objects in an image


@dataclass(frozen=True)
class MasksConfig(RenderedConfig):
    """What to draw.

    Attributes:
      classes: number of kinds of objects; the background is one more class of pixels.
      images: see `RenderedConfig`.
      size: see `RenderedConfig`.

    Raises:
      UserError: a value is out of its range.
    """

    classes: int = 4
    images: int = 800
    size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes >= IGNORED:  # masks hold labels 1..classes for the objects
            raise UserError(
                f"rendered_masks: classes={self.classes} is too many, use at most {IGNORED - 1}"
            )


def _kinds(config: MasksConfig) -> tuple[Kind, ...]:
    """Returns one kind for each class of objects.

    It is the first of each pair of siblings, because two siblings differ in details only.
    """
    return draw_kinds(2 * config.classes, config.seed)[::2]


def pixel_labels(config: MasksConfig) -> tuple[str, ...]:
    """Returns the names of the classes of pixels: the background, then the kinds of objects."""
    return (BACKGROUND, *(kind.name() for kind in _kinds(config)))


def render_masked(config: MasksConfig, index: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Draws an image and its mask.

    An object of class 1 + index mod ``classes`` is in front of all others. The same classes, size,
    seed and index give the same image in every process with the same versions of NumPy and Pillow.

    Args:
      config: what to draw.
      index: number of the image.

    Returns:
      A JPEG file, and the mask, uint8 (height, width): positions in `pixel_labels`, or `IGNORED`
      where a pixel shows more than one class.

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
    scene = paint_background(height, width, rng)
    light = Light.draw(rng)
    pixel_classes = np.zeros(scene.shape[:2], np.uint8)
    unit = min(scene.shape[:2]) / 2
    others = rng.integers(len(kinds), size=rng.integers(_OBJECTS[0], _OBJECTS[1] + 1) - 1)
    for number in (*others, index % config.classes):
        x, y = rng.uniform(0.2, 0.8, 2) * (scene.shape[1], scene.shape[0])
        pose = Pose.draw(x, y, rng.uniform(0.35, 0.55) * unit, rng)
        scale = pattern_scale(config.size)
        covered = paint_object(scene, kinds[number], scale, pose, light, rng)
        pixel_classes[covered] = 1 + number
    return photograph(scene, rng), _downsample(pixel_classes)


def _downsample(pixel_classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduces the mask of a supersampled scene; pixels of more than one class become `IGNORED`."""
    height, width = (side // SUPERSAMPLING for side in pixel_classes.shape)
    blocks = pixel_classes.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    lowest, highest = blocks.min((1, 3)), blocks.max((1, 3))
    return np.where(lowest == highest, lowest, IGNORED).astype(np.uint8)


class MaskedPart(IndexedPart):
    """A part whose store holds the mask of each image below the image.

    The labels that it is made with have one class for each image. They serve for splitting and
    sampling; its pictures have the masks.
    """

    def picture(self, reference: Reference, original: bool) -> Picture:
        """Returns the image of a number in the store, with its mask."""
        picture = super().picture(reference, original)
        assert isinstance(picture, DecodedPicture)
        image, mask = np.split(picture.pixels, 2)
        return DecodedPicture(image, mask[..., 0])


def load_rendered_masks(
    config: DataConfig, settings: str, open_cache: Callable[[object], ImageCache]
) -> ImageData:
    """Loads the data set ``rendered_masks``.

    Images are split and sampled by the class of the object in front of all others.

    Args:
      config: the user's settings.
      settings: what to draw, as `MasksConfig.parse` reads it.
      open_cache: takes what the images depend on to the cache for them.

    Returns:
      The data set; its labels are those of pixels.

    Raises:
      UserError: the settings are wrong, or a class has too few images to be split.
    """
    scene = MasksConfig.parse(settings)
    cache = open_cache(["rendered_masks", astuple(scene)])
    origin = f"rendered masks with size={scene.size},seed={scene.seed}"
    examples = [Example(f"{origin}: {i}", i % scene.classes) for i in range(scene.images)]
    labels = pixel_labels(scene)

    read = functools.partial(_image_above_mask, scene, config.input_channels)

    def draw_all(add: Add) -> list[tuple[int, str]]:
        numbers = range(scene.images)
        return decode_all(numbers, read, add, total=scene.images, progress=cache.progress)

    cached = cache.keep("masked", draw_all)
    store = ImageStore(cached, lambda i, quick: DecodedPicture(read(i)), max_side=None)
    pipeline = pipeline_for(config, PipelineConfig(center_crop=False, min_area=0.5))
    # No image has the background as its class.
    data = assemble(config, labels[1:], examples, {}, store, pipeline, cache, part_type=MaskedPart)
    return replace(data, labels=labels, masks=True)


def _image_above_mask(scene: MasksConfig, channels: int, index: int) -> Pixels:
    """Returns an image with its mask below it, as (2 * height, width, channels)."""
    encoded, mask = render_masked(scene, index)
    below = np.repeat(mask[..., np.newaxis], channels, axis=-1)
    return np.concatenate([decode(encoded, channels=channels), below])

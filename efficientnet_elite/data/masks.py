"""Images with a class for each pixel, for segmentation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import tensorflow as tf

from ..config import DataConfig
from ..rendered_masks import MasksConfig, pixel_labels, render_masked
from .assembly import Example, assemble, pipeline_for
from .cache import ImageCache
from .decode import Pixels, decode
from .geometry import PipelineConfig
from .parts import ImageData, IndexedPart
from .pixels import Add
from .store import DecodedStore, ImageStore, ReadingStore, decode_all


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

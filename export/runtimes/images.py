"""Chooses test images for the runtimes and prepares them as the evaluation does."""

from __future__ import annotations

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.data import geometry


def choose(
    data: data_lib.ImageData, *, side: int, base_resolution: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses test images, then crops and resizes them as the evaluation does.

    Args:
      data: what `data.load` returned.
      side: side of the network's input in pixels.
      base_resolution: side of the input of the pool's unscaled network in pixels; it decides how
        much is cropped.
      count: number of images, taken from all classes in turn; if there are fewer, all images.
      seed: seed of the choice.

    Returns:
      Images (N, side, side, 3), float32, pixel / 128 - 1, and their classes (N,) or masks
      (N, side, side).
    """
    part = data.parts["test"]
    fraction = data.pipeline.crop_fraction(side, base_resolution)
    keys, _ = part.sample(count, seed)
    images, labels = [], []
    for image, label in keys.map(part.fetch):
        box = geometry.center_box(image.shape, fraction)
        images.append(geometry.crop_and_resize(image, box, side).numpy())
        labels.append(
            (geometry.crop_and_resize_mask(label, box, side) if data.masks else label).numpy()
        )
    return np.stack(images).astype(np.float32) / 128 - 1, np.stack(labels)

"""Test images for runtimes, as evaluation shows them to a network."""

from __future__ import annotations

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.data import geometry


def choose(
    data: data_lib.ImageData, *, side: int, base_resolution: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Test images as evaluation shows them to a network.

    Args:
      data: what `data.load` returned.
      side: of the network's input in pixels.
      base_resolution: input side of the pool's unscaled network in pixels.
      count: number of images, in turn from all classes; all images where there are fewer.
      seed: of the choice.

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

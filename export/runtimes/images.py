"""Chooses test images for the runtimes and prepares them as the evaluation does."""

from __future__ import annotations

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import SizeLike


def choose(
    data: data_lib.ImageData, *, size: SizeLike, base_resolution: SizeLike, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses test images, then crops and resizes them as the evaluation does.

    Args:
      data: what `data.load` returned.
      size: of the network's input in pixels.
      base_resolution: size of the input of the pool's unscaled network in pixels; it decides how
        much is cropped.
      count: number of images, taken from all classes in turn; if there are fewer, all images.
      seed: seed of the choice.

    Returns:
      Images (N, height, width, channels), float32, pixel / 128 - 1, and their classes (N,) or
      masks (N, height, width).
    """
    batches = data_lib.sample_batches(
        data,
        part="test",
        resolution=size,
        base_resolution=base_resolution,
        count=count,
        seed=seed,
        batch_size=count,
    )
    images, labels = next(iter(batches))
    return images.numpy(), labels.numpy()

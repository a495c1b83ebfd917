"""What training sees of some images, by the pipeline's own path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import DataConfig, SizeLike

from .assembly import pipeline_for
from .cache import CachedImages, ImageCache
from .encoded import EncodedPicture
from .geometry import PipelineConfig
from .listing import Listing
from .parts import ImageData, IndexedPart, class_balanced_sample
from .pipeline import train_batches
from .store import ImageStore


def training_images(
    config: DataConfig,
    listing: Listing,
    readable: Sequence[int],
    *,
    resolution: SizeLike,
    count: int,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images as a training batch holds them: cropped, mirrored and augmented.

    Args:
      config: how images are cropped and augmented, and their number of channels.
      listing: the images.
      readable: numbers of those that can be read, at least one of them in the training part.
      resolution: size of the network's input in pixels.
      count: number of images, drawn evenly from all classes; fewer where there are fewer.
      seed: seed of the choice, the order and the augmentation.

    Returns:
      The images, uint8 (n, height, width, channels), and their labels (n,).
    """
    examples = listing.examples
    training = np.array([i for i in readable if examples[i].part == "train"])
    labels = np.array([example.label for example in examples], np.int32)
    drawn = training[class_balanced_sample(labels[training], count, seed)]
    nothing = CachedImages(np.empty(0, np.uint8), np.empty((0, 2), np.int64), None)
    channels = config.input_channels
    store = ImageStore(
        nothing, lambda i, quick: EncodedPicture(listing.encoded(i), quick, channels), None
    )
    data = ImageData(
        name=config.dataset,
        labels=listing.class_names,
        parts={"train": IndexedPart(store, labels, drawn)},
        skipped=(),
        fingerprint="",
        pipeline=pipeline_for(config, PipelineConfig()),
        cache=ImageCache(None, 0, False, None),
        channels=channels,
    )
    batches, _ = train_batches(data, resolution=resolution, batch_size=len(drawn), seed=seed)
    images, shown = next(iter(batches))
    order = np.argsort(shown.numpy(), kind="stable")
    pixels = np.rint((images.numpy() + 1) * 128).clip(0, 255).astype(np.uint8)
    return pixels[order], shown.numpy()[order].astype(np.int64)

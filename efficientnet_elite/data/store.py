"""Stores of images: decoded once and held in memory, or read and decoded each time."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from .cache import Add, CachedImages
from .decode import Pixels, UnreadableImage
from .picture import DecodedPicture, Picture

T = TypeVar("T")


class ImageStore:
    """Gives the images of a data set by index: decoded ones from memory, others from their files.

    Args:
      cached: the first images, decoded, possibly shrunk.
      read: takes the index of an image that is not cached, and whether its crops may be rough for
        the sake of speed, to the image. It is called from several threads.
      max_side: a cached image whose shorter side has so many pixels may be shrunk; None: none is.
    """

    def __init__(
        self, cached: CachedImages, read: Callable[[int, bool], Picture], max_side: int | None
    ) -> None:
        self._flat, self._shapes = cached.flat, cached.shapes
        self._ends, self._channels = cached.ends, cached.channels
        self._read = read
        self._max_side = max_side

    def picture(self, index: int, original: bool) -> Picture:
        """Image ``index``, called from several threads.

        Args:
          index: number of the image.
          original: whether crops must be those of the image itself, not of a smaller copy.
        """
        if index < len(self._shapes):
            height, width = self._shapes[index]
            is_original = self._max_side is None or min(height, width) < self._max_side
            if is_original or not original:
                end = self._ends[index]
                pixels = self._flat[end - height * width * self._channels : end]
                return DecodedPicture(pixels.reshape(height, width, self._channels))
        return self._read(index, not original)


class SquareStore:
    """Images of one size with their labels, read in order; used for validation and test parts.

    Args:
      cached: the pixels of all images; the notes are their labels.
      shape: of each image: (height, width, channels).
    """

    def __init__(self, cached: CachedImages, shape: tuple[int, int, int]) -> None:
        self._flat = _variable(cached.flat)
        self._shape = shape
        self._labels = np.array(cached.notes, np.int32)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Batches of uint8 (n, *shape) and labels, int32 (n,); the last may be smaller."""
        shape = self._shape
        num_bytes = math.prod(shape)

        def batch(labels: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            count = tf.size(labels, tf.int64)
            pixels = tf.slice(self._flat.value(), [first * num_bytes], [count * num_bytes])
            return tf.reshape(pixels, (-1, *shape)), labels

        labels = tf.data.Dataset.from_tensor_slices(self._labels).batch(batch_size)
        firsts = tf.data.Dataset.range(0, len(self._labels), batch_size)
        return tf.data.Dataset.zip(labels, firsts).map(batch)


def _variable(flat: Pixels) -> tf.Variable:
    """Makes a variable from a buffer without copying it.

    It is on the CPU even if there is a GPU. A variable is needed because tf.data passes variables
    by reference, whereas it writes captured tensors into the graph, which copies the images for
    each dataset and fails beyond 2 GB. DLPack lets the variable use the buffer itself.
    """
    with tf.device("CPU:0"):
        return tf.Variable(tf.experimental.dlpack.from_dlpack(flat.__dlpack__()), trainable=False)


def decode_all(
    items: Iterable[T],
    decode: Callable[[T], Pixels],
    add: Add,
    *,
    total: int,
    progress: bool,
    stop_when_full: bool = False,
) -> list[tuple[int, str]]:
    """Decodes every item once, using all CPU cores.

    Args:
      items: the arguments of `decode`.
      decode: function from an item to its pixels; raises UnreadableImage.
      add: receives the readable images in order, and returns whether the image still fits.
      total: number of items, for the progress bar.
      progress: whether to show a progress bar.
      stop_when_full: whether to stop at the first image that does not fit; otherwise the rest is
        decoded too, to find all unreadable images.

    Returns:
      The position of each unreadable item, and the reason why it is unreadable.
    """

    def attempt(item: T) -> Pixels | str:
        try:
            return decode(item)
        except UnreadableImage as error:
            return str(error)

    unreadable = []
    results = _map_ahead(attempt, items)
    for position, image in enumerate(
        tqdm(results, "decoding images", total, disable=not progress, unit="image")
    ):
        if isinstance(image, str):
            unreadable.append((position, image))
        elif not add(image) and stop_when_full:
            break
    return unreadable


def _map_ahead(function: Callable[[T], Pixels | str], items: Iterable[T]) -> Iterator[Pixels | str]:
    """``map`` with threads, in order and with bounded memory; decoders release the GIL."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Pixels | str]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

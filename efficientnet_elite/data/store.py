"""Stores of images: decoded once and held in memory, or read and decoded each time."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from .cache import Add
from .decode import Pixels, UnreadableImage

T = TypeVar("T")


class ImageStore(Protocol):
    """Gives images by index inside functions of tf.data."""

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` (int64 scalar) as uint8 (height, width, 3)."""


class DecodedStore:
    """All images one after the other in one buffer, which all tf.data datasets share.

    Args:
      flat: the pixels of all images, uint8 (total,).
      shapes: height and width of each image, int64 (n, 2).
    """

    def __init__(self, flat: Pixels, shapes: NDArray[np.int64]) -> None:
        sizes = shapes.prod(axis=1) * 3
        self._flat = _variable(flat)
        with tf.device("CPU:0"):
            self._begins = tf.constant(np.cumsum(sizes) - sizes, tf.int64)
            self._shapes = tf.constant(np.insert(shapes, 2, 3, axis=1), tf.int64)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` as uint8 (height, width, 3)."""
        shape = self._shapes[index]
        begin = self._begins[index]
        pixels = tf.slice(self._flat.value(), [begin], [tf.reduce_prod(shape)])
        return tf.ensure_shape(tf.reshape(pixels, shape), (None, None, 3))


class SquareStore:
    """Images of one size with their labels, read in order; used for validation and test parts.

    Args:
      flat: the pixels of all images, uint8 (total,).
      side: side of each image in pixels.
      labels: labels of the images.
    """

    def __init__(self, flat: Pixels, side: int, labels: Sequence[int]) -> None:
        self._flat = _variable(flat)
        self._side = side
        self._labels = np.array(labels, np.int32)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Batches of uint8 (n, side, side, 3) and labels, int32 (n,); the last may be smaller."""
        shape = (self._side, self._side, 3)
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


class ReadingStore:
    """Images that are decoded each time they are read, for data sets that do not fit into memory.

    Args:
      read: function from the index of an image to its pixels; called from several threads.
    """

    def __init__(self, read: Callable[[int], Pixels]) -> None:
        self._read = read

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` as uint8 (height, width, 3)."""
        pixels = tf.numpy_function(lambda i: self._read(int(i)), [index], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (None, None, 3))


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

"""Where the pixels are: decoded in memory once, or read again whenever they are wanted."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from .decode import Pixels, UnreadableImage

T = TypeVar("T")
_ALIGNMENT = 64  # bytes; TensorFlow takes over a NumPy buffer without a copy only when aligned


class ImageStore(Protocol):
    """Images by number, inside a tf.data function."""

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` (int64 scalar) as uint8 (height, width, 3)."""


class DecodedStore:
    """All images behind each other in one buffer, shared by every dataset that reads it.

    Args:
      flat: the pixels, uint8 (total,), C order, aligned.
      shapes: height and width of each image, int64 (n, 2).
    """

    def __init__(self, flat: Pixels, shapes: NDArray[np.int64]) -> None:
        sizes = shapes.prod(axis=1) * 3
        # On the CPU even where a GPU exists. A variable, because tf.data writes the tensors that
        # its functions capture into a graph when it optimises them - a second copy of the images
        # for every dataset, and a failure beyond 2 GB - but passes variables by reference. Through
        # DLPack, because the variable then takes over the buffer instead of copying it.
        with tf.device("CPU:0"):
            self._flat = tf.Variable(
                tf.experimental.dlpack.from_dlpack(flat.__dlpack__()), trainable=False
            )
            self._begins = tf.constant(np.cumsum(sizes) - sizes, tf.int64)
            self._shapes = tf.constant(np.insert(shapes, 2, 3, axis=1), tf.int64)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` as uint8 (height, width, 3)."""
        shape = self._shapes[index]
        begin = self._begins[index]
        pixels = tf.slice(self._flat.value(), [begin], [tf.reduce_prod(shape)])
        return tf.ensure_shape(tf.reshape(pixels, shape), (None, None, 3))


class ReadingStore:
    """Images decoded each time, for sets that do not fit into memory.

    Args:
      read: number to pixels; called from several threads.
    """

    def __init__(self, read: Callable[[int], Pixels]) -> None:
        self._read = read

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Image ``index`` as uint8 (height, width, 3)."""
        pixels = tf.numpy_function(lambda i: self._read(int(i)), [index], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (None, None, 3))


class _Buffer:
    """Collects images until a budget is spent.

    The whole budget is reserved at once, but memory that is never written is never used.
    """

    def __init__(self, budget_bytes: int) -> None:
        reserved = np.empty(budget_bytes + _ALIGNMENT, np.uint8)
        begin = -reserved.ctypes.data % _ALIGNMENT
        self._flat = reserved[begin : begin + budget_bytes]
        self._used = 0
        self._shapes: list[tuple[int, int]] = []

    def add(self, image: Pixels) -> bool:
        """Appends the image and says whether it fitted."""
        end = self._used + image.size
        if end > self._flat.size:
            return False
        self._flat[self._used : end] = image.reshape(-1)
        self._used = end
        self._shapes.append((image.shape[0], image.shape[1]))
        return True

    def store(self) -> DecodedStore:
        return DecodedStore(self._flat[: self._used], np.array(self._shapes, np.int64))


def decode_all(
    items: Iterable[T],
    decode: Callable[[T], Pixels],
    *,
    budget_bytes: int,
    total: int,
    progress: bool,
    stop_when_full: bool = False,
) -> tuple[DecodedStore | None, dict[int, str]]:
    """Decodes every item once, on all cores.

    Args:
      items: whatever ``decode`` takes.
      decode: item to pixels; raises UnreadableImage.
      budget_bytes: of decoded pixels to keep.
      total: number of items, for the progress bar.
      progress: show one.
      stop_when_full: give up at the first image beyond the budget; otherwise the rest is still
        decoded, to find the unreadable ones.

    Returns:
      The store of all readable images in order (None where they exceed the budget), and the
      reason for each unreadable item by its position.
    """

    def attempt(item: T) -> Pixels | str:
        try:
            return decode(item)
        except UnreadableImage as error:
            return str(error)

    buffer: _Buffer | None = _Buffer(budget_bytes)
    unreadable: dict[int, str] = {}
    results = _map_ahead(attempt, items)
    for position, image in enumerate(
        tqdm(results, "decoding images", total, disable=not progress, unit="image")
    ):
        if isinstance(image, str):
            unreadable[position] = image
        elif buffer is not None and not buffer.add(image):
            buffer = None
            if stop_when_full:
                break
    return (buffer.store() if buffer is not None else None), unreadable


def _map_ahead(function: Callable[[T], Pixels | str], items: Iterable[T]) -> Iterator[Pixels | str]:
    """``map`` on threads (decoders release the interpreter lock), in order, in bounded memory."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Pixels | str]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

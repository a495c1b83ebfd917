"""A loaded data set and its parts, ready for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .cache import ImageCache
from .geometry import PipelineConfig
from .store import ImageStore

Key: TypeAlias = tf.Tensor | dict[str, tf.Tensor]
LAST = np.iinfo(np.int64).max  # end of a tf.data range that has none


@dataclass(frozen=True)
class SkippedImage:
    """An image left out, and why.

    Attributes:
      path: as the user knows it: relative to the folder, or the id inside a TFDS data set.
      reason: a few words.
    """

    path: str
    reason: str


class Part(Protocol):
    """Some images of a data set. A key stands for an image until its pixels are needed."""

    @property
    def size(self) -> int:
        """Number of images."""

    def keys(self) -> tf.data.Dataset:
        """Every key once, always in the same order."""

    def training_keys(
        self, seed: int, first_epoch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """An endless stream of keys, ``steps`` times ``batch_size`` an epoch.

        A pure function of the arguments: every epoch has an order of its own, and a stream begun at
        a later epoch equals the rest of one begun at 0.
        """

    def fetch(self, key: Key) -> tuple[tf.Tensor, tf.Tensor]:
        """The image, uint8 (height, width, 3), and its label, int32, inside a tf.data function.

        The label is a scalar, or a mask (height, width).
        """

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """``count`` keys spread over the classes, and the positions of their images."""


class IndexedPart:
    """Images of a store with random access; keys are numbers in the store.

    Args:
      store: the images.
      labels: of all images in the store, int32.
      indices: which of them belong to this part, int64.
    """

    def __init__(
        self, store: ImageStore, labels: NDArray[np.int32], indices: NDArray[np.int64]
    ) -> None:
        self._store = store
        self._labels = labels
        self._indices = indices

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self._indices)

    def keys(self) -> tf.data.Dataset:
        """Every key once, always in the same order."""
        return tf.data.Dataset.from_tensor_slices(self._indices)

    def training_keys(
        self, seed: int, first_epoch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """See ``Part``. An epoch shuffles all images and leaves out the last of them."""
        indices = tf.constant(self._indices)

        def pick(step: tf.Tensor) -> tf.Tensor:
            # The permutation is computed number by number: no shuffle buffer to fill, none to
            # save, and any epoch can begin at once. A batch at a time, because a call costs more
            # than the arithmetic in it.
            chosen = tf.random.experimental.index_shuffle(
                (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64),
                tf.stack([np.int64(seed), step // steps]),
                np.int64(self.size - 1),
            )
            return tf.gather(indices, chosen)

        return tf.data.Dataset.range(first_epoch * steps, LAST).map(pick).unbatch()

    def fetch(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The image, uint8 (height, width, 3), and its label, int32."""
        return self._store.read(key), tf.constant(self._labels)[key]

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """Keys drawn in turn from each class, and the positions of their images in the store."""
        chosen = self._indices[spread(self._labels[self._indices], count, seed)]
        return tf.data.Dataset.from_tensor_slices(chosen), chosen


def spread(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    """Random positions that give every class its equal share for as long as it has images.

    Args:
      labels: to choose from, shape (n,).
      count: how many positions; n where n is smaller.
      seed: of the choice.

    Returns:
      Positions in ``labels``, none twice, the classes taking turns.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[by_class]
    turn = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    return by_class[np.argsort(turn, kind="stable")[:count]]


@dataclass(frozen=True)
class ImageData:
    """A data set, decoded or ready to stream, split into its parts.

    Attributes:
      name: as given to ``--dataset``.
      labels: class names by label.
      parts: by name: ``train``, ``validation``, ``test``; disjoint.
      skipped: images left out.
      fingerprint: changes when images, labels or splits change.
      pipeline: how its images become network inputs.
      cache: where pixels that are wanted again are kept.
      masks: whether the parts' labels are masks, with a class for each pixel (segmentation).
    """

    name: str
    labels: tuple[str, ...]
    parts: Mapping[str, Part]
    skipped: tuple[SkippedImage, ...]
    fingerprint: str
    pipeline: PipelineConfig
    cache: ImageCache
    masks: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images by part."""
        return {name: part.size for name, part in self.parts.items()}

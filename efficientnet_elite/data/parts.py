"""A loaded data set and its parts: what the pipeline makes batches from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..config import InputSize, SizeLike
from .cache import ImageCache
from .decode import UnreadableImage
from .geometry import PipelineConfig
from .picture import Picture
from .store import ImageStore

Reference: TypeAlias = int | bytes
"""Stands for an image until its pixels are needed, so that shuffling moves few bytes. In tf.data, a
*key* is a pair of tensors: a reference, and the label of its image, int32."""

ENDLESS = np.iinfo(np.int64).max  # the end of a tf.data range that is not meant to end


@dataclass(frozen=True)
class SkippedImage:
    """An image that was left out because it could not be read.

    Attributes:
      path: what the user calls it: its path relative to the folder, or its id in a TFDS data set.
      reason: why it could not be read, in a few words.
    """

    path: str
    reason: str


class Part(Protocol):
    """One of the parts train, validation and test of a data set."""

    @property
    def size(self) -> int:
        """Number of images."""

    @property
    def labels(self) -> NDArray[np.int32] | None:
        """The label of every image, in the order of `keys`; None where they are not known yet."""

    def keys(self) -> tf.data.Dataset:
        """Returns the key of every image once, always in the same order."""

    def training_keys(
        self, seed: int, first_batch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """Returns an endless stream of keys, in another order each epoch.

        The stream depends on the arguments alone. One that begins at a later batch equals the rest
        of one that begins at batch 0.

        Args:
          seed: seed of the order.
          first_batch: the batch to begin with, counted from 0 through all epochs.
          steps: batches in an epoch.
          batch_size: images in a batch; an epoch has ``steps * batch_size`` keys.
        """

    def picture(self, reference: Reference, original: bool) -> Picture:
        """Returns the image of a reference, outside of tf.data; called from several threads.

        Args:
          reference: of the image.
          original: whether crops must be those of the image itself; otherwise they may be those of
            a smaller copy, or rough in another way, for the sake of speed.

        Raises:
          UnreadableImage: it cannot be decoded; its crops may raise this, too.
        """

    def leave_out(self, reference: Reference, error: UnreadableImage) -> None:
        """Reports an image that turns out to be unreadable; or raises, if it must not be left out.

        Args:
          reference: of the image.
          error: the reason.
        """

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """Draws images evenly from all classes.

        Args:
          count: number of images; all images where there are fewer.
          seed: seed of the choice.

        Returns:
          The keys of the images and the positions of the images, int64.
        """


class IndexedPart:
    """A part with random access to its images; a key is an image's number in the store.

    Args:
      store: the images of all parts.
      labels: labels of all images in the store, int32 (n,).
      indices: numbers of the images that belong to this part, int64.
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

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of every image, see `Part.labels`."""
        return self._labels[self._indices]

    def keys(self) -> tf.data.Dataset:
        """Returns the key of every image once, always in the same order."""
        return self._keys(self._indices)

    def training_keys(
        self, seed: int, first_batch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """Returns an endless stream of keys, see `Part.training_keys`.

        Each epoch shuffles all images and leaves out the last ones that fill no batch.
        """
        indices = tf.constant(self._indices)
        labels = tf.constant(self._labels[self._indices])

        def keys_of_batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # `index_shuffle` computes single positions of a permutation. So there is no shuffle
            # buffer to fill or to save, and the stream can begin at any batch at no cost. It is
            # called for a whole batch because the call costs more than the computation.
            shuffled = tf.random.experimental.index_shuffle(
                (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64),
                tf.stack([np.int64(seed), step // steps]),
                np.int64(self.size - 1),
            )
            return tf.gather(indices, shuffled), tf.gather(labels, shuffled)

        return tf.data.Dataset.range(first_batch, ENDLESS).map(keys_of_batch).unbatch()

    def balanced(self) -> BalancedPart:
        """Returns a part with the same images, which draws all classes equally often."""
        return BalancedPart(self._store, self._labels, self._indices)

    def repeated(self, size: int) -> IndexedPart:
        """Returns a part with the same images, each as often as needed for ``size`` or more."""
        indices = np.tile(self._indices, -(-size // self.size))
        return IndexedPart(self._store, self._labels, indices)

    def picture(self, reference: Reference, original: bool) -> Picture:
        """Returns the image of a number in the store, see `Part.picture`."""
        return self._store.picture(int(reference), original)

    def leave_out(self, reference: Reference, error: UnreadableImage) -> None:
        """Raises: it could be read when the data set was loaded."""
        raise error

    def _keys(self, numbers: NDArray[np.int64]) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((numbers, self._labels[numbers]))

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """Draws images evenly from all classes, see `Part.sample`.

        The positions are numbers in the store.
        """
        positions = class_balanced_sample(self._labels[self._indices], count, seed)
        numbers = self._indices[positions]
        return self._keys(numbers), numbers


class BalancedPart(IndexedPart):
    """A part from which trainings draw all classes that it has equally often, and at random.

    The images of a class come in turn, each again only after the others: so all images are seen,
    those of large classes over some epochs, and those of small ones several times in one. Where
    the draws of an epoch are no multiple of the classes, a few images miss a turn.
    """

    def training_keys(
        self, seed: int, first_batch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """Returns an endless stream of keys, see `Part.training_keys`."""
        labels = self._labels[self._indices]
        by_class = np.argsort(labels, kind="stable")
        present, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
        indices = tf.constant(self._indices[by_class])
        classes = tf.constant(present)
        firsts, sizes = (tf.constant(column, tf.int64) for column in (starts, counts))
        drawn = steps * batch_size  # in an epoch
        turns = -(-drawn // len(present))  # of each class in an epoch, or one less

        def keys_of_batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            epoch = step // steps
            # Every draw of an epoch is a class and its turn; their order is shuffled.
            draw = tf.random.experimental.index_shuffle(
                (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64),
                tf.stack([np.int64(seed), epoch]),
                np.int64(drawn - 1),
            )
            # The classes with a turn less are others in each epoch.
            number = (draw + epoch) % len(present)
            turn = epoch * turns + draw // len(present)
            size = tf.gather(sizes, number)
            # All images of a class, then all of them again in another order.
            # `index_shuffle` itself, which pads seeds of several permutations on the wrong side.
            image = tf.raw_ops.RandomIndexShuffle(
                index=turn % size,
                seed=tf.stack(
                    [tf.fill([batch_size], np.int64(seed)), turn // size, number], axis=1
                ),
                max_index=size - 1,
                rounds=4,
            )
            chosen = tf.gather(indices, tf.gather(firsts, number) + image)
            return chosen, tf.gather(classes, number)

        return tf.data.Dataset.range(first_batch, ENDLESS).map(keys_of_batch).unbatch()


def class_balanced_sample(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    """Draws positions at random, in turn from each class that has any left.

    Args:
      labels: labels to draw from, shape (n,).
      count: number of positions; n where n is smaller.
      seed: seed of the choice.

    Returns:
      Distinct positions in ``labels``, the classes in turn.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[by_class]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    return by_class[np.argsort(rank_in_class, kind="stable")[:count]]


@dataclass(frozen=True)
class ImageData:
    """A data set that is split into its parts.

    Attributes:
      name: the value of ``--dataset``.
      labels: name of each class, by label.
      parts: the disjoint parts by name: ``train``, ``validation`` and ``test``.
      skipped: images that could not be read.
      fingerprint: a hash of the images, labels and parts; it changes when one of them does.
      pipeline: how the images become network inputs.
      cache: where pixels are cached.
      masks: whether labels are masks, with a class for each pixel (segmentation).
      unlabelled: more images, for distillation; their labels mean nothing. None: there are none.
      names: part to what the user calls its images, in the order of its keys; empty where images
        have no names, as in TFDS data sets.
      channels: 3, or 1 where networks see the brightness of images alone.
      folds: the parts train and validation of the further folds 1, 2, ...; empty where the images
        for training and validation are not divided into folds.
    """

    name: str
    labels: tuple[str, ...]
    parts: Mapping[str, Part]
    skipped: tuple[SkippedImage, ...]
    fingerprint: str
    pipeline: PipelineConfig
    cache: ImageCache
    masks: bool = False
    unlabelled: IndexedPart | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    channels: int = 3
    folds: tuple[Mapping[str, Part], ...] = ()

    def in_fold(self, number: int) -> ImageData:
        """The data set with other images for validation; its test part is the same.

        Fold 0 is the data set as it is. The validation parts of all folds are disjoint, and
        together they are all images for training and validation.
        """
        if not number:
            return self
        return replace(self, parts={**self.parts, **self.folds[number - 1]}, names={}, folds=())

    def input_shape(self, resolution: SizeLike) -> tuple[int, int, int]:
        """What a network of this input size sees of an image: (height, width, channels)."""
        return (*InputSize.of(resolution), self.channels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each part, by the part's name."""
        return {name: part.size for name, part in self.parts.items()}

    def class_counts(self, part: str) -> NDArray[np.int64] | None:
        """Number of images of each class in a part, (classes,).

        None where labels are masks, and where images are streamed: counting would read them all.
        """
        labels = self.parts[part].labels
        if self.masks or labels is None:
            return None
        return np.bincount(labels, minlength=self.num_classes)

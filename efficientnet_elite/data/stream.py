"""Reads images from TFRecord files anew each epoch, for TFDS data sets larger than memory.

A TFRecord file can only be read from front to back, so an epoch cannot visit the images in any
order. Instead it shuffles the order of the files, reads several files in turn, and shuffles the
records in blocks: this is as random as the memory for one block allows. All of it is computed from
the seed and the epoch, so that any epoch can be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from .decode import UnreadableImage
from .encoded import EncodedPicture
from .parts import ENDLESS, Reference, class_balanced_sample
from .picture import Picture

_SEPARATOR = b"\0"  # between name and content of an image
_FILES_AT_ONCE = 16
_BLOCK = 2048  # records that are shuffled together; some hundred megabytes of JPEG images
_SAMPLE_FACTOR = 16  # a sample is drawn from the first records, this many times as many


class Shard(NamedTuple):
    """A range of records in one TFRecord file.

    Attributes:
      path: path of the file.
      skip: number of records before the range.
      take: number of records in the range.
    """

    path: str
    skip: int
    take: int


class _Record(NamedTuple):
    """A record, and the file and the position in it that it comes from."""

    path: tf.Tensor
    position: tf.Tensor
    content: tf.Tensor


class StreamedPart:
    """A part whose images are read from TFRecord files each time.

    A reference is the image's name and its encoded content. Images without a label are left out,
    and so are those that cannot be decoded when they are reached: each process writes one line to
    stderr for each of these.

    Args:
      shards: where the records are.
      parse: takes a record to the encoded image and its int32 label, inside a tf.data function.
      channels: of the images, 3 or 1.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        channels: int = 3,
    ) -> None:
        self._shards = shards
        self._parse = parse
        self._channels = channels
        self._reported: set[str] = set()

    @property
    def size(self) -> int:
        """Number of images, including those that will be left out."""
        return sum(shard.take for shard in self._shards)

    @property
    def labels(self) -> None:
        """Unknown: they are read with the images."""
        return None

    def keys(self) -> tf.data.Dataset:
        """Returns the key of every image with a label once, in the order of the files."""
        return self._keys(self._records())

    def training_keys(
        self, seed: int, first_batch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """Returns an endless stream of keys, see `Part.training_keys`.

        To begin within an epoch, the records before are read, but no image is decoded.
        """
        paths, skips, takes = (tf.constant(column) for column in zip(*self._shards, strict=True))

        def keys_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(self._shards)), [np.int64(seed), epoch]
            )
            files = tuple(tf.gather(column, order) for column in (paths, skips, takes))
            records = tf.data.Dataset.from_tensor_slices(files).interleave(
                _open_shard, cycle_length=_FILES_AT_ONCE, deterministic=True
            )

            def shuffle(block: tf.Tensor, records: _Record) -> _Record:
                block_seed = tf.random.experimental.stateless_fold_in(
                    tf.stack([np.int64(seed), epoch]), block
                )
                # The order depends on the seed and the length alone, so all columns get the same.
                return _Record(
                    *(tf.random.experimental.stateless_shuffle(x, block_seed) for x in records)
                )

            blocks = records.batch(_BLOCK).enumerate().map(shuffle)
            # Where images have no label the epoch is too short: it goes on with the first images of
            # the same order.
            return self._keys(blocks.unbatch()).repeat().take(steps * batch_size)

        first_epoch, first_step = divmod(first_batch, steps)
        epochs = tf.data.Dataset.range(first_epoch, ENDLESS)
        return epochs.flat_map(keys_of_epoch).skip(first_step * batch_size)

    def picture(self, reference: Reference, original: bool) -> Picture:
        """Returns the image of a reference, see `Part.picture`."""
        assert isinstance(reference, bytes)
        encoded = reference.partition(_SEPARATOR)[2]
        return EncodedPicture(encoded, quick=not original, channels=self._channels)

    def leave_out(self, reference: Reference, error: UnreadableImage) -> None:
        """Writes the name of an unreadable image and the reason to stderr, once."""
        assert isinstance(reference, bytes)
        name = reference.partition(_SEPARATOR)[0].decode()
        if name not in self._reported:
            self._reported.add(name)
            tqdm.write(f"skipped {name}: {error}", file=sys.stderr)

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """Draws images evenly from all classes, see `Part.sample`.

        The images are among the first in the files, so that not all files must be read. The
        positions count the records in the order of the files.
        """
        label_stream = (
            self._records()
            .take(_SAMPLE_FACTOR * count)
            .map(lambda record: self._parse(record.content)[1])
        )
        labels = np.fromiter(label_stream.as_numpy_iterator(), np.int32)
        positions = np.sort(class_balanced_sample(labels, count, seed))
        is_drawn = tf.constant(np.isin(np.arange(len(labels)), positions))
        records = self._records().take(len(labels)).enumerate()
        drawn = records.filter(lambda i, _: is_drawn[i]).map(lambda _, record: record)
        return self._keys(drawn), positions

    def _records(self) -> tf.data.Dataset:
        columns = tuple(tf.constant(column) for column in zip(*self._shards, strict=True))
        return tf.data.Dataset.from_tensor_slices(columns).flat_map(_open_shard)

    def _keys(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Takes records to keys; leaves out images without a label."""

        def key(record: _Record) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = self._parse(record.content)
            # The form of TFDS's ids.
            file = tf.strings.regex_replace(record.path, "^.*/", "")
            name = tf.strings.join([file, tf.strings.as_string(record.position)], "__")
            return tf.strings.join([name, encoded], _SEPARATOR), label

        keys = records.map(key, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return keys.filter(lambda reference, label: label >= 0)


def _open_shard(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    """Returns the records of a `Shard`, for tf.data's interleave and flat_map."""
    skip, take = tf.cast(skip, tf.int64), tf.cast(take, tf.int64)
    records = tf.data.TFRecordDataset(path).enumerate().skip(skip).take(take)
    return records.map(lambda position, content: _Record(path, position, content))

"""Images that stay in their TFRecord files, for TFDS sets larger than memory.

Files can only be read front to back, so an epoch's order is a shuffle of files, several read in
turn, and a shuffle of blocks of records: as random as the memory for one block allows. All of it
is computed from the seed and the epoch, so that any epoch can be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from .decode import UnreadableImage, decode
from .parts import LAST, Key, spread

_FILES_AT_ONCE = 16
_BLOCK = 2048  # records shuffled together; some hundred megabytes of JPEG
_SAMPLE_FROM = 16  # a sample is chosen among this many times its count


class Shard(NamedTuple):
    """A run of records in one TFRecord file.

    Attributes:
      path: of the file.
      skip: records before the run.
      take: records in it.
    """

    path: str
    skip: int
    take: int


class _Record(NamedTuple):
    """A record and where it is from."""

    path: tf.Tensor
    position: tf.Tensor
    content: tf.Tensor


class StreamedPart:
    """Images read from TFRecord files anew each time; keys are decoded images.

    Images that cannot be decoded or have no label are left out when they are met; of the former
    each process says so once.

    Args:
      shards: where the records are.
      parse: a record to (encoded image, int32 label), inside a tf.data function.
      max_side: see ``decode``.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        max_side: int | None,
    ) -> None:
        self._shards = shards
        self._parse = parse
        self._max_side = max_side
        self._left_out: set[str] = set()

    @property
    def size(self) -> int:
        """Number of images, including those that are left out."""
        return sum(shard.take for shard in self._shards)

    def keys(self) -> tf.data.Dataset:
        """Every usable image once, in the order of the files."""
        return self._decoded(self._records())

    def training_keys(
        self, seed: int, first_epoch: int, steps: int, batch_size: int
    ) -> tf.data.Dataset:
        """See ``Part``."""
        paths, skips, takes = (tf.constant(column) for column in zip(*self._shards, strict=True))

        def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
            count = len(self._shards)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(count), [np.int64(seed), epoch]
            )
            files = tuple(tf.gather(column, order) for column in (paths, skips, takes))
            records = tf.data.Dataset.from_tensor_slices(files).interleave(
                _open, cycle_length=_FILES_AT_ONCE, deterministic=True
            )

            def shuffle(block: tf.Tensor, records: _Record) -> _Record:
                block_seed = tf.random.experimental.stateless_fold_in(
                    tf.stack([np.int64(seed), epoch]), block
                )
                # The order depends on seed and length alone: the same for every column.
                return _Record(
                    *(tf.random.experimental.stateless_shuffle(x, block_seed) for x in records)
                )

            blocks = records.batch(_BLOCK).enumerate().map(shuffle)
            # Images left out leave gaps; the next pass over the same order fills them.
            return self._decoded(blocks.unbatch()).repeat().take(steps * batch_size)

        return tf.data.Dataset.range(first_epoch, LAST).flat_map(epoch_of)

    def fetch(self, key: Key) -> tuple[tf.Tensor, tf.Tensor]:
        """The image, uint8 (height, width, 3), and its label, int32."""
        return key["image"], key["label"]

    def sample(self, count: int, seed: int) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
        """Images of all classes among the first in the files, and their positions there."""
        labels = (
            self._records()
            .take(_SAMPLE_FROM * count)
            .map(lambda record: self._parse(record.content)[1])
        )
        found = np.fromiter(labels.as_numpy_iterator(), np.int32)
        chosen = np.sort(spread(found, count, seed))
        members = tf.constant(np.isin(np.arange(len(found)), chosen))
        records = self._records().take(len(found)).enumerate()
        wanted = records.filter(lambda i, _: members[i]).map(lambda _, record: record)
        return self._decoded(wanted), chosen

    def _records(self) -> tf.data.Dataset:
        columns = tuple(tf.constant(column) for column in zip(*self._shards, strict=True))
        return tf.data.Dataset.from_tensor_slices(columns).flat_map(_open)

    def _decoded(self, records: tf.data.Dataset) -> tf.data.Dataset:
        def read(path: bytes, position: np.int64, encoded: bytes) -> NDArray[np.uint8]:
            try:
                return decode(encoded, self._max_side)
            except UnreadableImage as error:
                name = f"{Path(path.decode()).name}__{position}"  # as TFDS's ids
                if name not in self._left_out:
                    self._left_out.add(name)
                    tqdm.write(f"skipped {name}: {error}", file=sys.stderr)
                return np.empty((0, 0, 3), np.uint8)

        def decoded(record: _Record) -> Key:
            encoded, label = self._parse(record.content)
            arguments = [record.path, record.position, encoded]
            image = tf.numpy_function(read, arguments, tf.uint8, stateful=False)
            return {"image": tf.ensure_shape(image, (None, None, 3)), "label": label}

        images = records.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return images.filter(lambda key: tf.size(key["image"]) > 0 and key["label"] >= 0)


def _open(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    skip, take = tf.cast(skip, tf.int64), tf.cast(take, tf.int64)
    records = tf.data.TFRecordDataset(path).enumerate().skip(skip).take(take)
    return records.map(lambda position, content: _Record(path, position, content))

"""Images to batches: training, evaluation, calibration.

Pixels stay uint8 until a batch is complete, then become x / 128 - 1. In int8 that is pixel - 128
with scale 1/128 and zero point 0: a device shifts its bytes and has normalised, and the zero
padding of the stem is the mid-grey pixel 128.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..errors import UserError
from . import choices
from .cache import Add
from .geometry import center_box, nearest, random_box, resample
from .parts import LAST, ImageData, Key
from .store import SquareStore

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def normalise(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 pixels of any shape as float32 in [-1, 127/128], exactly."""
    return tf.cast(pixels, tf.float32) * (1 / 128) - 1.0


def steps_per_epoch(data: ImageData, batch_size: int) -> int:
    """Whole batches in the training part; UserError where not even one is."""
    size = data.parts["train"].size
    if batch_size > size:
        raise UserError(
            f"batch size {batch_size} is larger than the training part of {data.name} "
            f"({size} images): use a batch size of {size} or less"
        )
    return size // batch_size


def train_batches(
    data: ImageData,
    *,
    resolution: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    augment: Augmentation | None = None,
) -> tuple[tf.data.Dataset, int]:
    """An endless stream of augmented training batches.

    A pure function of the arguments: begun at a later epoch, it equals the rest of the stream begun
    at epoch 0, bit for bit.

    Args:
      data: what ``load`` returned.
      resolution: side of the network's input in pixels.
      batch_size: images a batch; the images that fill no batch are others each epoch.
      seed: of the order and the augmentation.
      first_epoch: where to begin.
      augment: further augmentation of a whole batch: (uint8 images (batch, resolution, resolution,
        3), int64 seed (2,)) to images of the same type and shape. None: what `DataConfig.augment`
        names.

    Returns:
      The stream of (float32 (batch, resolution, resolution, 3), int32 (batch,)) and the number of
      batches an epoch. Masks in place of classes are (batch, resolution, resolution), here and in
      `eval_batches`.

    Raises:
      UserError: the batch is larger than the training part.
    """
    part = data.parts["train"]
    steps = steps_per_epoch(data, batch_size)
    if augment is None and data.pipeline.augment is not None:
        augment = choices.augmentation(data.pipeline.augment)

    def draw(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.random.stateless_uniform([batch_size, 5], [np.int64(seed), step], alg="philox")
        return tf.repeat(step, batch_size), draws

    def crop(key: Key, numbers: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        image, label = part.fetch(key)
        step, draws = numbers
        box = random_box(tf.shape(image), data.pipeline, draws[:4])
        square = resample(image, box, resolution)
        return step, square, _cropped(label, box, resolution), draws[4] < 0.5

    def finish(
        step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, mirrored: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if data.pipeline.flip:
            images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
            if data.masks:
                labels = tf.where(mirrored[:, None, None], labels[:, :, ::-1], labels)
        # The place of the full recipe's colour augmentation: whole uint8 batches, after everything
        # that moves pixels and before they are normalised.
        if augment is not None:
            images = augment(images, tf.stack([np.int64(seed), step[0]]))
        return normalise(images), labels

    # All random numbers of a batch in one call; they depend on seed and step alone.
    numbers = tf.data.Dataset.range(first_epoch * steps, LAST).map(draw).unbatch()
    keys = part.training_keys(seed, first_epoch, steps, batch_size)
    batches = (
        # Which image comes when and how it is cropped are settled before any pixel is touched.
        tf.data.Dataset.zip(keys, numbers)
        # The costly step, alone in the parallel map. One image at a time, because they differ in
        # size; first of all steps on pixels, because it leaves fewer of them.
        .map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # As uint8: a quarter of the bytes to copy.
        .batch(batch_size, drop_remainder=True)
        # What needs no image's own size: one call a batch.
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # Last, so that the next batch is made while the network trains on this one.
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )
    return batches, steps


def eval_batches(
    data: ImageData, part: str, *, resolution: int, batch_size: int, base_resolution: int
) -> tf.data.Dataset:
    """Every image of a part once, in fixed order, as a device would see it.

    Args:
      data: what ``load`` returned.
      part: ``train``, ``validation`` or ``test``.
      resolution: side of the network's input in pixels.
      batch_size: images a batch; the last may be smaller.
      base_resolution: input side of the pool's unscaled network in pixels.

    Returns:
      A dataset of (float32 (batch, resolution, resolution, 3), int32 (batch,)).
    """
    fraction = data.pipeline.crop_fraction(resolution, base_resolution)
    squares = _squares(data, part, data.parts[part].keys(), resolution, fraction)
    if not data.masks and data.cache.has_room(data.parts[part].size * 3 * resolution**2):
        kept = data.cache.keep(
            f"{part}-{resolution}",
            lambda add: _add_all(squares, add),
            key=[data.fingerprint, fraction, tf.__version__],
        )
        if kept.flat is not None:
            return _finished(SquareStore(kept.flat, resolution, kept.notes).batches(batch_size))
    return _finished(squares.batch(batch_size))


def calibration_images(
    data: ImageData, *, resolution: int, base_resolution: int, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Training images, preprocessed as for evaluation, to choose quantization ranges by.

    Args:
      data: what ``load`` returned.
      resolution: side of the network's input in pixels.
      base_resolution: input side of the pool's unscaled network in pixels.
      count: number of images, taken in turn from all classes; all images where there are fewer.
      seed: of the choice.

    Returns:
      The images, float32 (n, resolution, resolution, 3), and the number of each in the data set.
    """
    keys, indices = data.parts["train"].sample(count, seed)
    fraction = data.pipeline.crop_fraction(resolution, base_resolution)
    squares = _squares(data, "train", keys, resolution, fraction)
    return next(iter(_finished(squares.batch(count))))[0].numpy(), indices


def _squares(
    data: ImageData, part: str, keys: tf.data.Dataset, resolution: int, fraction: float
) -> tf.data.Dataset:
    """Centre crops, uint8 (resolution, resolution, 3), and their labels."""

    def crop(key: Key) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = data.parts[part].fetch(key)
        box = center_box(tf.shape(image), fraction)
        return resample(image, box, resolution), _cropped(label, box, resolution)

    return keys.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _cropped(label: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """What is left of a label in a crop: of a mask the same pixels, of a class all."""
    return nearest(label, box, resolution) if label.shape.rank == 2 else label


def _add_all(squares: tf.data.Dataset, add: Add) -> list[int]:
    labels = []
    for image, label in squares.with_options(_options()).as_numpy_iterator():
        add(image)
        labels.append(int(label))
    return labels


def _finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    return (
        batches.map(lambda images, labels: (normalise(images), labels))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # The cores are busy with one image each; splitting one over them costs more than it saves.
    options.threading.max_intra_op_parallelism = 1
    return options

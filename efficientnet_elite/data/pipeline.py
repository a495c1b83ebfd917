"""From images to batches: for training, for evaluation and as representative data set.

`train_batches` crops at random, mirrors and augments; its comments say why each step stands where
it does. `eval_batches` and `calibration_images` take centre crops in a fixed order.

Normalisation is pixel / 128 - 1. In int8 this is pixel - 128, with scale 1/128 and zero point 0: a
device only shifts its bytes, and the zeros with which convolutions pad are the mid-grey pixel 128.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..errors import UserError
from . import choices
from .cache import Add
from .geometry import center_box, crop_and_resize, crop_and_resize_mask, random_box
from .parts import ENDLESS, ImageData, Key
from .store import SquareStore

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(uint8 images (batch, side, side, 3), int64 seed (2,)) to images of the same type and shape."""

_UNLABELLED_SEED = 2**31  # added to the seed for unlabelled images, which get other crops


def normalise(pixels: tf.Tensor) -> tf.Tensor:
    """Returns uint8 pixels of any shape as float32, pixel / 128 - 1, in [-1, 127/128], exactly."""
    return tf.cast(pixels, tf.float32) * (1 / 128) - 1.0


def steps_per_epoch(data: ImageData, batch_size: int) -> int:
    """Returns the number of whole batches in the training part.

    Raises:
      UserError: the training part is smaller than one batch.
    """
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
    unlabelled: int = 0,
    steps: int | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Returns an endless stream of augmented training batches.

    The stream depends on the arguments alone. One that begins at a later epoch equals the rest of
    one that begins at epoch 0, bit for bit.

    Args:
      data: the data set.
      resolution: side of the network's input in pixels.
      batch_size: images in a batch. Images that fill no batch are left out; which ones they are
        differs between epochs.
      seed: seed of the order and the augmentation.
      first_epoch: the epoch to begin with, from 0.
      augment: further augmentation of a whole batch, see `Augmentation`. None for the one that
        `DataConfig.augment` names.
      unlabelled: number of unlabelled images that follow those with labels in each batch. If there
        are too few for an epoch they come several times; if there are more, epochs have others.
      steps: number of batches in an epoch; None for as many as the part has.

    Returns:
      The stream, and the number of batches in an epoch. A batch is float32 images (batch +
      unlabelled, resolution, resolution, 3) and int32 labels: (batch,) for classification, (batch,
      resolution, resolution) for segmentation.

    Raises:
      UserError: the training part is smaller than one batch.
    """
    part = data.parts["train"]
    steps = steps or steps_per_epoch(data, batch_size)
    if augment is None and data.pipeline.augment is not None:
        augment = choices.augmentation(data.pipeline.augment)

    def draw(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # One call for all random numbers of a batch; they depend on seed and step alone.
        draws = tf.random.stateless_uniform([batch_size, 5], [np.int64(seed), step], alg="philox")
        return tf.repeat(step, batch_size), draws

    def crop(key: Key, random_numbers: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        image, label = part.fetch(key)
        step, draws = random_numbers
        box = random_box(tf.shape(image), data.pipeline, draws[:4])
        square = crop_and_resize(image, box, resolution)
        return step, square, _crop_label(label, box, resolution), draws[4] < 0.5

    def finish(
        step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, mirrored: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if data.pipeline.flip:
            images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
            if data.masks:
                labels = tf.where(mirrored[:, None, None], labels[:, :, ::-1], labels)
        # Further augmentation comes after everything that moves pixels, so that it sees images of
        # the network's size, and before normalisation, so that it sees uint8.
        if augment is not None:
            images = augment(images, tf.stack([np.int64(seed), step[0]]))
        return normalise(images), labels

    # First of all, while an image is still a number: which image comes when, and how it is cropped.
    # So shuffling moves no pixels, and the stream can begin at any epoch at no cost.
    keys = part.training_keys(seed, first_epoch, steps, batch_size)
    random_numbers = tf.data.Dataset.range(first_epoch * steps, ENDLESS).map(draw).unbatch()
    batches = (
        tf.data.Dataset.zip(keys, random_numbers)
        # Of the steps on pixels cropping comes first, because it leaves fewer of them. It works on
        # one image at a time, because images differ in size; and it is the costly step, so it has
        # a parallel map to itself.
        .map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # Before normalisation: uint8 is a quarter of the bytes of float32 to copy.
        .batch(batch_size, drop_remainder=True)
        # After batching, because now all images have the same size: one call for the whole batch.
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # The next batch is made while the network trains on this one.
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )
    if unlabelled:
        others = _unlabelled_batches(data, resolution, unlabelled, steps, seed, first_epoch)
        batches = tf.data.Dataset.zip(batches, others).map(
            lambda labelled, images: (tf.concat([labelled[0], images], 0), labelled[1])
        )
    return batches, steps


def _unlabelled_batches(
    data: ImageData, resolution: int, batch_size: int, steps: int, seed: int, first_epoch: int
) -> tf.data.Dataset:
    """Returns an endless stream of unlabelled images, augmented as for training."""
    assert data.unlabelled is not None
    part = data.unlabelled.repeated(steps * batch_size)
    stream, _ = train_batches(
        replace(data, parts={"train": part}, masks=False),
        resolution=resolution,
        batch_size=batch_size,
        seed=seed + _UNLABELLED_SEED,
        first_epoch=first_epoch,
        steps=steps,
    )
    return stream.map(lambda images, labels: images)


def eval_batches(
    data: ImageData, part: str, *, resolution: int, batch_size: int, base_resolution: int
) -> tf.data.Dataset:
    """Returns every image of a part once, in a fixed order, as a device would see it.

    The crops of a classification data set are cached at the network's size, if there is room.

    Args:
      data: the data set.
      part: ``train``, ``validation`` or ``test``.
      resolution: side of the network's input in pixels.
      batch_size: images in a batch; the last batch may be smaller.
      base_resolution: input side of the pool's unscaled network in pixels.

    Returns:
      Batches as those of `train_batches`.
    """
    fraction = data.pipeline.crop_fraction(resolution, base_resolution)
    squares = _center_crops(data, part, data.parts[part].keys(), resolution, fraction)
    if not data.masks and data.cache.has_room(data.parts[part].size * 3 * resolution**2):
        cached = data.cache.keep(
            f"{part}-{resolution}",
            lambda add: _add_all(squares, add),
            key=[data.fingerprint, fraction, tf.__version__],
        )
        if cached.flat is not None:
            store = SquareStore(cached.flat, resolution, cached.notes)
            return _normalised(store.batches(batch_size))
    return _normalised(squares.batch(batch_size))


def calibration_images(
    data: ImageData, *, resolution: int, base_resolution: int, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draws a representative data set: training images, preprocessed as for evaluation.

    It shows the quantizer the ranges of activations.

    Args:
      data: the data set.
      resolution: side of the network's input in pixels.
      base_resolution: input side of the pool's unscaled network in pixels.
      count: number of images, drawn evenly from all classes; all images where there are fewer.
      seed: seed of the choice.

    Returns:
      The images, float32 (n, resolution, resolution, 3), and their positions in the data set.
    """
    squares, positions = _sampled_crops(data, resolution, base_resolution, count, seed)
    return next(iter(_normalised(squares.batch(count))))[0].numpy(), positions


def sample_batches(
    data: ImageData,
    *,
    resolution: int,
    base_resolution: int,
    count: int,
    seed: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Returns training images with their labels, preprocessed as for evaluation.

    Args:
      data: the data set.
      resolution: side of the network's input in pixels.
      base_resolution: input side of the pool's unscaled network in pixels.
      count: number of images, drawn evenly from all classes; all images where there are fewer.
      seed: seed of the choice.
      batch_size: images in a batch; the last batch may be smaller.

    Returns:
      Batches as those of `train_batches`.
    """
    squares, _ = _sampled_crops(data, resolution, base_resolution, count, seed)
    return _normalised(squares.batch(batch_size))


def _sampled_crops(
    data: ImageData, resolution: int, base_resolution: int, count: int, seed: int
) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
    """Returns crops of training images as `_center_crops`, and the images' positions."""
    keys, positions = data.parts["train"].sample(count, seed)
    fraction = data.pipeline.crop_fraction(resolution, base_resolution)
    return _center_crops(data, "train", keys, resolution, fraction), positions


def _center_crops(
    data: ImageData, part: str, keys: tf.data.Dataset, resolution: int, fraction: float
) -> tf.data.Dataset:
    """Returns centre crops, uint8 (resolution, resolution, 3), and their labels."""

    def crop(key: Key) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = data.parts[part].fetch(key)
        box = center_box(tf.shape(image), fraction)
        return crop_and_resize(image, box, resolution), _crop_label(label, box, resolution)

    return keys.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _crop_label(label: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """Crops a mask as its image was cropped; a class stays as it is."""
    return crop_and_resize_mask(label, box, resolution) if label.shape.rank == 2 else label


def _add_all(squares: tf.data.Dataset, add: Add) -> list[int]:
    """Hands all images to the cache and returns their labels."""
    labels = []
    for image, label in squares.with_options(_options()).as_numpy_iterator():
        add(image)
        labels.append(int(label))
    return labels


def _normalised(batches: tf.data.Dataset) -> tf.data.Dataset:
    return (
        batches.map(lambda images, labels: (normalise(images), labels))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # The parallel map gives every core an image of its own. Spreading one image over several cores
    # as well costs more than it gains.
    options.threading.max_intra_op_parallelism = 1
    return options

"""From images to batches: for training, for evaluation and as representative data set.

`train_batches` crops at random, mirrors and augments; its comments say why each step stands where
it does. `eval_batches` and `calibration_images` take centre crops in a fixed order.

Normalisation is pixel / 128 - 1. In int8 this is pixel - 128, with scale 1/128 and zero point 0: a
device only shifts its bytes, and the zeros with which convolutions pad are the mid-grey pixel 128.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..config import InputSize, SizeLike
from ..errors import UserError
from . import choices
from .augmentation import chain
from .cache import Add
from .decode import UnreadableImage, pixels_of
from .parts import ENDLESS, ImageData, Part
from .picture import Change, View, center_view, training_view
from .store import SquareStore

_TOGETHER = 32  # images of evaluation that are cropped in one call
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
    resolution: SizeLike,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    change: Change | None = None,
    unlabelled: int = 0,
    steps: int | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Returns an endless stream of augmented training batches.

    The stream depends on the arguments alone. One that begins later equals the rest of one that
    begins at epoch 0, bit for bit.

    Args:
      data: the data set.
      resolution: size of the network's input in pixels.
      batch_size: images in a batch. Images that fill no batch are left out; which ones they are
        differs between epochs.
      seed: seed of the order and the augmentation.
      first_epoch: the epoch to begin with, from 0.
      first_step: the batch to begin with, counted from 0 at the start of that epoch. No image
        before it is decoded.
      change: further augmentation of one image at a time, see `picture.Change`. None for the one
        that `DataConfig.augment` names.
      unlabelled: number of unlabelled images that follow those with labels in each batch. If there
        are too few for an epoch they come several times; if there are more, epochs have others.
      steps: number of batches in an epoch; None for as many as the part has.

    Returns:
      The stream, and the number of batches in an epoch. A batch is float32 images (batch +
      unlabelled, height, width, channels) and int32 labels: (batch,) for classification,
      (batch, height, width) for segmentation.

    Raises:
      UserError: the training part is smaller than one batch.
    """
    part = data.parts["train"]
    steps = steps or steps_per_epoch(data, batch_size)
    if change is None:
        change = chain(choices.Augmentations.of(data.pipeline.augment).changes())
    view = training_view(data.pipeline, resolution, seed, change)
    look = _Look(part, view, data.input_shape(resolution), data.masks, is_training=True)

    def make(numbers: tf.Tensor, keys: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = look(numbers, keys)
        images = tf.ensure_shape(images, (batch_size, *data.input_shape(resolution)))
        return normalise(images), labels

    # First of all, while an image is still a number: which image comes when. So shuffling moves no
    # pixels, and the stream can begin anywhere at little cost.
    first = first_epoch * steps + first_step
    keys = part.training_keys(seed, first, steps, batch_size)
    numbers = tf.data.Dataset.range(first * batch_size, ENDLESS)
    batches = (
        tf.data.Dataset.zip(numbers, keys)
        .batch(batch_size, drop_remainder=True)
        # Several batches at the same time, each on a core of its own: a call for each image would
        # cost half as much as its crop, and would need another copy to make a batch of them.
        .map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # The next batch is made while the network trains on this one.
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )
    if unlabelled:
        others = _unlabelled_batches(data, resolution, unlabelled, steps, seed, first)
        batches = tf.data.Dataset.zip(batches, others).map(
            lambda labelled, images: (tf.concat([labelled[0], images], 0), labelled[1])
        )
    return batches, steps


def _unlabelled_batches(
    data: ImageData, resolution: SizeLike, batch_size: int, steps: int, seed: int, first: int
) -> tf.data.Dataset:
    """Returns an endless stream of unlabelled images from a batch on, augmented as for training."""
    assert data.unlabelled is not None
    part = data.unlabelled.repeated(steps * batch_size)
    stream, _ = train_batches(
        replace(data, parts={"train": part}, masks=False),
        resolution=resolution,
        batch_size=batch_size,
        seed=seed + _UNLABELLED_SEED,
        first_step=first,
        steps=steps,
    )
    return stream.map(lambda images, labels: images)


def eval_batches(
    data: ImageData, part: str, *, resolution: SizeLike, batch_size: int, base_resolution: SizeLike
) -> tf.data.Dataset:
    """Returns every image of a part once, in a fixed order, as a device would see it.

    The crops of a classification data set are cached at the network's size, if there is room.

    Args:
      data: the data set.
      part: ``train``, ``validation`` or ``test``.
      resolution: size of the network's input in pixels.
      batch_size: images in a batch; the last batch may be smaller.
      base_resolution: input size of the pool's unscaled network in pixels.

    Returns:
      Batches as those of `train_batches`.
    """
    squares = _center_crops(data, part, data.parts[part].keys(), resolution, base_resolution)
    fraction = data.pipeline.crop_fraction(resolution, base_resolution)
    shape = data.input_shape(resolution)
    if not data.masks and data.cache.has_room(data.parts[part].size * math.prod(shape)):
        cached = data.cache.keep(
            f"{part}-{InputSize.of(resolution)}",
            lambda add: _add_all(squares, add),
            key=["of originals", data.fingerprint, fraction],
        )
        if cached.complete:
            return _normalised(SquareStore(cached, shape).batches(batch_size))
    return _normalised(squares.batch(batch_size))


def calibration_images(
    data: ImageData, *, resolution: SizeLike, base_resolution: SizeLike, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draws a representative data set: training images, preprocessed as for evaluation.

    It shows the quantizer the ranges of activations.

    Args:
      data: the data set.
      resolution: size of the network's input in pixels.
      base_resolution: input size of the pool's unscaled network in pixels.
      count: number of images, drawn evenly from all classes; all images where there are fewer.
      seed: seed of the choice.

    Returns:
      The images, float32 (n, height, width, channels), and their positions in the data
      set.
    """
    squares, positions = _sampled_crops(data, "train", resolution, base_resolution, count, seed)
    return next(iter(_normalised(squares.batch(count))))[0].numpy(), positions


def sample_batches(
    data: ImageData,
    *,
    resolution: SizeLike,
    base_resolution: SizeLike,
    count: int,
    seed: int,
    batch_size: int,
    part: str = "train",
) -> tf.data.Dataset:
    """Returns some images with their labels, preprocessed as for evaluation.

    Args:
      data: the data set.
      resolution: size of the network's input in pixels.
      base_resolution: input size of the pool's unscaled network in pixels.
      count: number of images, drawn evenly from all classes; all images where there are fewer.
      seed: seed of the choice.
      batch_size: images in a batch; the last batch may be smaller.
      part: ``train``, ``validation`` or ``test``.

    Returns:
      Batches as those of `train_batches`.
    """
    squares, _ = _sampled_crops(data, part, resolution, base_resolution, count, seed)
    return _normalised(squares.batch(batch_size))


def _sampled_crops(
    data: ImageData,
    part: str,
    resolution: SizeLike,
    base_resolution: SizeLike,
    count: int,
    seed: int,
) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
    """Returns crops of images of a part as `_center_crops`, and the images' positions."""
    keys, positions = data.parts[part].sample(count, seed)
    return _center_crops(data, part, keys, resolution, base_resolution), positions


def _center_crops(
    data: ImageData,
    part: str,
    keys: tf.data.Dataset,
    resolution: SizeLike,
    base_resolution: SizeLike,
) -> tf.data.Dataset:
    """Returns centre crops, uint8 (height, width, channels), and their labels."""
    view = center_view(data.pipeline.crop_fraction(resolution, base_resolution), resolution)
    shape = data.input_shape(resolution)
    look = _Look(data.parts[part], view, shape, data.masks, is_training=False)
    some = keys.enumerate().batch(_TOGETHER)
    return some.map(look, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()


class _Look:
    """Takes numbers and keys of images to what a view shows of them; for a map of tf.data.

    The function in the graph is stateless and captures no variable. Otherwise tf.data would make
    one call after the other where operations are deterministic.

    Args:
      part: gives the pictures.
      view: what is seen of a picture.
      shape: of the results: (height, width, channels).
      masks: whether labels are the pictures' masks.
      is_training: whether pictures may be rough, see `Part.picture`, and another one takes the
        place of an unreadable one, so that batches are full. Otherwise these are left out.
    """

    def __init__(
        self,
        part: Part,
        view: View,
        shape: tuple[int, int, int],
        masks: bool,
        is_training: bool,
    ) -> None:
        self._part, self._view, self._masks = part, view, masks
        self._shape, self._is_training = shape, is_training

    def __call__(
        self, numbers: tf.Tensor, keys: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns pixels, uint8 (n, height, width, channels), and labels or masks, int32."""
        references, labels = keys
        pixels, masks, shown = tf.numpy_function(
            self._squares, [numbers, references], [tf.uint8, tf.int32, tf.int64], stateful=False
        )
        pixels = tf.ensure_shape(pixels, (None, *self._shape))
        if self._masks:
            return pixels, tf.ensure_shape(masks, (labels.shape[0], *self._shape[:2]))
        return pixels, tf.ensure_shape(tf.gather(labels, shown), labels.shape)

    @tf.autograph.experimental.do_not_convert
    def _squares(
        self, numbers: NDArray[np.int64], references: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]:
        """Returns pixels, masks if there are any, and the positions of what they show."""
        count = len(numbers)
        pixels = np.empty((count, *self._shape), np.uint8)
        masks = np.empty((count, *self._shape[:2]) if self._masks else (0, 0, 0), np.int32)
        readable = []
        for i, (number, reference) in enumerate(zip(numbers, references, strict=True)):
            try:
                picture = self._part.picture(reference, original=not self._is_training)
                image, mask = self._view(picture, int(number))
                pixels[i] = pixels_of(image)
            except UnreadableImage as error:
                self._part.leave_out(reference, error)
                continue
            readable.append(i)
            if mask is not None:
                masks[i] = mask
        shown = np.array(readable, np.int64)
        if len(shown) < count:
            if self._is_training:
                if not readable:
                    raise UserError("no image of a whole batch is readable: check the data set")
                # The next readable one; after the last, the first.
                shown = shown[np.searchsorted(shown, np.arange(count)) % len(shown)]
            pixels, masks = pixels[shown], masks[shown] if self._masks else masks
        return pixels, masks, shown


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
    # The parallel map gives every core a batch of its own. Spreading operations over several cores
    # as well costs more than it gains.
    options.threading.max_intra_op_parallelism = 1
    return options

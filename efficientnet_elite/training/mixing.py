"""Mixing of training images in pairs: MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899).

What is drawn depends on the seed and the number of the step alone, so that a continued training
mixes the same images. The layers of KerasCV cannot do that: in a graph, what they draw depends on
how often the graph has run, and where operations are deterministic they raise.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError

# Of the beta distributions that shares are drawn from, as in the papers' trainings on ImageNet.
_MIXUP_ALPHA = 0.2
_CUTMIX_ALPHA = 1.0


def check_settings(config: TrainConfig, data: ImageData) -> None:
    """Checks that images can be mixed where that is wanted.

    Raises:
      UserError: labels are masks, or a batch has no pair.
    """
    if config.mix == "none":
        return
    if data.masks:
        raise UserError(
            f"mix={config.mix} mixes the classes of whole images, and masks have one for each "
            "pixel: use --mix=none"
        )
    if config.batch_size < 2:
        raise UserError(f"mix={config.mix} needs pairs of images: use a batch size of 2 or more")


def mixed(
    method: str, images: Any, labels: Any, classes: int, *, seed: int, step: Any
) -> tuple[Any, Any]:
    """Mixes each image with the one before it; a batch is in random order.

    Args:
      method: ``mixup``, ``cutmix``, or ``mixup+cutmix`` for either at even odds for each image;
        with ``none`` images and labels stay what they are.
      images: float32 (batch + unlabelled, height, width, channels). The unlabelled ones are the
        last; they stay as they are.
      labels: int32 (batch,).
      classes: number of classes.
      seed: of all that is drawn.
      step: number of the step, an int64 scalar.

    Returns:
      The images, and the share of each class in those with labels, float32 (batch, classes).
    """
    if method == "none":
        return images, labels
    batch, size = labels.shape[0], images.shape[1:3]
    seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), step]), 4)
    if method == "mixup":
        shares = _mixup(batch, seeds)
    elif method == "cutmix":
        shares = _cutmix(batch, size, seeds)
    else:
        is_cut = tf.random.stateless_uniform((batch, 1, 1, 1), seeds[0]) < 0.5
        shares = tf.where(is_cut, _cutmix(batch, size, seeds), _mixup(batch, seeds))
    targets = _blend(tf.one_hot(labels, classes), tf.reduce_mean(shares, [1, 2]))
    return tf.concat([_blend(images[:batch], shares), images[batch:]], 0), targets


def _blend(x: Any, shares: Any) -> Any:
    return shares * x + (1 - shares) * tf.roll(x, 1, 0)


def _mixup(batch: int, seeds: Any) -> Any:
    """Share of its own pixels that each image keeps, (batch, 1, 1, 1)."""
    return tf.reshape(_beta(_MIXUP_ALPHA, batch, seeds), (batch, 1, 1, 1))


def _cutmix(batch: int, size: tuple[int, int], seeds: Any) -> Any:
    """Where each image of this height and width keeps its own pixels: (batch, height, width, 1).

    The rectangle that it loses has its centre anywhere in the image, and ends at the edges.
    """
    share = tf.sqrt(1 - _beta(_CUTMIX_ALPHA, batch, seeds))  # of each side
    places = tf.random.stateless_uniform((2, batch), seeds[3])
    rows, columns = (
        _lost(share * (side / 2), places[axis] * side, side) for axis, side in enumerate(size)
    )
    return 1 - tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)


def _lost(half: Any, centre: Any, side: int) -> Any:
    """Which pixels along a side lie within ``half`` around ``centre``, both (batch,)."""
    low, high = tf.round(centre - half)[:, None], tf.round(centre + half)[:, None]
    pixels = tf.range(side, dtype=tf.float32)
    return (pixels >= low) & (pixels < high)


def _beta(alpha: float, batch: int, seeds: Any) -> Any:
    """Numbers from the beta distribution with two equal parameters, float32 (batch,)."""
    # In double precision, because gamma variables of small alpha are often tiny.
    a, b = (tf.random.stateless_gamma((batch,), seeds[i], alpha, dtype=tf.float64) for i in (1, 2))
    return tf.cast(a / (a + b), tf.float32)

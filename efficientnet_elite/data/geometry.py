"""Which rectangle of an image the network sees, and how it gets its square of pixels.

A box is ``(top, left, height, width)`` in pixels, float32, not rounded: an 8-pixel digit has too
few whole-pixel boxes to augment with. The same boxes and the same filter exist outside TensorFlow
(``PIL.Image.resize(size, BICUBIC, box=...)``), so a client can reproduce the evaluation exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

_FULL_RESOLUTION = 224
_MARGIN = 32  # the margin that evaluation at 224 pixels leaves, paper section 5


@dataclass(frozen=True)
class PipelineConfig:
    """How an image becomes a network input.

    Attributes:
      flip: mirror half of the training images (never where left and right tell classes apart).
      center_crop: evaluate on the paper's centre crop, which leaves a margin around the subject;
        False where the subject fills the frame: then on the largest centred square.
      min_area: smallest share of the image's area a training crop covers (paper: 0.08, made for
        350 epochs; short runs want more).
      max_aspect: training crops are this much wider than high, or higher than wide, at most.
      augment: name of a further augmentation of `choices.AUGMENTATIONS`; None: no further one.
    """

    flip: bool = True
    center_crop: bool = True
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    augment: str | None = None

    def crop_fraction(self, resolution: int, base_resolution: int) -> float:
        """Share of an image's shorter side that evaluation looks at.

        The paper's r / (r + 32) is meant for r around 224. The 32 scales with the resolution of
        the pool's unscaled network, so that a pool for small images leaves the same margins.

        Args:
          resolution: the network's input side in pixels.
          base_resolution: the input side of the pool's unscaled network in pixels.

        Returns:
          A number in (0, 1]; 0.875 at the base resolution.
        """
        if not self.center_crop:
            return 1.0
        return resolution / (resolution + _MARGIN * base_resolution / _FULL_RESOLUTION)


def random_box(shape: tf.Tensor, config: PipelineConfig, draws: tf.Tensor) -> tf.Tensor:
    """A training crop: area in [min_area, 1], log-uniform aspect, anywhere in the image.

    A draw that does not fit is scaled down until it does, aspect kept, instead of being drawn
    again: no loop, and four random numbers are enough.

    Args:
      shape: of the image, integers of shape (2,) or (3,).
      config: ranges of area and aspect.
      draws: four uniform numbers in [0, 1): for area, aspect, top and left.

    Returns:
      The box, float32 of shape (4,).
    """
    size = tf.cast(shape[:2], tf.float32)
    area = (config.min_area + (1 - config.min_area) * draws[0]) * size[0] * size[1]
    half_log_aspect = (draws[1] - 0.5) * math.log(config.max_aspect)
    sides = tf.sqrt(area) * tf.exp(tf.stack([-half_log_aspect, half_log_aspect]))
    sides *= tf.minimum(1.0, tf.reduce_min(size / sides))
    return tf.concat([(size - sides) * draws[2:], sides], axis=0)


def center_box(shape: tf.Tensor, fraction: float) -> tf.Tensor:
    """The centred square of ``fraction`` of the shorter side.

    Args:
      shape: of the image, integers of shape (2,) or (3,).
      fraction: in (0, 1].

    Returns:
      The box, float32 of shape (4,).
    """
    size = tf.cast(shape[:2], tf.float32)
    sides = tf.repeat(tf.reduce_min(size) * fraction, 2)
    return tf.concat([(size - sides) / 2, sides], axis=0)


def resample(image: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """Crops and resizes at once: bicubic (Keys, a = -0.5), widened against aliasing.

    Args:
      image: uint8 (height, width, 3).
      box: float32 (4,).
      resolution: side of the result in pixels.

    Returns:
      uint8 (resolution, resolution, 3): rounded and clipped, as a device's camera would hand over.
    """
    scale = resolution / box[2:]
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=[resolution, resolution],
        scale=scale,
        translation=-box[:2] * scale,
        kernel_type="keyscubic",
        antialias=True,
    )
    square = tf.saturate_cast(tf.round(pixels[0]), tf.uint8)
    return tf.ensure_shape(square, (resolution, resolution, 3))


def nearest(mask: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """The mask's counterpart of `resample`: the value at the centre of each new pixel.

    Args:
      mask: int32 (height, width).
      box: float32 (4,): top, left, height, width.
      resolution: side of the result in pixels.

    Returns:
      int32 (resolution, resolution).
    """
    centres = (tf.range(resolution, dtype=tf.float32) + 0.5) / resolution
    last = tf.shape(mask) - 1
    rows, columns = (
        tf.clip_by_value(tf.cast(box[axis] + centres * box[2 + axis], tf.int32), 0, last[axis])
        for axis in (0, 1)
    )
    square = tf.gather(tf.gather(mask, rows), columns, axis=1)
    return tf.ensure_shape(square, (resolution, resolution))

"""Which box of an image the network sees, and how the box becomes a square of pixels.

A box is (top, left, height, width) in pixels, float32 and not rounded: an 8-pixel digit has too few
boxes of whole pixels to augment with. The same boxes and the same filter exist outside TensorFlow
(``PIL.Image.resize(size, BICUBIC, box=...)``), so that a device or a client can reproduce the
preprocessing of the evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

# Section 5.1 of arXiv 2009.07409 evaluates on the centre crop of a share r / (r + 32) of the
# shorter side, for resolutions r around 224.
_PAPER_RESOLUTION = 224  # pixels
_PAPER_MARGIN = 32  # pixels


@dataclass(frozen=True)
class PipelineConfig:
    """How an image becomes a network input.

    The defaults are those of section 5.1 of arXiv 2009.07409.

    Attributes:
      flip: mirror half of the training images; False where left and right tell classes apart.
      center_crop: evaluate on the paper's centre crop, which cuts off a margin around the subject;
        False where the subject fills the frame: then the crop is the largest centred square.
      min_area: smallest share of an image's area that a training crop covers. The paper's 0.08 is
        made for 350 epochs; shorter trainings need larger crops.
      max_aspect: the longer side of a training crop is at most this many times the shorter side.
      augment: name of a further augmentation of `choices.AUGMENTATIONS`; None for no further one.
    """

    flip: bool = True
    center_crop: bool = True
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    augment: str | None = None

    def crop_fraction(self, resolution: int, base_resolution: int) -> float:
        """Returns the share of an image's shorter side that the evaluation crop covers.

        The paper's share r / (r + 32) is meant for resolutions r around 224. Here the 32 scales
        with the base resolution, so that a pool for small images cuts off the same margins.

        Args:
          resolution: side of the network's input in pixels.
          base_resolution: input side of the pool's unscaled network in pixels.

        Returns:
          A number in (0, 1]; with the centre crop 0.875 at the base resolution.
        """
        if not self.center_crop:
            return 1.0
        return resolution / (resolution + _PAPER_MARGIN * base_resolution / _PAPER_RESOLUTION)


def random_box(shape: tf.Tensor, config: PipelineConfig, draws: tf.Tensor) -> tf.Tensor:
    """Draws a training crop: uniform area, log-uniform aspect ratio, uniform position.

    A box that does not fit into the image is scaled down, at the same aspect ratio, until it does.
    The usual way is to draw again; scaling needs no loop and a fixed number of random numbers.

    Args:
      shape: shape of the image, integers (2,) or (3,).
      config: ranges of area and aspect ratio.
      draws: four uniform numbers in [0, 1): for area, aspect ratio, top and left.

    Returns:
      The box, float32 (4,).
    """
    size = tf.cast(shape[:2], tf.float32)
    area = (config.min_area + (1 - config.min_area) * draws[0]) * size[0] * size[1]
    half_log_aspect = (draws[1] - 0.5) * math.log(config.max_aspect)
    sides = tf.sqrt(area) * tf.exp(tf.stack([-half_log_aspect, half_log_aspect]))
    sides *= tf.minimum(1.0, tf.reduce_min(size / sides))
    return tf.concat([(size - sides) * draws[2:], sides], axis=0)


def center_box(shape: tf.Tensor, fraction: float) -> tf.Tensor:
    """Returns the evaluation crop: a centred square.

    Args:
      shape: shape of the image, integers (2,) or (3,).
      fraction: side of the square as a share of the image's shorter side, in (0, 1].

    Returns:
      The box, float32 (4,).
    """
    size = tf.cast(shape[:2], tf.float32)
    sides = tf.repeat(tf.reduce_min(size) * fraction, 2)
    return tf.concat([(size - sides) / 2, sides], axis=0)


def crop_and_resize(image: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """Crops and resizes an image in one step, bicubic with antialiasing.

    The kernel is that of Keys with a = -0.5, widened where the image shrinks, as in Pillow.

    Args:
      image: uint8 (height, width, 3).
      box: float32 (4,).
      resolution: side of the result in pixels.

    Returns:
      uint8 (resolution, resolution, 3), rounded and clipped, as a device would feed it.
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


def crop_and_resize_mask(mask: tf.Tensor, box: tf.Tensor, resolution: int) -> tf.Tensor:
    """Crops and resizes a mask as `crop_and_resize` does its image.

    Each new pixel takes the label at its centre (nearest neighbour), because labels cannot be
    averaged.

    Args:
      mask: int32 (height, width).
      box: float32 (4,).
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

"""Which box of an image the network sees, and how the box becomes pixels of the network's size.

A box for evaluation has the aspect ratio of the network's input, so that nothing is distorted.

A box is (top, left, height, width) in pixels and not rounded: an 8-pixel digit has too few boxes of
whole pixels to augment with. Pillow does the resizing (``Image.resize(size, BICUBIC, box=...)``),
so that a device or a client with Pillow can reproduce the evaluation's preprocessing to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import InputSize, SizeLike
from .decode import image_of

Box: TypeAlias = tuple[float, float, float, float]
"""Top, left, height and width in pixels."""

# Section 5.1 of arXiv 2009.07409 evaluates on the centre crop of a share r / (r + 32) of the
# shorter side, for resolutions r around 224.
_PAPER_RESOLUTION = 224  # pixels
_PAPER_MARGIN = 32  # pixels

_MARGIN = 3  # pixels around a box that its resizing looks at, for each pixel that it shrinks by


@dataclass(frozen=True)
class PipelineConfig:
    """How an image becomes a network input.

    The defaults are those of section 5.1 of arXiv 2009.07409.

    Attributes:
      flip: mirror half of the training images; False where left and right tell classes apart.
      center_crop: evaluate on the paper's centre crop, which cuts off a margin around the subject;
        False where the subject fills the frame: then the crop is the largest centred box.
      min_area: smallest share of an image's area that a training crop covers. The paper's 0.08 is
        made for 350 epochs; shorter trainings need larger crops.
      max_aspect: a training crop is at most this many times longer or wider than one with the
        aspect ratio of the network's input.
      augment: what else changes training images, see `choices.Augmentations.of`; None for nothing.
      policy_sha256: SHA-256 of the policy's file that ``augment`` names; None without one.
    """

    flip: bool = True
    center_crop: bool = True
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    augment: str | None = None
    policy_sha256: str | None = None

    def crop_fraction(self, resolution: SizeLike, base_resolution: SizeLike) -> float:
        """Returns the sides of the evaluation crop as a share of the largest centred box.

        The paper's share r / (r + 32) is meant for resolutions r around 224. Here the 32 scales
        with the base resolution, so that a pool for small images cuts off the same margins. Inputs
        that are not square count by their shorter sides.

        Args:
          resolution: size of the network's input in pixels.
          base_resolution: input size of the pool's unscaled network in pixels.

        Returns:
          A number in (0, 1]; with the centre crop 0.875 at the base resolution.
        """
        if not self.center_crop:
            return 1.0
        side, base = min(InputSize.of(resolution)), min(InputSize.of(base_resolution))
        return side / (side + _PAPER_MARGIN * base / _PAPER_RESOLUTION)


def base_side(side: int, crop_fraction: float) -> int:
    """The base resolution with which `PipelineConfig.crop_fraction` gives a fraction below 1."""
    return round(side * (1 / crop_fraction - 1) * _PAPER_RESOLUTION / _PAPER_MARGIN)


def random_box(
    size: tuple[int, int], config: PipelineConfig, draws: Sequence[float], shape: SizeLike = 1
) -> Box:
    """Draws a training crop: uniform area, log-uniform aspect ratio, uniform position.

    The aspect ratios lie around that of the network's input, so that crops are stretched as often
    as they are compressed.

    A box that does not fit into the image is scaled down, at the same aspect ratio, until it does.
    The usual way is to draw again; scaling needs no loop and a fixed number of random numbers.

    Args:
      size: height and width of the image.
      config: ranges of area and aspect ratio.
      draws: four uniform numbers in [0, 1): for area, aspect ratio, top and left.
      shape: size of the network's input, of which only the aspect ratio matters.
    """
    target = InputSize.of(shape)
    rows, columns = size
    area = (config.min_area + (1 - config.min_area) * draws[0]) * rows * columns
    root_of_aspect = math.exp((draws[1] - 0.5) * math.log(config.max_aspect))
    root_of_aspect *= math.sqrt(target.width / target.height)
    height, width = math.sqrt(area) / root_of_aspect, math.sqrt(area) * root_of_aspect
    shrink = min(1.0, rows / height, columns / width)
    height, width = height * shrink, width * shrink
    return (rows - height) * draws[2], (columns - width) * draws[3], height, width


def center_box(size: tuple[int, int], fraction: float, shape: SizeLike = 1) -> Box:
    """Returns the evaluation crop: a centred box with the aspect ratio of the network's input.

    Args:
      size: height and width of the image.
      fraction: sides of the crop as a share of those of the largest such box, in (0, 1]. For a
        square that is a share of the image's shorter side.
      shape: size of the network's input, of which only the aspect ratio matters.
    """
    (rows, columns), (height, width) = size, InputSize.of(shape)
    # Multiplied before it is divided, so that the sides of a square are equal, and none is longer
    # than the image's.
    down = min(rows, columns * height / width) * fraction
    across = min(columns, rows * width / height) * fraction
    return (rows - down) / 2, (columns - across) / 2, down, across


def crop_and_resize(
    pixels: NDArray[np.uint8],
    box: Box,
    resolution: SizeLike,
    filter: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Crops and resizes an image, with antialiasing: first its columns, then its rows.

    Pillow resizes in two passes and rounds to whole numbers after each. Which pass comes first
    depends on its version and on the size of the image. Asked for one pass at a time, all versions
    give the same pixels. With the columns first, a device needs a single row of memory.

    Args:
      pixels: uint8 (height, width, 3 or 1).
      box: what to keep of them.
      resolution: size of the result in pixels.
      filter: of the resampling.
    """
    size = InputSize.of(resolution)
    top, left, height, width = max(0.0, box[0]), max(0.0, box[1]), box[2], box[3]
    # Rounding may carry an edge past that of the image, which Pillow refuses. It takes edges as
    # float32, from which a whole number that is no greater can be subtracted exactly. So Pillow can
    # be spared the pixels that have no influence on the result.
    lower, right = min(top + height, pixels.shape[0]), min(left + width, pixels.shape[1])
    top, left, lower, right = np.array([top, left, lower, right], np.float32).tolist()
    down = math.ceil(_MARGIN * max(1.0, (lower - top) / size.height))
    across = math.ceil(_MARGIN * max(1.0, (right - left) / size.width))
    first, begin = max(0, math.floor(top) - down), max(0, math.floor(left) - across)
    image = image_of(pixels[first : math.ceil(lower) + down, begin : math.ceil(right) + across])
    columns = image.resize(
        (image.width, size.height), filter, box=(0, top - first, image.width, lower - first)
    )
    return columns.resize(
        (size.width, size.height), filter, box=(left - begin, 0, right - begin, size.height)
    )


def crop_and_resize_mask(
    mask: NDArray[np.uint8], box: Box, resolution: SizeLike
) -> NDArray[np.int32]:
    """Crops and resizes a mask as `crop_and_resize` does its image.

    Each new pixel takes the label at its centre (nearest neighbour), because labels cannot be
    averaged.

    Args:
      mask: integers (height, width).
      box: what to keep of it.
      resolution: size of the result in pixels.

    Returns:
      int32 (height, width).
    """
    rows, columns = (
        np.clip(
            (box[axis] + (np.arange(count) + 0.5) / count * box[2 + axis]).astype(int),
            0,
            mask.shape[axis] - 1,
        )
        for axis, count in enumerate(InputSize.of(resolution))
    )
    return mask[np.ix_(rows, columns)].astype(np.int32)

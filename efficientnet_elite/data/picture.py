"""One image whose size is known, and of which only the crop that is asked for is computed.

Everything here is Python, NumPy and Pillow: `pipeline` calls it in parallel, because Pillow lets
other threads run while it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import SizeLike
from .decode import Pixels
from .geometry import (
    Box,
    PipelineConfig,
    center_box,
    crop_and_resize,
    crop_and_resize_mask,
    random_box,
)

Square: TypeAlias = tuple[Image.Image, NDArray[np.int32] | None]
"""What the network sees of a picture, RGB or grey (height, width), and the mask of it where there
are masks, int32 (height, width)."""
View: TypeAlias = "Callable[[Picture, int], Square]"
"""Takes a picture and its number in the stream of pictures to what the network sees of it."""
Change: TypeAlias = Callable[[Image.Image, np.random.Generator], Image.Image]
"""A random change to a training image of the network's size, after crop and mirror: takes the image
(RGB) and a source of random numbers of its own to an image of the same mode and size."""


class Picture(Protocol):
    """An image from which crops are made."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def crop(self, box: Box, resolution: SizeLike) -> Image.Image:
        """Crops and resizes, as `geometry.crop_and_resize` does."""

    def crop_mask(self, box: Box, resolution: SizeLike) -> NDArray[np.int32] | None:
        """Crops the mask, as `geometry.crop_and_resize_mask` does; None: there is none."""


class DecodedPicture:
    """A picture whose pixels are in memory.

    Args:
      pixels: uint8 (height, width, 3 or 1), contiguous.
      mask: uint8 (height, width), or None.
    """

    def __init__(self, pixels: Pixels, mask: NDArray[np.uint8] | None = None) -> None:
        self.pixels, self.mask = pixels, mask

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def crop(self, box: Box, resolution: SizeLike) -> Image.Image:
        """Crops and resizes, as `geometry.crop_and_resize` does."""
        return crop_and_resize(self.pixels, box, resolution)

    def crop_mask(self, box: Box, resolution: SizeLike) -> NDArray[np.int32] | None:
        """Crops the mask, as `geometry.crop_and_resize_mask` does; None: there is none."""
        return None if self.mask is None else crop_and_resize_mask(self.mask, box, resolution)


def training_view(
    config: PipelineConfig, resolution: SizeLike, seed: int, change: Change | None = None
) -> View:
    """Returns a view that crops at random, mirrors half of the images and changes them further.

    What is drawn depends on the seed and the number of the picture alone.

    Args:
      config: which crops are drawn, and whether images are mirrored.
      resolution: size of the network's input in pixels.
      seed: of all that is drawn.
      change: a further change to each image; masks do not take part in it. Changes are made for
        colours: a grey image has three equal channels for the time being.
    """

    def view(picture: Picture, number: int) -> Square:
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        draws = rng.random(5).tolist()
        box = random_box(picture.size, config, draws[:4], resolution)
        image, mask = picture.crop(box, resolution), picture.crop_mask(box, resolution)
        if config.flip and draws[4] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = None if mask is None else mask[:, ::-1]
        # Last of all, on an image of the network's size: fewer pixels to change.
        if change is not None:
            image = change(image.convert("RGB"), rng).convert(image.mode)
        return image, mask

    return view


def center_view(fraction: float, resolution: SizeLike) -> View:
    """Returns the view of the evaluation: the centre crop.

    Args:
      fraction: sides of the crop as a share of the largest centred box, see `center_box`.
      resolution: size of the network's input in pixels.
    """

    def view(picture: Picture, number: int) -> Square:
        del number
        box = center_box(picture.size, fraction, resolution)
        return picture.crop(box, resolution), picture.crop_mask(box, resolution)

    return view

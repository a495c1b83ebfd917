"""A picture that is decoded when a crop of it is asked for: nothing of it is kept in memory."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from ..config import InputSize, SizeLike
from .decode import Pixels, decode, has_other_colours, opened
from .geometry import Box, crop_and_resize

# For each EXIF orientation, what makes the image upright: whether to exchange rows and columns,
# then whether to reverse rows, then whether to reverse columns.
_UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_ORIENTATION = 0x0112  # EXIF tag
_MARGIN = 4  # pixels around a crop of the size that the network sees, for the resampling


class EncodedPicture:
    """A picture of which only the encoded content is in memory.

    Args:
      encoded: the content of the image file.
      quick: whether to decode no more than the crop, for training: JPEG images are decoded at 1/2,
        1/4 or 1/8 of their size where the crop stays as large as the network's input, and the
        resampling is bilinear. Otherwise, for evaluation, the crop of the whole image is made as
        any client with Pillow makes it.
      channels: 3, or 1 for the brightness alone.

    Raises:
      UnreadableImage: see `decode.opened`; crops may raise it, too.
    """

    def __init__(self, encoded: bytes, quick: bool, channels: int = 3) -> None:
        self._encoded, self._channels = encoded, channels
        with opened(encoded) as image:
            self._stored = image.height, image.width
            self._upright = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1), _UPRIGHT[1])
            # Of JPEG images, TensorFlow knows neither CMYK nor colour profiles.
            self._quick = (
                quick
                and image.format == "JPEG"
                and image.mode in ("RGB", "L")
                and not has_other_colours(image)
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, upright."""
        height, width = self._stored
        return (width, height) if self._upright[0] else (height, width)

    def crop(self, box: Box, resolution: SizeLike) -> Image.Image:
        """Crops and resizes, as `geometry.crop_and_resize` does."""
        if self._quick:
            try:
                pixels, box = self._decoded_crop(box, resolution)
                return crop_and_resize(pixels, box, resolution, Image.Resampling.BILINEAR)
            except tf.errors.OpError:  # damaged; Pillow reads more of these, and knows the reason
                pass
        pixels = decode(self._encoded, channels=self._channels)
        return crop_and_resize(pixels, box, resolution)

    def crop_mask(self, box: Box, resolution: SizeLike) -> NDArray[np.int32] | None:
        """Returns None: there is no mask."""
        del box, resolution
        return None

    def _decoded_crop(self, box: Box, resolution: SizeLike) -> tuple[Pixels, Box]:
        """Decodes what is needed of a crop; returns upright pixels, and the crop's box in them."""
        exchanged, rows_reversed, columns_reversed = self._upright
        top, left, height, width = box
        top = self.size[0] - top - height if rows_reversed else top
        left = self.size[1] - left - width if columns_reversed else left
        stored = (left, top, width, height) if exchanged else (top, left, height, width)

        ratio = 1
        target = InputSize.of(resolution)
        while (
            ratio < 8 and height >= 2 * ratio * target.height and width >= 2 * ratio * target.width
        ):
            ratio *= 2
        window, inside = [], []
        pixels_of_axis = target[::-1] if exchanged else target
        for begin, length, size, count in zip(
            stored[:2], stored[2:], self._stored, pixels_of_axis, strict=True
        ):
            begin, length, size = begin / ratio, length / ratio, -(-size // ratio)
            margin = math.ceil(_MARGIN * max(1.0, length / count))
            first = max(0, math.floor(begin) - margin)
            last = min(size, math.ceil(begin + length) + margin)
            window.append((first, last - first))
            inside.append((begin - first, length))
        (first_row, rows), (first_column, columns) = window
        with tf.device("CPU:0"):
            # As tensors, which TensorFlow takes at once; it needs a while to convert other things.
            pixels = tf.io.decode_and_crop_jpeg(
                tf.constant(self._encoded),
                tf.constant([first_row, first_column, rows, columns]),
                channels=self._channels,
                ratio=ratio,
                dct_method="INTEGER_ACCURATE",  # as Pillow
            ).numpy()

        if exchanged:
            pixels, inside = pixels.transpose(1, 0, 2), inside[::-1]
        (top, height), (left, width) = inside
        if rows_reversed:
            pixels, top = pixels[::-1], pixels.shape[0] - top - height
        if columns_reversed:
            pixels, left = pixels[:, ::-1], pixels.shape[1] - left - width
        return pixels, (max(0.0, top), max(0.0, left), height, width)

"""Decodes images to RGB pixels in the same way for every source.

Pillow is used because TensorFlow's decoders support neither EXIF orientation nor CMYK, palettes or
WebP. As there is only one decoder, a data set streamed from disk has the same pixels as one kept in
memory.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1")  # file types written by phones


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message is the reason in a few words."""


def read_file(path: Path) -> bytes:
    """A file's content; UnreadableImage if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or "cannot be read") from error


def decode(encoded: bytes, max_side: int | None = None) -> Pixels:
    """The pixels of one image, upright.

    The EXIF orientation is applied, transparent pixels are blended with white, 16-bit grey values
    are scaled to 8 bits, and an animation is reduced to its first frame.

    Args:
      encoded: the content of the image file.
      max_side: an image whose shorter side exceeds this many pixels is shrunk so that the side has
        this length; None for no shrinking.

    Returns:
      uint8 (height, width, 3).

    Raises:
      UnreadableImage: the content is not an image, is damaged, or has an unsupported format.
    """
    if not encoded:
        raise UnreadableImage("empty file")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(_shrink(_to_rgb(_prepare(image, max_side)), max_side))
    except UnidentifiedImageError as error:
        heic = encoded[4:8] == b"ftyp" and encoded[8:12] in _HEIC
        raise UnreadableImage("HEIC: convert it to JPEG" if heic else "not an image") from error
    except UnreadableImage:
        raise
    # Pillow's format plugins raise many kinds of errors for damaged input: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, DecompressionBombError, IndexError, EOFError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(reason) from error


def _prepare(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is not None and min(image.size) > max_side:
        # JPEG can be decoded directly to 1/2, 1/4 or 1/8 of its size, which skips most of the work.
        # At least twice the final size is kept, so that the final resize filter works well.
        factor = 2 * max_side / min(image.size)
        image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(np.round(grey).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # 32-bit samples of unknown range
        raise UnreadableImage(f"unsupported pixel format (mode {image.mode})")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _shrink(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is None or min(image.size) <= max_side:
        return image
    factor = max_side / min(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)

"""Decodes images to RGB pixels, in the same way for every source.

It uses Pillow rather than TensorFlow's decoders, which know neither EXIF orientation nor CMYK,
palettes or WebP. With one decoder a data set streamed from disk has the same pixels as one kept in
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

_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1")  # file types that phones write


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message is the reason in a few words."""


def read_file(path: Path) -> bytes:
    """A file's content; UnreadableImage where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or "cannot be read") from error


def decode(encoded: bytes, max_side: int | None = None) -> Pixels:
    """The pixels of one image, upright.

    The orientation from EXIF is applied, transparent pixels are laid over white, 16-bit grey is
    scaled to 8 bits, and of an animation the first frame is taken.

    Args:
      encoded: the file's content.
      max_side: an image whose shorter side is longer than this is shrunk to it; None: never.

    Returns:
      uint8 (height, width, 3).

    Raises:
      UnreadableImage: not an image, damaged, or of an unsupported kind.
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
    # Pillow's format plugins raise many things on damaged input: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, DecompressionBombError, IndexError, EOFError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(reason) from error


def _prepare(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is not None and min(image.size) > max_side:
        # JPEG can decode straight to 1/2, 1/4 or 1/8 size, which skips most of the work; twice
        # the target leaves the final filter enough to work with.
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

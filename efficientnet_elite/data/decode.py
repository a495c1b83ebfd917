"""Decodes images to RGB or grey pixels in the same way for every source.

Pillow is used because TensorFlow's decoders support neither EXIF orientation nor CMYK, palettes,
colour profiles or WebP. TensorFlow decodes the crops of ordinary JPEG images that are decoded anew
each time (`EncodedPicture`), because it can leave out what lies outside of a crop.
"""

from __future__ import annotations

import functools
import io
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is read, by Pillow's names. Its other decoders are no one's photographs and some start other
programs: an EPS file called ``.jpg`` would be handed to Ghostscript."""

MOST_PIXELS = 100_000_000
"""Of one image. A PNG file of 0.5 MB can hold more, and Pillow needs up to 16 bytes for each."""
_TOO_MANY = f"shrink it to at most {MOST_PIXELS // 1_000_000} million pixels"

_TWELVE_BITS = 4095  # the largest value of many cameras, microscopes and X-ray detectors

_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1")  # file types written by phones

_SRGB_NAMES = (b"sRGB", "sRGB".encode("utf-16-be"))


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message is the reason in a few words."""


def read_file(path: Path) -> bytes:
    """A file's content; UnreadableImage if it cannot be read, or is a pipe or the like."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage("not a regular file")  # reading a pipe might never end
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or "cannot be read") from error


def decode(encoded: bytes, max_side: int | None = None, channels: int = 3) -> Pixels:
    """The pixels of one image, upright.

    The EXIF orientation and the colour profile are applied, transparent pixels are blended with
    white, 16-bit grey values are scaled to 8 bits, and an animation is reduced to its first frame.
    A 16-bit image without a value above 4095 holds 12 bits, and 4095 becomes white.

    Args:
      encoded: the content of the image file.
      max_side: an image whose shorter side exceeds this many pixels is shrunk so that the side has
        this length; None for no shrinking.
      channels: 3, or 1 for the brightness alone, see `in_channels`.

    Returns:
      uint8 (height, width, channels).

    Raises:
      UnreadableImage: the content is not an image, is damaged, has an unsupported format or more
        than `MOST_PIXELS` pixels.
    """
    with opened(encoded) as image:
        rgb = _to_rgb(_to_srgb(_prepare(image, max_side)))
        return pixels_of(_shrink(rgb if channels == 3 else rgb.convert("L"), max_side))


def pixels_of(image: Image.Image) -> Pixels:
    """The pixels of an image, RGB or grey (L): uint8 (height, width, 3 or 1)."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def image_of(pixels: Pixels) -> Image.Image:
    """The image of pixels, uint8 (height, width, 3 or 1): RGB or grey (L)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """The same image, uint8 (height, width, 3 or 1), with this number of channels.

    One of three is the brightness of ITU-R BT.601, (19595 red + 38470 green + 7471 blue) / 65536,
    rounded, as Pillow computes it; three of one are equal, and give the one back.
    """
    if pixels.shape[2] == channels:
        return pixels
    return pixels_of(image_of(pixels).convert("RGB" if channels == 3 else "L"))


@contextmanager
def opened(encoded: bytes) -> Iterator[Image.Image]:
    """Opens an image, of which only the header is read; its pixels are decoded when they are used.

    Raises:
      UnreadableImage: the content is not an image, is damaged, has an unsupported format or more
        than `MOST_PIXELS` pixels; also if this is noticed inside the with statement.
    """
    if not encoded:
        raise UnreadableImage("empty file")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableImage(f"{image.width} x {image.height} pixels: {_TOO_MANY}")
            yield image
    except UnidentifiedImageError as error:
        heic = encoded[4:8] == b"ftyp" and encoded[8:12] in _HEIC
        raise UnreadableImage("HEIC: convert it to JPEG" if heic else "not an image") from error
    except Image.DecompressionBombError as error:  # far more pixels, before their number is known
        raise UnreadableImage(_TOO_MANY) from error
    except UnreadableImage:
        raise
    # Pillow's format plugins raise many kinds of errors for damaged input: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, IndexError, EOFError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(reason) from error


def holds_twelve_bits(image: Image.Image) -> bool:
    """Whether an image stores 16 bits for a grey value, of which it uses 12; decodes it."""
    return image.mode.startswith("I;16") and bool(np.asarray(image).max() <= _TWELVE_BITS)


def _prepare(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is not None and min(image.size) > max_side:
        # JPEG can be decoded directly to 1/2, 1/4 or 1/8 of its size, which skips most of the work.
        # At least twice the final size is kept, so that the final resize filter works well.
        factor = 2 * max_side / min(image.size)
        image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
    return ImageOps.exif_transpose(image)


def has_other_colours(image: Image.Image) -> bool:
    """Returns whether an image has a colour profile other than sRGB."""
    profile = image.info.get("icc_profile")
    # All descriptions of sRGB, in one byte a character or in two, contain its name.
    return profile is not None and not any(name in profile for name in _SRGB_NAMES)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Applies a colour profile; one that is damaged or of another kind of image is ignored."""
    if not has_other_colours(image):
        return image
    try:
        return (
            ImageCms.applyTransform(image, _transform(image.info["icc_profile"], image.mode))
            or image
        )
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
        return image


@functools.lru_cache(maxsize=32)  # the images of a data set have few profiles
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    target = "RGB" if mode in ("CMYK", "LAB") else mode
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        largest = _TWELVE_BITS if holds_twelve_bits(image) else 65535
        grey = np.asarray(image).astype(np.float32) * (255 / largest)
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

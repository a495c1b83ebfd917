"""Operations on single images that augmentations are made of; each computes what Pillow's does.

An operation takes an image (RGB), a value in the unit that its own description names, and a source
of random numbers, which `cutout` alone uses, to a new image of the same size. Pixels that come from
outside the image are `GREY`, which networks see as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageEnhance, ImageOps

Operation: TypeAlias = Callable[[Image.Image, float, np.random.Generator], Image.Image]

GREY = (128, 128, 128)


def shear_x(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Moves each row to the left by ``value`` times its distance from the upper edge."""
    return _affine(image, (1, value, 0, 0, 1, 0))


def shear_y(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Moves each column up by ``value`` times its distance from the left edge."""
    return _affine(image, (1, 0, 0, value, 1, 0))


def translate_x(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Moves the image to the left by ``value`` times its width."""
    return translate(image, value, 0)


def translate_y(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Moves the image up by ``value`` times its height."""
    return translate(image, 0, value)


def translate(image: Image.Image, across: float, down: float) -> Image.Image:
    """Moves the image to the left and up by shares of its sides."""
    return _affine(image, (1, 0, across * image.width, 0, 1, down * image.height))


def rotate(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Rotates the image by ``value`` degrees, counterclockwise, around its centre."""
    return image.rotate(value, fillcolor=GREY)


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def auto_contrast(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Stretches each channel so that its darkest pixel is 0 and its brightest 255."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Maps each channel so that its levels are about equally frequent."""
    # As `ImageOps.equalize`, whose loops over all levels take longer than the pixels of a small
    # image: a third of AutoAugment's operations are this one.
    counts = np.array(image.histogram(), np.int64).reshape(3, 256)
    before = counts.cumsum(1) - counts  # pixels that are darker
    step = (before * (counts > 0)).max(1, keepdims=True) // 255
    levels = (step // 2 + before) // np.maximum(step, 1)
    return image.point(np.where(step > 0, levels, np.arange(256)).ravel().tolist())


def invert(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """The negative of the image."""
    return ImageChops.invert(image)


def solarize(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Inverts all levels from ``value`` on, 0 to 256."""
    pixels = np.asarray(image)
    is_inverted = pixels >= math.ceil(value)
    return Image.fromarray(pixels ^ (is_inverted * np.uint8(255)))


def posterize(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Keeps the ``value`` highest bits of each level, 1 to 8; a fraction is cut off."""
    return Image.fromarray(np.asarray(image) & np.uint8(256 - 2 ** (8 - int(value))))


def contrast(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Multiplies differences from the mean grey by ``value``; 1 changes nothing."""
    return ImageEnhance.Contrast(image).enhance(value)


def color(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Multiplies the saturation by ``value``; 1 changes nothing."""
    return ImageEnhance.Color(image).enhance(value)


def brightness(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Multiplies levels by ``value``; 1 changes nothing."""
    return ImageEnhance.Brightness(image).enhance(value)


def sharpness(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Multiplies differences from the smoothed image by ``value``; 1 changes nothing."""
    return ImageEnhance.Sharpness(image).enhance(value)


def cutout(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """Covers a square at a random place, its side ``value`` times the width, with grey."""
    side = value * image.width
    left, top = rng.random(2) * image.size - side / 2
    image = image.copy()
    # `paste` cuts off what lies outside.
    image.paste(GREY, (round(left), round(top), round(left + side), round(top + side)))
    return image


def identity(image: Image.Image, value: float, rng: np.random.Generator) -> Image.Image:
    """The image as it is."""
    return image


def shift_levels(image: Image.Image, shifts: NDArray[np.float64]) -> Image.Image:
    """Adds a number to all levels of each channel, (3,), and rounds."""
    levels = np.rint(np.arange(256) + shifts[:, None]).clip(0, 255)
    return image.point(levels.astype(int).ravel().tolist())


OPERATIONS: Mapping[str, Operation] = {
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "AutoContrast": auto_contrast,
    "Invert": invert,
    "Equalize": equalize,
    "Solarize": solarize,
    "Posterize": posterize,
    "Contrast": contrast,
    "Color": color,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "Cutout": cutout,
    "Identity": identity,
}
"""Operations by the names that the papers give them."""

MOVES_PIXELS = frozenset({"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"})
"""Operations after which pixels are no longer where a mask says."""

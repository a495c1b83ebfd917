"""Augmentations that are no policies, and how augmentations follow one another.

Each function here and in `policies` returns a `picture.Change`; the table of their names is
`choices.AUGMENTATIONS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import UserError
from . import operations
from .picture import Change

_ORDERS = tuple(itertools.permutations((0, 1, 2)))

# Eigenvalues and eigenvectors (columns) of the covariance of ImageNet's pixels, levels 0..1.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)

# Random erasing, arXiv 1708.04896: ranges of the covered share of the area, and of height / width.
_ERASED = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)


def chain(changes: Sequence[Change]) -> Change:
    """One change after the other."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for each in changes:
            image = each(image, rng)
        return image

    return change


def light() -> Change:
    """Small changes that suit most photographs: see docs/data.md."""
    return chain([translate(0.05), rotate(10), jitter(0.2)])


def jitter(strength: float = 0.4) -> Change:
    """Changes brightness, contrast and saturation, in random order.

    Args:
      strength: each is multiplied by a number between 1 - strength and 1 + strength, 0..1.
    """
    _check_share("jitter", strength)
    enhance = (operations.brightness, operations.contrast, operations.color)

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        order, *draws = rng.random(4).tolist()
        for i in _ORDERS[int(order * len(_ORDERS))]:
            image = enhance[i](image, 1 + strength * (2 * draws[i] - 1), rng)
        return image

    return change


def lighting(deviation: float = 0.1) -> Change:
    """Adds a colour along the principal components of ImageNet's colours (AlexNet, section 4.1).

    Args:
      deviation: standard deviation of the factor of each component, 0..1.
    """
    _check_share("lighting", deviation)

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        factors = deviation * rng.standard_normal(3)
        return operations.shift_levels(image, 255 * _EIGENVECTORS @ (factors * _EIGENVALUES))

    return change


def rotate(degrees: float = 15) -> Change:
    """Rotates by up to so many degrees, 0 to 180, to either side."""
    if not 0 <= degrees <= 180:
        raise UserError(f"augmentation rotate({degrees:g}): must be from 0 to 180 degrees")

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return operations.rotate(image, degrees * (2 * rng.random() - 1), rng)

    return change


def translate(share: float = 0.1) -> Change:
    """Moves the image by up to so large a share of its side, 0..1, along each axis."""
    _check_share("translate", share)

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        across, down = (share * (2 * rng.random(2) - 1)).tolist()
        return operations.translate(image, across, down)

    return change


def erase(probability: float = 0.5) -> Change:
    """Random erasing: covers a rectangle with random pixels.

    The rectangle covers 2 to 40 % of the image, and one side is up to 3.3 times the other. Where it
    would be longer than the image, it is as long as that.

    Args:
      probability: with which an image is changed, 0..1.
    """
    _check_share("erase", probability)

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        chance, *draws = rng.random(5).tolist()
        if chance >= probability:
            return image
        low, high = _ERASED
        area = (low + (high - low) * draws[0]) * image.width * image.height
        low, high = map(math.log, _ERASED_ASPECT)
        aspect = math.exp(low + (high - low) * draws[1])
        height = min(image.height, round(math.sqrt(area * aspect)))
        width = min(image.width, round(math.sqrt(area / aspect)))
        top = round((image.height - height) * draws[2])
        left = round((image.width - width) * draws[3])
        patch = rng.integers(0, 256, (height, width, 3), np.uint8)
        image = image.copy()
        image.paste(Image.fromarray(patch), (left, top))
        return image

    return change


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"augmentation {name}({value:g}): must be from 0 to 1")

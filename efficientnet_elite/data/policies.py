"""Augmentation policies: lists of sub-policies, of which some are drawn for each image.

AutoAugment (arXiv 1805.09501), Fast AutoAugment (1905.00397), RandAugment (1909.13719) and
TrivialAugment (2103.10158) differ in their lists and in how many of them an image gets. Here are
the lists; docs/data.md describes what each does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from .operations import MOVES_PIXELS, OPERATIONS


@dataclass(frozen=True)
class Step:
    """An operation that an image gets with some probability.

    Attributes:
      operation: its name in `OPERATIONS`.
      probability: 0..1.
      value: of the operation, in its own unit.
      spread: added to the value or subtracted from it, at even odds.
    """

    operation: str
    probability: float
    value: float
    spread: float = 0.0


@dataclass(frozen=True)
class Policy:
    """A random change to an image, see `picture.Change`.

    Attributes:
      sub_policies: each of them some steps, which are taken one after the other.
      draws: how many sub-policies an image gets. The same one may be drawn again.
    """

    sub_policies: tuple[tuple[Step, ...], ...]
    draws: int = 1

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """See `picture.Change`."""
        for choice in rng.random(self.draws).tolist():
            steps = self.sub_policies[int(choice * len(self.sub_policies))]
            for step, (chance, side) in zip(
                steps, rng.random((len(steps), 2)).tolist(), strict=True
            ):
                if chance < step.probability:
                    value = step.value + (step.spread if side < 0.5 else -step.spread)
                    image = OPERATIONS[step.operation](image, value, rng)
        return image

    @property
    def moves_pixels(self) -> bool:
        """Whether pixels may come to lie where a mask does not expect them."""
        return any(step.operation in MOVES_PIXELS for steps in self.sub_policies for step in steps)


class _Scale(NamedTuple):
    """What the strength of an operation, 0..1, means: neutral + strength * reach.

    Where it is signed, the sign of the second term is drawn.
    """

    neutral: float
    reach: float
    is_signed: bool

    def step(self, operation: str, probability: float, strength: float) -> Step:
        change = strength * self.reach
        if operation == "Posterize":
            change = round(change)  # whole bits
        if self.is_signed:
            return Step(operation, probability, self.neutral, change)
        return Step(operation, probability, self.neutral + change)


_NO_STRENGTH = _Scale(0, 0, False)

# Table 6 of arXiv 1805.09501. Translations are shares of its 331 pixels.
_SCALES = {
    "ShearX": _Scale(0, 0.3, True),
    "ShearY": _Scale(0, 0.3, True),
    "TranslateX": _Scale(0, 150 / 331, True),
    "TranslateY": _Scale(0, 150 / 331, True),
    "Rotate": _Scale(0, 30, True),
    "AutoContrast": _NO_STRENGTH,
    "Equalize": _NO_STRENGTH,
    "Solarize": _Scale(256, -256, False),
    "Posterize": _Scale(8, -4, False),
    "Contrast": _Scale(1, 0.9, True),
    "Color": _Scale(1, 0.9, True),
    "Brightness": _Scale(1, 0.9, True),
    "Sharpness": _Scale(1, 0.9, True),
    "Identity": _NO_STRENGTH,
    "Invert": _NO_STRENGTH,
}

_CHOSEN = tuple(name for name in _SCALES if name != "Invert")
"""The operations that RandAugment and TrivialAugment draw from."""

# Table 1 of arXiv 2103.10158, the wide space. Translations are shares of 224 pixels.
_WIDE_SCALES = _SCALES | {
    "ShearX": _Scale(0, 0.99, True),
    "ShearY": _Scale(0, 0.99, True),
    "TranslateX": _Scale(0, 32 / 224, True),
    "TranslateY": _Scale(0, 32 / 224, True),
    "Rotate": _Scale(0, 135, True),
    "Posterize": _Scale(8, -6, False),
    "Contrast": _Scale(1, 0.99, True),
    "Color": _Scale(1, 0.99, True),
    "Brightness": _Scale(1, 0.99, True),
    "Sharpness": _Scale(1, 0.99, True),
}
_WIDE_STRENGTHS = 31

# Table 9 of arXiv 1805.09501: operation, probability, magnitude of 0 to 9 (- where it has none).
_IMAGENET = """
Posterize 0.4 8, Rotate 0.6 9
Solarize 0.6 5, AutoContrast 0.6 -
Equalize 0.8 -, Equalize 0.6 -
Posterize 0.6 7, Posterize 0.6 6
Equalize 0.4 -, Solarize 0.2 4
Equalize 0.4 -, Rotate 0.8 8
Solarize 0.6 3, Equalize 0.6 -
Posterize 0.8 5, Equalize 1.0 -
Rotate 0.2 3, Solarize 0.6 8
Equalize 0.6 -, Posterize 0.4 6
Rotate 0.8 8, Color 0.4 0
Rotate 0.4 9, Equalize 0.6 -
Equalize 0.0 -, Equalize 0.8 -
Invert 0.6 -, Equalize 1.0 -
Color 0.6 4, Contrast 1.0 8
Rotate 0.8 8, Color 1.0 2
Color 0.8 8, Solarize 0.8 7
Sharpness 0.4 7, Invert 0.6 -
ShearX 0.6 5, Equalize 1.0 -
Color 0.4 0, Equalize 0.6 -
Equalize 0.4 -, Solarize 0.2 4
Solarize 0.6 5, AutoContrast 0.6 -
Invert 0.6 -, Equalize 1.0 -
Color 0.6 4, Contrast 1.0 8
Equalize 0.8 -, Equalize 0.6 -
"""
_LARGEST_MAGNITUDE = 9


def auto_augment() -> Policy:
    """AutoAugment's policy for ImageNet: one of 25 sub-policies for each image."""
    return Policy(
        tuple(tuple(map(_listed, line.split(","))) for line in _IMAGENET.strip().splitlines())
    )


def _listed(text: str) -> Step:
    operation, probability, magnitude = text.split()
    strength = 0.0 if magnitude == "-" else int(magnitude) / _LARGEST_MAGNITUDE
    return _SCALES[operation].step(operation, float(probability), strength)


def rand_augment(count: float = 2, magnitude: float = 9) -> Policy:
    """RandAugment: so many of 14 operations for each image, all equally strong.

    Args:
      count: operations that an image gets, one after the other.
      magnitude: their strength, 0 to 10.
    """
    if count != int(count) or not 1 <= count <= 14 or not 0 <= magnitude <= 10:
        raise UserError(
            f"augmentation rand({count:g},{magnitude:g}): the number of operations must be a whole "
            "number from 1 to 14, and the magnitude from 0 to 10"
        )
    strength = magnitude / 10
    return Policy(tuple((_SCALES[name].step(name, 1, strength),) for name in _CHOSEN), int(count))


def trivial_augment() -> Policy:
    """TrivialAugment in its wide space: one of 14 operations for each image, at any strength."""
    strengths = [i / (_WIDE_STRENGTHS - 1) for i in range(_WIDE_STRENGTHS)]
    return Policy(
        tuple(
            (_WIDE_SCALES[name].step(name, 1, strength),)
            for name in _CHOSEN
            for strength in strengths
        )
    )


class _Range(NamedTuple):
    """The values of an operation in a file, from level 0 to level 1.

    Where it is mirrored, the sign of the value is drawn.
    """

    low: float
    high: float
    is_mirrored: bool = False


# Those of Fast AutoAugment, as its authors' lists of sub-policies mean them.
_RANGES = {
    "ShearX": _Range(-0.3, 0.3, True),
    "ShearY": _Range(-0.3, 0.3, True),
    "TranslateX": _Range(-0.45, 0.45, True),
    "TranslateY": _Range(-0.45, 0.45, True),
    "Rotate": _Range(-30, 30, True),
    "AutoContrast": _Range(0, 1),
    "Invert": _Range(0, 1),
    "Equalize": _Range(0, 1),
    "Solarize": _Range(0, 256),
    "Posterize": _Range(4, 8),
    "Contrast": _Range(0.1, 1.9),
    "Color": _Range(0.1, 1.9),
    "Brightness": _Range(0.1, 1.9),
    "Sharpness": _Range(0.1, 1.9),
    "Cutout": _Range(0, 0.2),
}


def from_file(path: str) -> Policy:
    """Reads a policy in the form of Fast AutoAugment's lists, JSON.

    It is a list of sub-policies. Each is a list of steps ``[operation, probability, level]``, where
    probability and level lie between 0 and 1. docs/data.md says what a level means.

    Raises:
      UserError: the file is missing, is no JSON, or has a step that is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"augmentation policy {path}: {error.strerror}") from None
    except ValueError as error:  # also where it is no UTF-8
        raise UserError(f"augmentation policy {path} is no JSON: {error}") from None
    if not isinstance(content, list) or not content:
        raise UserError(
            f"augmentation policy {path}: must be a list of sub-policies, each a list of steps "
            '["Rotate", 0.8, 0.5] (operation, probability, level)'
        )
    return Policy(
        tuple(
            tuple(_steps(sub_policy, f"augmentation policy {path}, sub-policy {number}"))
            for number, sub_policy in enumerate(content, start=1)
        )
    )


def _steps(sub_policy: Any, where: str) -> Iterable[Step]:
    if not isinstance(sub_policy, list):
        raise UserError(f"{where}: must be a list of steps")
    for step in sub_policy:
        match step:
            case [str(operation), float() | int() as probability, float() | int() as level] if (
                operation in _RANGES and 0 <= probability <= 1 and 0 <= level <= 1
            ):
                low, high, is_mirrored = _RANGES[operation]
                value = low + level * (high - low)
                if is_mirrored:
                    yield Step(operation, probability, 0, value)
                else:
                    yield Step(operation, probability, value)
            case _:
                raise UserError(
                    f"{where}: {json.dumps(step)} is no step [operation, probability, level] with "
                    f"numbers from 0 to 1 and one of the operations {', '.join(_RANGES)}"
                )

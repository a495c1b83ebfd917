"""`InputSize`: height and width of what a network takes."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from efficientnet_elite.errors import UserError

_LEAST = 8  # pixels of a side; smaller images leave no network anything to scale


class InputSize(NamedTuple):
    """Height and width of a network's input in pixels. As text it is ``96x128``, or ``96``.

    Where a function takes a `SizeLike`, a single number stands for a square.

    Attributes:
      height: in pixels.
      width: in pixels.
    """

    height: int
    width: int

    @classmethod
    def of(cls, value: SizeLike) -> InputSize:
        """The size that a number of pixels, a text such as ``96x128`` or a pair stands for.

        Raises:
          ValueError: it is a text of another form.
        """
        if isinstance(value, tuple):
            return cls(*value)
        if isinstance(value, str):
            match = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", value)
            if match is None:
                raise ValueError(f"{value!r} is no size such as 96 or 96x128")
            return cls(int(match[1]), int(match[2] or match[1]))
        return cls(value, value)

    @property
    def plain(self) -> int | str:
        """As files and tables hold it: a number for a square, else a text such as ``96x128``."""
        return self.height if self.is_square else f"{self.height}x{self.width}"

    @property
    def is_square(self) -> bool:
        """Whether height and width are equal."""
        return self.height == self.width

    @property
    def stored_side(self) -> int:
        """Pixels of the shorter side with which images are stored for networks of this size.

        They leave room for crops that are smaller than the image, in images of any orientation.
        """
        return max(self) * 3 // 2

    def __str__(self) -> str:
        return str(self.plain)


SizeLike: TypeAlias = int | str | tuple[int, int]
"""What `InputSize.of` takes: a number of pixels for a square, a text, or (height, width)."""


def checked_size(value: SizeLike, shown: str) -> InputSize:
    """The size that a user gives.

    Args:
      value: a number of pixels, a text such as ``96x128``, or a pair.
      shown: what the user calls the setting.

    Raises:
      UserError: it is no size, or a side has fewer than 8 pixels.
    """
    try:
        size = InputSize.of(value)
    except ValueError:
        raise UserError(
            f"{shown}={value}: write HEIGHTxWIDTH in pixels, such as 96x128, or 96 for a square"
        ) from None
    if min(size) < _LEAST:
        raise UserError(f"{shown}={value}: must be at least {_LEAST} pixels")
    return size


def check_same_size(resolution: SizeLike, size: SizeLike) -> None:
    """UserError where ``base_resolution`` and its other name, ``input_size``, are two sizes."""
    first, second = checked_size(resolution, "base_resolution"), checked_size(size, "input_size")
    if first != second:
        raise UserError(
            f"base_resolution and input_size are different sizes, {first} and {second}: give one "
            "of them"
        )

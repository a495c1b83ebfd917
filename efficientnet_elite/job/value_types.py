"""Types of the values of settings, and values as these types."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

from efficientnet_elite.config import checked_size
from efficientnet_elite.errors import UserError

SIZE = int | str
"""Type of an input size: a number of pixels, or a text such as ``96x128``."""
SHARE = float | str
"""Type of a share of images: a number, or a word in its place."""


def checked(value: Any, kind: Any, shown: str, choices: tuple[str, ...] = ()) -> Any:
    """A value as the type that a setting has; UserError where it is of another one.

    Args:
      value: the value.
      kind: the type.
      shown: what the user calls the setting.
      choices: the only texts allowed; a whole number stands for its digits. Empty allows all.
    """
    if choices:
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = str(int(value))
        value = checked(value, kind, shown)
        if value not in choices:
            raise UserError(f"{shown}={value!r}: use {' or '.join(choices)}")
        return value
    if kind == SIZE:
        return _size(value, shown)
    if kind == SHARE:
        kind = str if isinstance(value, str) else float
    if kind in _KINDS:
        if isinstance(value, Path) and kind is str:
            return str(value)
        if kind in (int, float):
            value = _number(value, kind, shown)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{shown}={shorten(value)}: must be {_KINDS[kind]}")
        return value
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{shown}={shorten(value)}: must be a list of names")
    return tuple(value)


def _size(value: Any, shown: str) -> int | str:
    """An input size as settings hold it, from a number, a text, or a pair of height and width."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "x".join(map(str, value))
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)
    elif not isinstance(value, str):
        raise UserError(f"{shown}={shorten(value)}: must be a size such as 96 or 96x128")
    return checked_size(value, shown).plain


def _number(value: Any, kind: type, shown: str) -> Any:
    """A number of Python or NumPy as the type of a setting; other values as they are."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        if abs(int(value)) > _LARGEST_INTEGER:
            raise UserError(f"{shown} is too large a number")
        return kind(value)
    return float(value) if kind is float and isinstance(value, Real) else value


def shorten(value: Any) -> str:
    """A wrong value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LARGEST_INTEGER = 2**63 - 1  # of TOML and of the ledger
_LONGEST_SHOWN = 80  # characters
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}

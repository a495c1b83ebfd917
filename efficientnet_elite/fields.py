"""Fields of frozen settings: their descriptions, for users, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from math import isfinite
from types import NoneType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from efficientnet_elite.errors import UserError

_Value = TypeVar("_Value")
_Class = TypeVar("_Class", bound=type)


def setting(
    default: _Value,
    help: str,
    *,
    flag: bool = True,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
) -> _Value:
    """A dataclass field with its description and the values that it may have.

    Args:
      default: value of the field where none is given.
      help: full sentences that say what the field does, for users.
      flag: whether the command line has a flag for it; a configuration file has all fields.
      choices: the only values allowed.
      at_least, at_most, above: bounds of a number.
    """
    metadata = {
        "help": help,
        "flag": flag,
        "choices": choices,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
    }
    return field(default=default, metadata=metadata)


def documented(cls: _Class) -> _Class:
    """Adds the descriptions of a dataclass's fields to its documentation."""
    lines = [f"  {f.name}: {f.metadata['help']}" for f in fields(cls) if "help" in f.metadata]
    cls.__doc__ = "\n\n".join([(cls.__doc__ or "").strip(), "Attributes:\n" + "\n".join(lines)])
    return cls


def value_type(cls: type, name: str) -> Any:
    """Type of a field's value, without the None that an optional field allows.

    Several types, such as int and str for an input size, stay one hint: ``int | str``.
    """
    hint = get_type_hints(cls)[name]
    members = [member for member in get_args(hint) if member is not NoneType]
    is_optional = get_origin(hint) in (Union, type(int | None)) and len(members) == 1
    return members[0] if is_optional else hint


def check(config: Any, prefix: str = "") -> None:
    """UserError where a field's value is not finite, out of its bounds or none of its choices."""
    for f in fields(config):
        value, metadata = getattr(config, f.name), f.metadata
        if value is None or "help" not in metadata:
            continue
        shown = f"{prefix}{f.name}={value}"
        if metadata["choices"] and value not in metadata["choices"]:
            allowed = " or ".join(metadata["choices"])
            raise UserError(f"{prefix}{f.name}={value!r}: use {allowed}")
        if isinstance(value, int | float):
            _check_number(value, metadata, shown)


def _check_number(value: float, metadata: Mapping[str, Any], shown: str) -> None:
    low, high, above = metadata["at_least"], metadata["at_most"], metadata["above"]
    if not isfinite(value):
        raise UserError(f"{shown}: must be a finite number")
    if above is not None and not value > above:
        raise UserError(f"{shown}: must be a number above {above:g}")
    if low is not None and high is not None and not low <= value <= high:
        raise UserError(f"{shown}: must be from {low:g} to {high:g}")
    if low is not None and value < low:
        raise UserError(f"{shown}: must be at least {low:g}")
    if high is not None and value > high:
        raise UserError(f"{shown}: must be at most {high:g}")

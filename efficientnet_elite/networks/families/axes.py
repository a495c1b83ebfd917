"""The grammar of pools: families, and the variants of each that one search weighs.

::

    pool   = part {"," part}
    part   = name {":" axis "=" value {"," value}}  |  module ":" function
    name   = a family, the beginning of some, or a set of them, with or without suffixes

``elite:activation=swish,relu6:gates=on,off`` stands for every candidate of eLite in each of the
four combinations. A comma separates both values and parts: a word behind it that is a value of the
axis that was named last is meant as this value, and any other word begins a new part. A text with a
colon and without an equals sign is a pool of the user, see `families.user`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import product
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import activations
from efficientnet_elite.networks.families.variants import KERNELS, MULTIPLES, PATCH, Variant

OWN = "own"  # the value of an axis that leaves networks as they are, where no other says so


@dataclass(frozen=True)
class Axis:
    """One way in which variants of a network differ.

    Attributes:
      name: in the names of pools.
      attribute: the attribute of `Variant` that it chooses.
      values: gives the attribute's values by their names.
    """

    name: str
    attribute: str
    values: Callable[[], Mapping[str, Any]]


AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "activation",
            "activation",
            lambda: {OWN: None, **{name: name for name in activations.variants()}},
        ),
        Axis("gates", "squeeze_excite", lambda: {"on": True, "off": False}),
        Axis("kernel", "kernel", lambda: {OWN: None, **{str(side): side for side in KERNELS}}),
        Axis("multiple", "multiple", lambda: {OWN: None, **{str(n): n for n in MULTIPLES}}),
        Axis("stem", "stem", lambda: {"3x3s2": None, f"{PATCH}x{PATCH}s{PATCH}": PATCH}),
    )
}


@dataclass
class PoolPart:
    """A part of a pool's name.

    Attributes:
      name: of families, in lower case, or ``module:function``.
      axis: the axis that was named last before it; None if none was.
      values: names of the values of each axis that it names, in its order.
    """

    name: str
    axis: Axis | None = None
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_of_user(self) -> bool:
        """Whether this is ``module:function``."""
        return ":" in self.name

    def variants(self, suffix: Variant) -> list[Variant]:
        """The combinations of the values of its axes, the last axis changing fastest.

        Args:
          suffix: what the suffixes of its name say.

        Raises:
          UserError: a suffix has chosen already what an axis chooses.
        """
        chosen = [(AXES[name], values) for name, values in self.values.items()]
        for axis, _ in chosen:
            if axis.attribute in suffix.changes:
                raise UserError(
                    f"{self.name}:{axis.name}: the suffix {suffix.suffix} of the name chooses this "
                    f"already; leave the suffix or {axis.name}= out"
                )
        return [
            replace(suffix, **{axis.attribute: axis.values()[value] for axis, value in combination})
            for combination in product(
                *([(axis, value) for value in values] for axis, values in chosen)
            )
        ]

    def _add(self, axis: Axis, value: str) -> None:
        values = self.values.setdefault(axis.name, [])
        if value in values:
            raise UserError(f"{self.name}:{axis.name}= names {value} twice")
        values.append(value)

    def _open(self, text: str) -> Axis:
        """Reads ``axis=value``, the first value of an axis, and returns the axis."""
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UserError(f"{self.name}:{text}: write AXIS=VALUE, such as {self.name}:gates=off")
        axis = AXES.get(name)
        if axis is None:
            raise UserError(
                f"{self.name}:{name}: there is no such axis, use {' or '.join(AXES)}"
                f"{_did_you_mean(name, AXES)}"
            )
        if name in self.values:
            raise UserError(f"{self.name} has {name}= twice: put its values behind one of them")
        if value not in axis.values():
            raise UserError(
                f"{self.name}:{name}={value}: use {' or '.join(axis.values())}"
                f"{_did_you_mean(value, axis.values())}"
            )
        self._add(axis, value)
        return axis


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, if one is near."""
    close = get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def pool_parts(pool: str) -> list[PoolPart]:
    """The parts of a pool's name. Whether there are such families is not looked at.

    Raises:
      UserError: an axis or its first value is unknown, or one is named twice.
    """
    parts: list[PoolPart] = []
    axis: Axis | None = None
    for text in pool.split(","):
        first, *rest = (piece.strip() for piece in text.split(":"))
        if axis is not None and first.lower() in axis.values():
            parts[-1]._add(axis, first.lower())
        elif rest and "=" not in rest[0]:
            if len(rest) > 1:
                raise UserError(
                    f"{text.strip()}: axes are for the families of this program; name your own "
                    f"models with {first}:{rest[0]}"
                )
            parts.append(PoolPart(f"{first}:{rest[0]}"))
            axis, rest = None, []
        else:
            parts.append(PoolPart(first.lower(), axis))
            axis = None
        for piece in rest:
            axis = parts[-1]._open(piece.lower())
    return parts

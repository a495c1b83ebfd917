"""The classes of rendered images: what the objects of a class have in common.

An object is a body with limbs, a surface pattern, and a badge with a glyph on it.
A `Kind` fixes these for a class; `objects` paints them.

Lengths are in object coordinates (u, v): their origin is the body's centre, their unit is half the
height of the body, and +v is the side of the limbs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Body:
    """The outline |u / width(v)|^power + |v|^power = 1, symmetric in u.

    Attributes:
      width: half the width in the middle, in object coordinates.
      taper: how fast the width grows with v; above 0 the body is wider at the +v end.
      waist: share of the width that is cut away in the middle, 0..1.
      power: 2 for a round outline, 4 for a boxy one.
    """

    width: float
    taper: float
    waist: float
    power: int


BODIES = {
    "egg": Body(0.80, 0.20, 0.0, 2),
    "cask": Body(0.72, 0.0, 0.0, 4),
    "pear": Body(0.72, 0.42, 0.15, 2),
    "peanut": Body(0.70, 0.0, 0.40, 2),
    "wedge": Body(0.70, 0.38, 0.0, 4),
    "hourglass": Body(0.80, 0.0, 0.45, 4),
    "spindle": Body(0.55, 0.0, 0.0, 2),
    "vase": Body(0.62, -0.25, 0.30, 4),
}


@dataclass(frozen=True)
class Limb:
    """The shape of a limb, in object coordinates.

    Attributes:
      length: how far it sticks out of the body.
      root: half its width where it leaves the body.
      tip: half its width at its end.
      ball: radius of a ball at its end; 0 for none.
    """

    length: float
    root: float
    tip: float
    ball: float


LIMBS = {
    "legs": Limb(0.36, 0.07, 0.06, 0.0),
    "spikes": Limb(0.42, 0.14, 0.0, 0.0),
    "knobs": Limb(0.26, 0.04, 0.04, 0.12),
    "paddles": Limb(0.34, 0.04, 0.15, 0.0),
}

GLYPHS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "cross": (
        ((-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)),
        ((-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)),
    ),
    "diamond": (((-1, 0), (0, -1), (1, 0), (0, 1)),),
    "triangle": (((-1, -0.8), (1, -0.8), (0, 1)),),
    "sandglass": (((-1, -1), (1, -1), (-1, 1), (1, 1)),),
    "bar": (((-1, -0.35), (1, -0.35), (1, 0.35), (-1, 0.35)),),
    "twins": (
        ((-1, -0.9), (-0.25, -0.9), (-0.25, 0.9), (-1, 0.9)),
        ((1, -0.9), (0.25, -0.9), (0.25, 0.9), (1, 0.9)),
    ),
}
# Neighbours in PATTERNS and in _GLYPH_NAMES look alike at low resolution. A sibling class takes the
# next one, so that it can only be told apart at a higher resolution.
PATTERNS = ("stripes", "waves", "zigzag", "bricks", "grid", "checks", "dots", "rings")
_GLYPH_NAMES = tuple(GLYPHS)
_ANGLES = (0, 45)  # degrees; a square lattice looks the same again after 90
_PERIODS = (0.20, 0.28)  # in object coordinates


@dataclass(frozen=True)
class Kind:
    """The attributes that all objects of a class share.

    Attributes:
      body: shape of the body, a key of `BODIES`.
      limb: shape of the limbs, a key of `LIMBS`.
      count: number of limbs, 2 to 5.
      pattern: surface pattern, one of `PATTERNS`.
      period: period of the pattern, in object coordinates.
      angle: angle of the pattern in degrees.
      glyph: sign on the badge, a key of `GLYPHS`.
      badge_end: 1 if the badge is at the end from which the limbs fan out, -1 if at the other.
    """

    body: str
    limb: str
    count: int
    pattern: str
    period: float
    angle: int
    glyph: str
    badge_end: int

    def name(self) -> str:
        """Returns a unique label, for example ``pear-4-knobs-dots-p20-a45-cross-near``."""
        return (
            f"{self.body}-{self.count}-{self.limb}-{self.pattern}-p{self.period * 100:.0f}-"
            f"a{self.angle}-{self.glyph}-{'near' if self.badge_end > 0 else 'far'}"
        )

    def sibling(self, attribute: str) -> Kind:
        """Returns the kind that differs in ``attribute`` alone, by the smallest possible step."""
        steps: dict[str, Callable[[], Any]] = {
            "pattern": lambda: _next(PATTERNS, self.pattern),
            "period": lambda: _next(_PERIODS, self.period),
            "angle": lambda: _next(_ANGLES, self.angle),
            "glyph": lambda: _next(_GLYPH_NAMES, self.glyph),
            "count": lambda: self.count ^ 1,
            "badge_end": lambda: -self.badge_end,
        }
        return replace(self, **{attribute: steps[attribute]()})


# The attribute in which the two classes of a pair differ; the pairs take these in turn.
_PAIRED_BY = ("pattern", "count", "period", "badge_end", "glyph", "angle")


def _next(values: tuple[T, ...], value: T) -> T:
    return values[(values.index(value) + 1) % len(values)]


def random_kind(rng: np.random.Generator) -> Kind:
    """Draws a kind with any combination of attributes."""
    return Kind(
        body=str(rng.choice(tuple(BODIES))),
        limb=str(rng.choice(tuple(LIMBS))),
        count=int(rng.integers(2, 6)),
        pattern=str(rng.choice(PATTERNS)),
        period=float(rng.choice(_PERIODS)),
        angle=int(rng.choice(_ANGLES)),
        glyph=str(rng.choice(_GLYPH_NAMES)),
        badge_end=int(rng.choice((-1, 1))),
    )


@lru_cache(maxsize=16)
def draw_kinds(classes: int, seed: int) -> tuple[Kind, ...]:
    """Draws one kind for each class: pairs of siblings that differ in one attribute.

    Different pairs take bodies and patterns in turn, so that they differ as much as possible.
    """
    rng = np.random.default_rng([seed, 0])
    bodies, patterns = rng.permutation(tuple(BODIES)), rng.permutation(PATTERNS)
    kinds: dict[Kind, None] = {}  # an ordered set
    while len(kinds) < classes:
        pair = len(kinds) // 2
        first = replace(
            random_kind(rng),
            body=str(bodies[pair % len(bodies)]),
            pattern=str(patterns[pair % len(patterns)]),
        )
        second = first.sibling(_PAIRED_BY[pair % len(_PAIRED_BY)])
        if kinds.keys().isdisjoint((first, second)):
            kinds.update({first: None, second: None})
    return tuple(kinds)[:classes]

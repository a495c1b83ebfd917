"""The objects that rendered images show: what distinguishes them, and how one is painted.

Arrays are float32; images are (height, width, 3) in [0, 1], y pointing down. ``rendered.py``
composes the scenes. This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]
Points = NDArray[np.float64]  # (n, 2)
T = TypeVar("T")


@dataclass(frozen=True)
class _Body:
    """Outline |u / width(v)|^power + |v|^power = 1, mirror-symmetric in u."""

    width: float
    taper: float  # > 0: wider at the positive end
    waist: float
    power: int


_BODIES = {
    "egg": _Body(0.80, 0.20, 0.0, 2),
    "cask": _Body(0.72, 0.0, 0.0, 4),
    "pear": _Body(0.72, 0.42, 0.15, 2),
    "peanut": _Body(0.70, 0.0, 0.40, 2),
    "wedge": _Body(0.70, 0.38, 0.0, 4),
    "hourglass": _Body(0.80, 0.0, 0.45, 4),
    "spindle": _Body(0.55, 0.0, 0.0, 2),
    "vase": _Body(0.62, -0.25, 0.30, 4),
}


@dataclass(frozen=True)
class _Part:
    """A limb: length, half-widths at root and tip, radius of a ball at the tip."""

    length: float
    root: float
    tip: float
    ball: float


_PARTS = {
    "legs": _Part(0.36, 0.07, 0.06, 0.0),
    "spikes": _Part(0.42, 0.14, 0.0, 0.0),
    "knobs": _Part(0.26, 0.04, 0.04, 0.12),
    "paddles": _Part(0.34, 0.04, 0.15, 0.0),
}

_GLYPHS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
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
# In both, neighbours look alike at low resolution: a sibling class takes the next one.
PATTERNS = ("stripes", "waves", "zigzag", "bricks", "grid", "checks", "dots", "rings")
_GLYPH_NAMES = tuple(_GLYPHS)
_ANGLES = (0, 45)  # degrees; square lattices repeat after 90
_PERIODS = (0.20, 0.28)  # of the body's half-height


@dataclass(frozen=True)
class Kind:
    """All that a class fixes."""

    body: str
    part: str
    count: int
    pattern: str
    period: float
    angle: int
    glyph: str
    badge_end: int  # +1: the end from which the parts fan out, -1: the other

    def name(self) -> str:
        """A unique label, for example ``pear-4-knobs-dots-p20-a45-cross-near``."""
        return (
            f"{self.body}-{self.count}-{self.part}-{self.pattern}-p{self.period * 100:.0f}-"
            f"a{self.angle}-{self.glyph}-{'near' if self.badge_end > 0 else 'far'}"
        )

    def sibling(self, attribute: str) -> Kind:
        """The kind that differs in ``attribute`` alone, by the smallest step there is."""
        steps: dict[str, Callable[[], Any]] = {
            "pattern": lambda: _next(PATTERNS, self.pattern),
            "period": lambda: _next(_PERIODS, self.period),
            "angle": lambda: _next(_ANGLES, self.angle),
            "glyph": lambda: _next(_GLYPH_NAMES, self.glyph),
            "count": lambda: self.count ^ 1,
            "badge_end": lambda: -self.badge_end,
        }
        return replace(self, **{attribute: steps[attribute]()})


# What tells the two classes of a pair apart, in turn.
_PAIRED_BY = ("pattern", "count", "period", "badge_end", "glyph", "angle")


def _next(values: tuple[T, ...], value: T) -> T:
    return values[(values.index(value) + 1) % len(values)]


def random_kind(rng: np.random.Generator) -> Kind:
    """Any combination of attributes."""
    return Kind(
        body=str(rng.choice(tuple(_BODIES))),
        part=str(rng.choice(tuple(_PARTS))),
        count=int(rng.integers(2, 6)),
        pattern=str(rng.choice(PATTERNS)),
        period=float(rng.choice(_PERIODS)),
        angle=int(rng.choice(_ANGLES)),
        glyph=str(rng.choice(_GLYPH_NAMES)),
        badge_end=int(rng.choice((-1, 1))),
    )


@lru_cache(maxsize=16)
def draw_kinds(classes: int, seed: int) -> tuple[Kind, ...]:
    """One kind a class: pairs of siblings, the pairs as unlike as the vocabulary allows."""
    rng = np.random.default_rng([seed, 0])
    bodies, patterns = rng.permutation(tuple(_BODIES)), rng.permutation(PATTERNS)
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


_REACH = 2.0  # from an object's centre to the edge of its window, in body half-heights


def pattern_cover(name: str, a: Array, b: Array) -> Array:
    """Coverage in [0, 1] by the pattern's second colour, at coordinates counted in periods."""
    turn = 2 * math.pi
    if name == "stripes":
        level = np.cos(turn * a)
    elif name == "waves":
        level = np.cos(turn * (a + 0.3 * np.sin(turn / 2 * b)))
    elif name == "zigzag":
        level = np.cos(turn * (a + np.abs(b % 2 - 1)))
    elif name == "bricks":
        joint = a / 2 + np.floor(b) / 2
        level = np.maximum(np.cos(turn * joint), np.cos(turn * b)) - 0.6
    elif name == "grid":
        level = np.maximum(np.cos(turn * a), np.cos(turn * b)) - 0.6
    elif name == "checks":
        level = 2 * np.cos(turn / 2 * a) * np.cos(turn / 2 * b)
    else:
        level = np.cos(turn * a) + np.cos(turn * b) - 0.3
        if name == "rings":
            level = 0.5 - np.abs(level - 0.2)
    return np.clip(0.5 + 2 * level, 0, 1)


@lru_cache(maxsize=8)
def _cloud(side: int) -> Array:
    """A periodic 1/f noise tile of unit deviation, repeated 2 x 2: (2 side, 2 side)."""
    rng = np.random.default_rng(side)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency
    tile = np.fft.irfft2(spectrum, (side, side))
    return np.tile((tile / tile.std()).astype(np.float32), (2, 2))


def cut_cloud(height: int, width: int, rng: np.random.Generator) -> Array:
    """(height, width) of 1/f noise of about unit deviation."""
    side = 1 << (max(height, width) - 1).bit_length()
    top, left = rng.integers(0, side, 2)
    return _cloud(side)[top : top + height, left : left + width]


def random_colour(
    rng: np.random.Generator, saturation: float, darkest: float, lightest: float
) -> Array:
    """A surface colour of any hue, (3,); ``saturation`` is the mean, the others bound the value."""
    hue = rng.uniform(0, 1) + np.array([0, 1 / 3, 2 / 3])
    chroma = rng.beta(4 * saturation, 4 * (1 - saturation))
    wheel = np.clip(np.abs(hue % 1 * 6 - 3) - 1, 0, 1)
    value = rng.uniform(darkest, lightest)
    return (value * (1 - chroma * (1 - wheel))).astype(np.float32)


def darkened(colour: Array, rng: np.random.Generator, least: float, most: float) -> Array:
    """``colour`` with ``least`` to ``most`` of its light taken away, and tinted a little."""
    return (colour * (1 - rng.uniform(least, most) + rng.uniform(-0.1, 0.1, 3))).astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """Where an object stands: object (u, v) to image (x, y) in pixels, with foreshortening."""

    x: float
    y: float
    scale: float  # half-height in pixels
    matrix: NDArray[np.float64]  # 2 x 2: rotation, mirror image, tilt, scale
    recede: NDArray[np.float64]  # perspective: nearer and farther sides, about +-0.15

    @classmethod
    def draw(cls, x: float, y: float, scale: float, rng: np.random.Generator) -> Pose:
        """A random attitude at a given place and scale."""
        turn, lean = rng.normal(0, 0.2), rng.uniform(0, math.pi)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        axis = np.array([math.cos(lean), math.sin(lean)])
        tilt = np.eye(2) - rng.uniform(0, 0.22) * np.outer(axis, axis)
        mirror = np.diag([rng.choice((-1.0, 1.0)), 1.0])
        return cls(x, y, scale, scale * tilt @ rotation @ mirror, rng.uniform(-0.15, 0.15, 2))

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) object coordinates to (n, 2) pixels."""
        centre = np.array([self.x, self.y])
        return centre + points @ self.matrix.T / (1 + points @ self.recede)[:, None]

    def to_object(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Pixel coordinates, (1, w) and (h, 1), to object coordinates, (h, w) each."""
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        u = inverse[0, 0] * (x - self.x) + inverse[0, 1] * (y - self.y)
        v = inverse[1, 0] * (x - self.x) + inverse[1, 1] * (y - self.y)
        far = 1 - (np.float32(self.recede[0]) * u + np.float32(self.recede[1]) * v)
        far = np.maximum(far, 0.2)
        return u / far, v / far


@dataclass(frozen=True)
class Light:
    """Direction to the light (x right, y down, z towards the viewer), ambient and gloss."""

    x: float
    y: float
    z: float
    ambient: float
    gloss: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """Somewhere above, from either side."""
        side, above = rng.uniform(-0.75, 0.75), rng.uniform(0.15, 0.75)
        z = math.sqrt(max(0.15, 1 - side**2 - above**2))
        return cls(side, -above, z, rng.uniform(0.35, 0.6), rng.beta(1, 2) * 0.6)

    def shade(self, height: Array, where: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Diffuse and specular light, (n, 1) each, on the n chosen pixels of a relief in pixels."""
        slopes: Any = np.gradient(height)
        down, right = (slope[where][:, None] for slope in slopes)
        facing = (self.z - self.x * right - self.y * down) / np.sqrt(right**2 + down**2 + 1)
        facing = np.clip(facing, 0, 1)
        return self.ambient + (1.1 - self.ambient) * facing, self.gloss * facing**12


def _outline_level(body: _Body, u: Array, v: Array) -> Array:
    """Below 1 inside the body, 1 on its outline."""
    width = body.width * (1 + body.taper * v) * (1 - body.waist * np.exp(-((v / 0.4) ** 2)))
    across, along = (u / np.maximum(width, 0.1)) ** 2, v * v
    return across + along if body.power == 2 else across * across + along * along


def _outline_radius(body: _Body, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the centre to the outline along unit vectors (n, 2)."""
    reach = np.linspace(0.2, 1.6, 57)
    points = directions[:, :, None] * reach
    outside = _outline_level(body, points[:, 0], points[:, 1]) >= 1
    return reach[outside.argmax(axis=1)]


def _part_polygons(kind: Kind, rng: np.random.Generator) -> list[Points]:
    """Parts fanned out about +v, as polygons in object coordinates."""
    part, wobble = _PARTS[kind.part], rng.uniform(-0.09, 0.09, kind.count)
    fan = np.linspace(-1, 1, kind.count) * (0.55 + 0.13 * kind.count) + wobble
    ahead = np.stack([np.sin(fan), np.cos(fan)], axis=1)
    aside = np.stack([np.cos(fan), -np.sin(fan)], axis=1)
    edge = _outline_radius(_BODIES[kind.body], ahead)[:, None]
    tips = ahead * (edge + part.length * rng.uniform(0.85, 1.15, (kind.count, 1)))
    roots = ahead * edge * 0.8
    polygons = [
        np.array([r - s * part.root, r + s * part.root, t + s * part.tip, t - s * part.tip])
        for r, t, s in zip(roots, tips, aside, strict=True)
    ]
    if part.ball:
        polygons += [_circle(tip, part.ball) for tip in tips]
    return polygons


def _fill(shape: tuple[int, ...], polygons: list[Points]) -> Image.Image:
    """A mask of polygons in window pixels: 255 inside, 0 outside."""
    image = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon(polygon.ravel().tolist(), fill=255)
    return image


def _circle(centre: Points, radius: float, corners: int = 14) -> Points:
    around = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return centre + radius * np.stack([np.cos(around), np.sin(around)], axis=1)


def paint_object(
    canvas: Array,
    kind: Kind,
    fineness: float,
    pose: Pose,
    light: Light,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Paint one object and its shadow onto ``canvas``, in place, in colours of its own.

    ``fineness`` shrinks the period of the surface pattern. Returns which pixels of the canvas the
    object covers, without its shadow.
    """
    mask = np.zeros(canvas.shape[:2], bool)
    reach = _REACH * pose.scale
    left, top = (max(0, int(centre - reach)) for centre in (pose.x, pose.y))
    view = canvas[top : int(pose.y + reach) + 1, left : int(pose.x + reach) + 1]
    if not view.size:
        return mask
    x = np.arange(left, left + view.shape[1], dtype=np.float32)[None, :]
    y = np.arange(top, top + view.shape[0], dtype=np.float32)[:, None]

    def fill(polygons: list[Points]) -> Image.Image:
        return _fill(view.shape, [pose.to_image(polygon) - (left, top) for polygon in polygons])

    # The shadow falls away from the light; it is separable, hence cheap.
    away_x = (x - (pose.x - 0.5 * light.x * pose.scale)) / (0.95 * pose.scale)
    away_y = (y - (pose.y + 0.6 * pose.scale)) / (0.75 * pose.scale)
    shadow = rng.uniform(0.3, 0.7) * np.exp(-(away_x**4)) * np.exp(-(away_y**4))
    view *= (1 - shadow)[:, :, None]

    base = _paint_colour(rng)
    limbs = fill(_part_polygons(kind, rng))
    soft = np.asarray(limbs.filter(ImageFilter.BoxBlur(0.07 * pose.scale)), np.float32)
    covered = np.asarray(limbs) > 0
    diffuse, gloss = light.shade(soft * (0.12 / 255 * pose.scale), covered)
    view[covered] = (base if rng.random() < 0.4 else _paint_colour(rng)) * diffuse + gloss
    own = mask[top : top + view.shape[0], left : left + view.shape[1]]
    own |= covered

    u, v = pose.to_object(x, y)
    level = _outline_level(_BODIES[kind.body], u, v)
    covered = level < 1
    dome = np.sqrt(np.maximum(1 - level, 0))
    diffuse, gloss = light.shade(dome * (rng.uniform(0.35, 0.7) * pose.scale), covered)
    # Towards the rim the surface turns away, so the pattern crowds together there.
    stretch = (1 + 0.2 * (1 - dome[covered])) / (kind.period * fineness)
    surface = _patterned(kind, base, u[covered] * stretch, v[covered] * stretch, rng)
    wear = cut_cloud(view.shape[0], view.shape[1], rng)[covered] * rng.uniform(0.03, 0.12)
    surface *= (1 + wear)[:, None]

    spot = np.array([rng.uniform(-0.06, 0.06), kind.badge_end * rng.uniform(0.42, 0.5)])
    plate = _paint_colour(rng)
    surface[np.asarray(fill([_circle(spot, 0.27)]))[covered] > 0] = plate
    glyph = fill([spot + 0.18 * np.array(polygon) for polygon in _GLYPHS[kind.glyph]])
    surface[np.asarray(glyph)[covered] > 0] = darkened(plate, rng, 0.75, 0.9)
    view[covered] = surface * diffuse + gloss
    own |= covered
    return mask


def _paint_colour(rng: np.random.Generator) -> Array:
    return random_colour(rng, saturation=0.4, darkest=0.6, lightest=1.0)


def _patterned(kind: Kind, base: Array, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Colours (n, 3) of n surface points, at coordinates counted in periods."""
    angle, (shift_a, shift_b) = math.radians(kind.angle), rng.uniform(0, 8, 2).tolist()
    a = u * math.cos(angle) - v * math.sin(angle) + shift_a
    b = u * math.sin(angle) + v * math.cos(angle) + shift_b
    cover = pattern_cover(kind.pattern, a, b)[:, None]
    return base + cover * (darkened(base, rng, 0.45, 0.75) - base)

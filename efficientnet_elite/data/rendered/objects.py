"""Paints the objects of rendered images.

`scene` and `masks` compose images of several objects; `kinds` says what an object consists of.

Arrays are float32 unless they say otherwise. Images are (height, width, 3) with values in [0, 1];
x points right and y points down, in pixels. Object coordinates (u, v) have their origin at the
body's centre; their unit is half the height of the body, and +v is the side of the limbs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .kinds import BODIES, GLYPHS, LIMBS, Body, Kind

Array = NDArray[np.floating[Any]]
Points = NDArray[np.float64]  # (n, 2)


# Half the side of the window that an object with its shadow is painted in, in object coordinates.
_WINDOW = 2.0


def pattern_coverage(name: str, a: Array, b: Array) -> Array:
    """Returns how much of each point the pattern's second colour covers.

    Args:
      name: one of `PATTERNS`.
      a: first coordinates of the points, in periods of the pattern.
      b: second coordinates of the points, in periods.

    Returns:
      Values in [0, 1], of the broadcast shape of ``a`` and ``b``.
    """
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
def _noise_tile(side: int) -> Array:
    """Makes periodic 1/f noise with standard deviation 1, repeated 2 x 2: (2 side, 2 side)."""
    rng = np.random.default_rng(side)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency
    tile = np.fft.irfft2(spectrum, (side, side))
    return np.tile((tile / tile.std()).astype(np.float32), (2, 2))


def noise_patch(height: int, width: int, rng: np.random.Generator) -> Array:
    """Cuts (height, width) of 1/f noise, with a standard deviation near 1, at a random place."""
    side = 1 << (max(height, width) - 1).bit_length()
    top, left = rng.integers(0, side, 2)
    return _noise_tile(side)[top : top + height, left : left + width]


def random_colour(
    rng: np.random.Generator, saturation: float, darkest: float, lightest: float
) -> Array:
    """Draws a surface colour of any hue.

    Args:
      rng: source of random numbers.
      saturation: mean saturation, 0..1.
      darkest: lower bound of the value (of hue, saturation, value), 0..1.
      lightest: upper bound of the value, 0..1.

    Returns:
      RGB, (3,), in [0, 1].
    """
    hue = rng.uniform(0, 1) + np.array([0, 1 / 3, 2 / 3])
    chroma = rng.beta(4 * saturation, 4 * (1 - saturation))
    wheel = np.clip(np.abs(hue % 1 * 6 - 3) - 1, 0, 1)
    value = rng.uniform(darkest, lightest)
    return (value * (1 - chroma * (1 - wheel))).astype(np.float32)


def darker_colour(colour: Array, rng: np.random.Generator, least: float, most: float) -> Array:
    """Darkens an RGB colour by a share between ``least`` and ``most`` and changes its hue a bit."""
    return (colour * (1 - rng.uniform(least, most) + rng.uniform(-0.1, 0.1, 3))).astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """Where an object stands: takes object coordinates (u, v) to image coordinates (x, y).

    Attributes:
      x: the object's centre in the image, in pixels.
      y: the same from the top.
      scale: half the height of the body in pixels.
      matrix: (2, 2), rotation, reflection, tilt and scale.
      perspective: (2,), how fast the distance from the viewer grows with u and with v.
    """

    x: float
    y: float
    scale: float
    matrix: NDArray[np.float64]
    perspective: NDArray[np.float64]

    @classmethod
    def draw(cls, x: float, y: float, scale: float, rng: np.random.Generator) -> Pose:
        """Draws a random orientation at a given place and scale, all in pixels."""
        turn, lean = rng.normal(0, 0.2), rng.uniform(0, math.pi)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        axis = np.array([math.cos(lean), math.sin(lean)])
        tilt = np.eye(2) - rng.uniform(0, 0.22) * np.outer(axis, axis)
        mirror = np.diag([rng.choice((-1.0, 1.0)), 1.0])
        return cls(x, y, scale, scale * tilt @ rotation @ mirror, rng.uniform(-0.15, 0.15, 2))

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Takes points in object coordinates, (n, 2), to pixels, (n, 2)."""
        centre = np.array([self.x, self.y])
        return centre + points @ self.matrix.T / (1 + points @ self.perspective)[:, None]

    def to_object(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Takes pixel coordinates, (1, w) and (h, 1), to object coordinates, (h, w) each."""
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        u = inverse[0, 0] * (x - self.x) + inverse[0, 1] * (y - self.y)
        v = inverse[1, 0] * (x - self.x) + inverse[1, 1] * (y - self.y)
        distance = 1 - (np.float32(self.perspective[0]) * u + np.float32(self.perspective[1]) * v)
        distance = np.maximum(distance, 0.2)
        return u / distance, v / distance


@dataclass(frozen=True)
class Light:
    """The light of a scene.

    Attributes:
      x: direction to the light, to the right.
      y: direction to the light, down (so negative: the light is above).
      z: direction to the light, towards the viewer.
      ambient: brightness of surfaces that face away from the light.
      gloss: brightness of the highlight.
    """

    x: float
    y: float
    z: float
    ambient: float
    gloss: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """Draws a light that is somewhere above, to the left or to the right."""
        side, above = rng.uniform(-0.75, 0.75), rng.uniform(0.15, 0.75)
        z = math.sqrt(max(0.15, 1 - side**2 - above**2))
        return cls(side, -above, z, rng.uniform(0.35, 0.6), rng.beta(1, 2) * 0.6)

    def shade(self, height: Array, where: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Returns how much light a relief reflects.

        Args:
          height: height of the relief in pixels, (h, w).
          where: the n pixels to light, (h, w).

        Returns:
          Diffuse and specular light on these pixels, (n, 1) each.
        """
        slopes: Any = np.gradient(height)
        down, right = (slope[where][:, None] for slope in slopes)
        facing = (self.z - self.x * right - self.y * down) / np.sqrt(right**2 + down**2 + 1)
        facing = np.clip(facing, 0, 1)
        return self.ambient + (1.1 - self.ambient) * facing, self.gloss * facing**12


def _outline_level(body: Body, u: Array, v: Array) -> Array:
    """Returns a level for each point: below 1 inside the body, 1 on its outline."""
    width = body.width * (1 + body.taper * v) * (1 - body.waist * np.exp(-((v / 0.4) ** 2)))
    across, along = (u / np.maximum(width, 0.1)) ** 2, v * v
    return across + along if body.power == 2 else across * across + along * along


def _outline_radius(body: Body, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the distance from the centre to the outline along unit vectors (n, 2): (n,)."""
    distances = np.linspace(0.2, 1.6, 57)
    points = directions[:, :, None] * distances
    outside = _outline_level(body, points[:, 0], points[:, 1]) >= 1
    return distances[outside.argmax(axis=1)]


def _limb_polygons(kind: Kind, rng: np.random.Generator) -> list[Points]:
    """Returns the limbs, fanned out around +v, as polygons in object coordinates."""
    limb, deviations = LIMBS[kind.limb], rng.uniform(-0.09, 0.09, kind.count)
    angles = np.linspace(-1, 1, kind.count) * (0.55 + 0.13 * kind.count) + deviations
    along = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    across = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    edge = _outline_radius(BODIES[kind.body], along)[:, None]
    tips = along * (edge + limb.length * rng.uniform(0.85, 1.15, (kind.count, 1)))
    roots = along * edge * 0.8  # inside the body, so that no gap shows
    polygons = [
        np.array(
            [
                root - side * limb.root,
                root + side * limb.root,
                tip + side * limb.tip,
                tip - side * limb.tip,
            ]
        )
        for root, tip, side in zip(roots, tips, across, strict=True)
    ]
    if limb.ball:
        polygons += [_circle(tip, limb.ball) for tip in tips]
    return polygons


def _circle(centre: Points, radius: float) -> Points:
    """Returns a circle as a polygon (14, 2)."""
    angles = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@dataclass(frozen=True)
class _Window:
    """The part of a canvas that an object and its shadow are painted in.

    Attributes:
      pixels: a view of the canvas, (h, w, 3): painting here paints on the canvas.
      mask: a view of the mask of what the object covers, (h, w).
      left: x of the window's first column in the canvas.
      top: y of its first row.
      pose: where the object stands.
    """

    pixels: Array
    mask: NDArray[np.bool_]
    left: int
    top: int
    pose: Pose

    def coordinates(self) -> tuple[Array, Array]:
        """Returns the canvas coordinates x, (1, w), and y, (h, 1), of the window's pixels."""
        height, width = self.mask.shape
        x = np.arange(self.left, self.left + width, dtype=np.float32)[None, :]
        y = np.arange(self.top, self.top + height, dtype=np.float32)[:, None]
        return x, y

    def fill(self, polygons: list[Points]) -> Image.Image:
        """Draws polygons in object coordinates as an image: 255 inside, 0 outside."""
        height, width = self.mask.shape
        image = Image.new("L", (width, height))
        draw = ImageDraw.Draw(image)
        for polygon in polygons:
            corners = self.pose.to_image(polygon) - (self.left, self.top)
            draw.polygon(corners.ravel().tolist(), fill=255)
        return image


def paint_object(
    canvas: Array,
    kind: Kind,
    pattern_scale: float,
    pose: Pose,
    light: Light,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Paints one object and its shadow, in random colours.

    Args:
      canvas: the image to paint on, (height, width, 3); it is changed in place.
      kind: class of the object.
      pattern_scale: factor of the period of the surface pattern.
      pose: where the object stands.
      light: light of the scene.
      rng: source of random numbers.

    Returns:
      Which pixels of the canvas the object covers, without its shadow, (height, width).
    """
    mask = np.zeros(canvas.shape[:2], bool)
    half_side = _WINDOW * pose.scale
    left, top = (max(0, int(centre - half_side)) for centre in (pose.x, pose.y))
    where = slice(top, int(pose.y + half_side) + 1), slice(left, int(pose.x + half_side) + 1)
    window = _Window(canvas[where], mask[where], left, top, pose)
    if window.mask.size:
        _paint_shadow(window, light, rng)
        colour = _paint_colour(rng)
        _paint_limbs(window, kind, colour, light, rng)
        _paint_body(window, kind, colour, pattern_scale, light, rng)  # it hides the limbs' roots
    return mask


def _paint_shadow(window: _Window, light: Light, rng: np.random.Generator) -> None:
    """Darkens the floor on the side away from the light."""
    x, y = window.coordinates()
    pose = window.pose
    # The shadow is a product of a function of x and a function of y, which is cheap to compute.
    away_x = (x - (pose.x - 0.5 * light.x * pose.scale)) / (0.95 * pose.scale)
    away_y = (y - (pose.y + 0.6 * pose.scale)) / (0.75 * pose.scale)
    shadow = rng.uniform(0.3, 0.7) * np.exp(-(away_x**4)) * np.exp(-(away_y**4))
    np.multiply(window.pixels, (1 - shadow)[:, :, None], out=window.pixels)


def _paint_limbs(
    window: _Window, kind: Kind, body_colour: Array, light: Light, rng: np.random.Generator
) -> None:
    """Paints the limbs, in the colour of the body or in one of their own."""
    scale = window.pose.scale
    limbs = window.fill(_limb_polygons(kind, rng))
    relief = np.asarray(limbs.filter(ImageFilter.BoxBlur(0.07 * scale)), np.float32)
    covered = np.asarray(limbs) > 0
    diffuse, specular = light.shade(relief * (0.12 / 255 * scale), covered)
    colour = body_colour if rng.random() < 0.4 else _paint_colour(rng)
    window.pixels[covered] = colour * diffuse + specular
    window.mask[covered] = True


def _paint_body(
    window: _Window,
    kind: Kind,
    colour: Array,
    pattern_scale: float,
    light: Light,
    rng: np.random.Generator,
) -> None:
    """Paints the body as a dome with a pattern on it, and the badge with its glyph."""
    u, v = window.pose.to_object(*window.coordinates())
    level = _outline_level(BODIES[kind.body], u, v)
    covered = level < 1
    dome = np.sqrt(np.maximum(1 - level, 0))
    diffuse, specular = light.shade(dome * (rng.uniform(0.35, 0.7) * window.pose.scale), covered)
    # Towards the rim the surface turns away from the viewer, so the pattern looks denser there.
    stretch = (1 + 0.2 * (1 - dome[covered])) / (kind.period * pattern_scale)
    surface = _patterned(kind, colour, u[covered] * stretch, v[covered] * stretch, rng)
    height, width = covered.shape
    wear = noise_patch(height, width, rng)[covered] * rng.uniform(0.03, 0.12)
    surface *= (1 + wear)[:, None]

    centre = np.array([rng.uniform(-0.06, 0.06), kind.badge_end * rng.uniform(0.42, 0.5)])
    badge_colour = _paint_colour(rng)
    badge = window.fill([_circle(centre, 0.27)])
    surface[np.asarray(badge)[covered] > 0] = badge_colour
    glyph = window.fill([centre + 0.18 * np.array(polygon) for polygon in GLYPHS[kind.glyph]])
    surface[np.asarray(glyph)[covered] > 0] = darker_colour(badge_colour, rng, 0.75, 0.9)
    window.pixels[covered] = surface * diffuse + specular
    window.mask[covered] = True


def _paint_colour(rng: np.random.Generator) -> Array:
    """Draws a light colour of an object, (3,)."""
    return random_colour(rng, saturation=0.4, darkest=0.6, lightest=1.0)


def _patterned(kind: Kind, base: Array, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Returns the colours (n, 3) of n surface points at coordinates (n,) in periods."""
    angle, (shift_a, shift_b) = math.radians(kind.angle), rng.uniform(0, 8, 2).tolist()
    a = u * math.cos(angle) - v * math.sin(angle) + shift_a
    b = u * math.sin(angle) + v * math.cos(angle) + shift_b
    coverage = pattern_coverage(kind.pattern, a, b)[:, None]
    return base + coverage * (darker_colour(base, rng, 0.45, 0.75) - base)

"""Scaling networks down: the rounding rules and the coefficients of arXiv 2009.07409.

A network is scaled by a width multiplier (channels), a depth multiplier (operators per stage) and
the side of its input in pixels. Eqs. 2 and 3 of the paper derive the multipliers of a family's pool
from its number of operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

# Subtracted before rounding up, so that floating-point error does not turn 5 * 0.6 into 4 repeats.
_EPSILON = 1e-9

# Delta_w / Delta_d and Delta_r / Delta_d of Eq. 3: the ratios of EfficientNet's compound scaling.
WIDTH_TO_DEPTH = 1.1 / 1.2
RESOLUTION_TO_DEPTH = 1.15 / 1.2


def round_filters(channels: int, width: float, divisor: int = 8) -> int:
    """``channels * width``, rounded as in EfficientNet (arXiv 1905.11946).

    The result is the nearest multiple of ``divisor`` (halves round up), at least ``divisor``, and
    one ``divisor`` more if it would be less than 90 % of the product.
    """
    rounded = nearest_multiple(channels, width, divisor)
    return rounded + divisor if rounded < 0.9 * (channels * width) else rounded


def nearest_multiple(channels: int, width: float, divisor: int) -> int:
    """``channels * width``, rounded to the nearest multiple of ``divisor`` (halves round up).

    The result is at least ``divisor``. Used with large divisors, for which the 90 % rule of
    `round_filters` would raise about half of all widths by a whole step.
    """
    return max(divisor, int(channels * width + divisor / 2) // divisor * divisor)


def round_repeats(repeats: int, depth: float) -> int:
    """Number of operators of a stage: ``repeats * depth``, rounded up."""
    return ceil(repeats * depth - _EPSILON)


def round_resolution(base: int, coefficient: float) -> int:
    """Input side in pixels: ``base * coefficient``, rounded up.

    For 224 pixels and the coefficients of Table 3 this gives the sides 224, 203, 172 and 132.
    """
    return ceil(base * coefficient - _EPSILON)


def round_power_of_two(channels: int) -> int:
    """The power of two nearest to ``channels`` (CR of Eq. 7); the lower one in a tie."""
    lower = 1 << (channels.bit_length() - 1)
    return 2 * lower if 2 * lower - channels < channels - lower else lower


def total_operators(repeats: Sequence[int], depth: float) -> int:
    """Number of operators of a network with these repeats per stage, at a depth multiplier."""
    return sum(round_repeats(count, depth) for count in repeats)


def depth_steps(repeats: Sequence[int], count: int = 4) -> tuple[float, ...]:
    """Depth multipliers of Eq. 2, from 1.0 downwards.

    Each one is the next lower multiple of 0.1 at which the network has fewer operators.

    Args:
      repeats: number of operators of each stage at depth 1, stem and head included.
      count: the most multipliers returned. Shallow networks have fewer.
    """
    steps = [1.0]
    for tenths in range(9, 0, -1):
        if len(steps) == count:
            break
        if total_operators(repeats, tenths / 10) < total_operators(repeats, steps[-1]):
            steps.append(tenths / 10)
    return tuple(steps)


@dataclass(frozen=True)
class Coefficients:
    """Multipliers of width, depth and resolution, each from the largest (1.0) downwards.

    A pool combines every width with every depth and every resolution.
    """

    width: tuple[float, ...]
    depth: tuple[float, ...]
    resolution: tuple[float, ...]


def derive_coefficients(repeats: Sequence[int]) -> Coefficients:
    """The coefficients of a pool by Eqs. 2 and 3, as in Table 3 for EfficientNet-B0.

    Args:
      repeats: number of operators of each stage at depth 1, stem and head included.

    Returns:
      the depth multipliers of `depth_steps`, and the unrounded widths and resolutions that belong
      to them.
    """
    depth = depth_steps(repeats)
    width, resolution = [1.0], [1.0]
    for previous, current in pairwise(depth):
        ratio = total_operators(repeats, current) / total_operators(repeats, previous)
        width.append(width[-1] * ratio * WIDTH_TO_DEPTH)
        resolution.append(resolution[-1] * ratio * RESOLUTION_TO_DEPTH)
    return Coefficients(tuple(width), depth, tuple(resolution))

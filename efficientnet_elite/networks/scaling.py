"""Compound scaling downwards: the rounding rules and Eqs. 2-3 of arXiv 2009.07409.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

# Float noise must not turn 5 * 0.6 into 4 repeats.
_EPSILON = 1e-9

# Delta_w : Delta_d : Delta_r (Eq. 3), the ratio of EfficientNet's compound law.
WIDTH_TO_DEPTH = 1.1 / 1.2
RESOLUTION_TO_DEPTH = 1.15 / 1.2


def round_filters(channels: int, width: float, divisor: int = 8) -> int:
    """``channels * width`` to the nearest multiple of ``divisor`` (half up), at least ``divisor``.

    Raised by one ``divisor`` where the result falls under 90 % of the product (arXiv 1905.11946).
    """
    rounded = nearest_multiple(channels, width, divisor)
    return rounded + divisor if rounded < 0.9 * (channels * width) else rounded


def nearest_multiple(channels: int, width: float, divisor: int) -> int:
    """``channels * width`` to the nearest multiple of ``divisor`` (half up), at least that.

    For coarse divisors, where `round_filters` would lift half of all widths by a whole step.
    """
    return max(divisor, int(channels * width + divisor / 2) // divisor * divisor)


def round_repeats(repeats: int, depth: float) -> int:
    """``ceil(repeats * depth)``."""
    return ceil(repeats * depth - _EPSILON)


def round_resolution(base: int, coefficient: float) -> int:
    """Input side in pixels, rounded up: Table 3's 224, 203, 172, 132."""
    return ceil(base * coefficient - _EPSILON)


def round_power_of_two(channels: int) -> int:
    """CR of Eq. 7: the nearest power of two; a tie goes down."""
    lower = 1 << (channels.bit_length() - 1)
    return 2 * lower if 2 * lower - channels < channels - lower else lower


def total_operators(repeats: Sequence[int], depth: float) -> int:
    """Operators at a depth coefficient: repeats rounded up, added over the stages."""
    return sum(round_repeats(r, depth) for r in repeats)


def depth_steps(repeats: Sequence[int], count: int = 4) -> tuple[float, ...]:
    """Depth coefficients of Eq. 2, from 1.0 down.

    Each is the next lower multiple of 0.1 at which the network has fewer operators. At most
    ``count``; shallow networks have fewer.
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
    """Scaling coefficients, the largest (1.0) first; a pool combines each with each."""

    width: tuple[float, ...]
    depth: tuple[float, ...]
    resolution: tuple[float, ...]


def derive(repeats: Sequence[int], printed: Coefficients | None = None) -> Coefficients:
    """Table 3 by Eqs. 2-3 from a network's repeats a stage.

    Args:
      repeats: operators a stage at depth 1, stem and head included.
      printed: where given, each step continues from the printed coefficient before it, as the
        paper's own chain does; otherwise from the derived one.

    Returns:
      unrounded width and resolution coefficients beside the depths.
    """
    depth = depth_steps(repeats)
    width, resolution = [1.0], [1.0]
    for step, (previous, current) in enumerate(pairwise(depth)):
        ratio = total_operators(repeats, current) / total_operators(repeats, previous)
        last_width = printed.width[step] if printed else width[-1]
        last_resolution = printed.resolution[step] if printed else resolution[-1]
        width.append(last_width * ratio * WIDTH_TO_DEPTH)
        resolution.append(last_resolution * ratio * RESOLUTION_TO_DEPTH)
    return Coefficients(tuple(width), depth, tuple(resolution))

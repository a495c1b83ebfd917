"""Dimensions of arrays in memory, as kernels of networks in C step through them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from efficientnet_elite.errors import UserError

MOST_COPIED, MOST_PAIRED = 5, 4  # dimensions of the kernels nn_copy and nn_add, see nn_kernels.h


def merged(
    shape: Sequence[int], steps: Sequence[Sequence[int]], most: int, what: str
) -> tuple[list[int], list[list[int]]]:
    """Merges dimensions along which arrays are stepped through together.

    Args:
      shape: numbers of elements along the dimensions, the first one first.
      steps: for each array its step along each dimension.
      most: greatest number of dimensions that may remain.
      what: the operator, for messages.

    Returns:
      The shape and the steps, the last dimension first, filled up to `most` dimensions.
    """
    counts: list[int] = []
    strides: list[list[int]] = [[] for _ in steps]
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            continue
        here = [step[axis] for step in steps]
        if counts and all(
            s == stride[-1] * counts[-1] for s, stride in zip(here, strides, strict=True)
        ):
            counts[-1] *= shape[axis]
            continue
        counts.append(shape[axis])
        for stride, s in zip(strides, here, strict=True):
            stride.append(s)
    if len(counts) > most:
        raise UserError(f"{what} of the shape {tuple(shape)} has too many dimensions")
    rest = most - len(counts)
    return counts + [1] * rest, [stride + [0] * rest for stride in strides]


def strides(shape: Sequence[int]) -> list[int]:
    """The steps of an array that lies in memory without gaps."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]

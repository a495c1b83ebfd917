"""Calibration: the ranges of a network's activations on the representative data set.

- ``minmax``: the least and the greatest value of all images. Nothing is clipped; one outlier widens
  every step.
- ``moving_average``: the extremes of each image, smoothed over the images as quantization-aware
  training does it. Values beyond those of an average image are clipped.
- ``percentile``: leaves out the rarest values at either end of all images' values together.

One pass over the images serves all methods. The input keeps its range in any case, because the int8
input is to be pixel - 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite import registry
from efficientnet_elite.export import inspect, layers

from .choices import CALIBRATION_METHODS
from .post_training import INPUT_RANGE, Range

METHODS = CALIBRATION_METHODS
MOMENTUM = 0.9  # of the moving average, an image a step
PERCENTILE = 99.99  # of the values lie below the greatest, and as many above the least
_BINS = 4096  # percentiles are rounded to so many steps between the extremes


class Collector(Protocol):
    """Collects an activation's values image by image, and ends with its range."""

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """Takes the values (N,) of one image, and their least and greatest."""

    def range(self) -> Range:
        """The range that the method chooses by the values of all images."""


def activation_ranges(
    model: bytes, images: NDArray[np.float32], methods: Sequence[str]
) -> dict[str, dict[str, Range]]:
    """Ranges of all activations by each of some methods, from one pass over the images.

    Args:
      model: content of a float32 file.
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      methods: some of `METHODS`.

    Returns:
      Method to tensor's name to range; of the input always `INPUT_RANGE`.

    Raises:
      ValueError: a method is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"{method!r} is no method of calibration: {', '.join(METHODS)}")
    makers = {name: registry.resolve(METHODS[name].collector) for name in methods}
    collectors: dict[str, dict[str, Collector]] = {name: {} for name in methods}
    activations = layers.activations(model, images)
    for values in tqdm(activations, "calibrate", len(images), disable=None, leave=False):
        for tensor, value in values.items():
            extremes = float(value.min()), float(value.max())
            for method, make in makers.items():
                if tensor not in collectors[method]:
                    collectors[method][tensor] = make(len(images))
                collectors[method][tensor].add(value.ravel(), extremes)
    inputs = {tensor.name: INPUT_RANGE for tensor in inspect.read(model).inputs}
    return {
        method: inputs | {tensor: collector.range() for tensor, collector in by_tensor.items()}
        for method, by_tensor in collectors.items()
    }


class Extremes:
    """The least and the greatest value of all images."""

    def __init__(self, images: int):
        del images
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """See `Collector`."""
        del values
        self.low, self.high = min(self.low, extremes[0]), max(self.high, extremes[1])

    def range(self) -> Range:
        """See `Collector`."""
        return self.low, self.high


class MovingAverage:
    """The extremes of each image, smoothed over the images."""

    def __init__(self, images: int):
        del images
        self._average: NDArray[np.float64] | None = None

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """See `Collector`."""
        del values
        current = np.array(extremes, np.float64)
        # It begins with the first image's, not with zeros, and so has no bias to correct.
        before = current if self._average is None else self._average
        self._average = MOMENTUM * before + (1 - MOMENTUM) * current

    def range(self) -> Range:
        """See `Collector`."""
        assert self._average is not None
        low, high = self._average
        return float(low), float(high)


class Percentile:
    """The range that leaves out the rarest values at either end, rounded to a bin.

    It is the range that a histogram of `_BINS` bins between the extremes gives. The extremes are
    known only at the end, but the values at both ends suffice: which of them in order of size
    bounds the range follows from the number of values, which the first image tells.
    """

    def __init__(self, images: int):
        self._images = images
        self._extremes = Extremes(images)
        self._lowest = _Least(0)
        self._highest = _Least(0)  # of the negated values

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """See `Collector`."""
        if not self._lowest.count:
            total, share = self._images * values.size, 1 - PERCENTILE / 100
            self._lowest = _Least(_rank(share, total))
            self._highest = _Least(total - _rank(1 - share, total) + 1)
        self._extremes.add(values, extremes)
        if extremes[0] < self._lowest.greatest:
            self._lowest.add(values)
        if -extremes[1] < self._highest.greatest:
            self._highest.add(-values)

    def range(self) -> Range:
        """See `Collector`."""
        low, high = self._extremes.range()
        ends = np.array([self._lowest.greatest, -self._highest.greatest], np.float32)
        steps = np.rint((ends - low) * ((_BINS - 1) / max(high - low, 1e-30))).astype(np.int64)
        step = (high - low) / (_BINS - 1)
        return low + int(steps[0]) * step, low + min(int(steps[1]), _BINS - 1) * step


class _Least:
    """The least values among many that come in parts.

    Attributes:
      count: how many are kept.
      greatest: the greatest of those kept; infinite while there are fewer than `count`.
    """

    def __init__(self, count: int):
        self.count = count
        self.greatest = np.inf
        self._values = np.empty(0, np.float32)

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes further values (N,)."""
        values = np.concatenate([self._values, values[values < self.greatest]])
        if len(values) >= self.count:
            values = np.partition(values, self.count - 1)[: self.count]
            self.greatest = float(values[-1])
        self._values = values


def _rank(share: float, total: int) -> int:
    """The least whole number that is at least a share of a total, as division rounds it."""
    rank = max(int(share * total), 1)
    while rank > 1 and (rank - 1) / total >= share:
        rank -= 1
    while rank / total < share:
        rank += 1
    return rank

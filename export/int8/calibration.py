"""Calibration: the ranges of a network's activations on the representative data set.

- ``minmax``: the least and the greatest value of all images. A single outlier makes the
  quantization coarser for all values.
- ``moving_average``: the extremes of each image, smoothed over the images as quantization-aware
  training does it. Values beyond those of an average image are clipped.
- ``percentile``: pools the values of all images and leaves out the outermost ones at both ends.

One pass over the images serves all methods. All of them leave out what makes no difference
(`flat`). The range of the input is fixed, so that the int8 input is always pixel - 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite import machine, registry
from efficientnet_elite.export import inspect, layers

from . import bias_correction, flat, rounding
from .choices import CALIBRATION_METHODS
from .post_training import INPUT_RANGE, Observed, Range

METHODS = CALIBRATION_METHODS
MOMENTUM = 0.9  # of the moving average, which each image updates once
# This percentage of the values is at most the upper end of the range; likewise for the lower end.
PERCENTILE = 99.99
# Operators that give their input's elements other places, and constants between them.
_MOVING = {
    *("PAD", "PADV2", "MIRROR_PAD", "CONCATENATION", "RESHAPE", "TRANSPOSE", "SLICE"),
    *("STRIDED_SLICE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
}
_BINS = 4096  # of the histogram between the extremes; percentiles are rounded to one of them


class Collector(Protocol):
    """Collects an activation's values image by image, and ends with its range."""

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """Adds the values (N,) of one image; `extremes` are the least and the greatest of them."""

    def range(self) -> Range:
        """The range that the method chooses from the values of all images."""


def observe(
    model: bytes, images: NDArray[np.float32], methods: Sequence[str]
) -> tuple[dict[str, dict[str, Range]], Observed]:
    """Finds the ranges of all activations by one or more methods in one pass over the images.

    Args:
      model: content of a float32 file.
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      methods: names of `METHODS`.

    Returns:
      Method to tensor's name to range; that of the input, also padded or moved, is always
      `INPUT_RANGE`. And what else `post_training` wants to know.

    Raises:
      ValueError: a method is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise ValueError(
                f"there is no calibration method {method!r}: choose from {', '.join(METHODS)}"
            )
    contents = inspect.read(model)
    makers = {name: registry.resolve(METHODS[name].collector) for name in methods}
    collectors: dict[str, dict[str, Collector]] = {name: {} for name in methods}
    sample, logits = rounding.PositionSample(model, contents), bias_correction.MeanLogits(contents)
    progress = tqdm(images, "calibrate", disable=None, leave=False)
    with machine.one_thread():
        for image, values in zip(progress, layers.activations(model, images), strict=True):
            sample.add(image, values)
            logits.add(values)
            for tensor, value in values.items():
                extremes = float(value.min()), float(value.max())
                for method, make in makers.items():
                    if tensor not in collectors[method]:
                        collectors[method][tensor] = make(len(images))
                    collectors[method][tensor].add(value.ravel(), extremes)
    pinned = dict.fromkeys(_of_input(contents), INPUT_RANGE)
    ranges = {
        method: flat.clipped(contents, {name: each.range() for name, each in by_tensor.items()})
        | pinned
        for method, by_tensor in collectors.items()
    }
    return ranges, Observed(sample.inputs(), logits.reference(images))


def _of_input(contents: inspect.Contents) -> list[str]:
    """Names of the input and of tensors that hold nothing but its elements.

    The quantizer gives both sides of a padding one scale. Were the padded image's range that of
    the representative data set, then dim images would change the scale of the input, too.
    """
    tensors = contents.tensors
    found = {index for index, tensor in enumerate(tensors) if tensor in contents.inputs}
    for step in contents.steps:
        values = {index for index in step.inputs if index >= 0 and not tensors[index].constant}
        if step.operator in _MOVING and values and values <= found:
            found |= set(step.outputs)
    return [tensors[index].name for index in sorted(found)]


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
        # The average starts at the first image, not at zero, and so needs no bias correction.
        before = current if self._average is None else self._average
        self._average = MOMENTUM * before + (1 - MOMENTUM) * current

    def range(self) -> Range:
        """See `Collector`."""
        assert self._average is not None
        low, high = self._average
        return float(low), float(high)


class Percentile:
    """The range that leaves out the outermost values at both ends, rounded to a histogram's bin.

    A histogram of `_BINS` bins between the extremes would give the same range, but would need all
    values at once. The total number of values is known from the first image, and it determines the
    ranks of the two values that bound the range. So only the values up to these ranks need to be
    kept at each end. The extremes, and with them the bins, are known only at the end.
    """

    def __init__(self, images: int):
        self._images = images
        self._extremes = Extremes(images)
        self._lowest = _SmallestValues(0)
        self._highest = _SmallestValues(0)  # of the negated values

    def add(self, values: NDArray[np.float32], extremes: Range) -> None:
        """See `Collector`."""
        if not self._lowest.count:
            total, share = self._images * values.size, 1 - PERCENTILE / 100
            self._lowest = _SmallestValues(_rank(share, total))
            self._highest = _SmallestValues(total - _rank(1 - share, total) + 1)
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


class _SmallestValues:
    """Collects the smallest of many values that arrive in parts.

    Attributes:
      count: how many values are kept.
      greatest: the greatest of the values kept; infinite until there are `count` of them.
    """

    def __init__(self, count: int):
        self.count = count
        self.greatest = np.inf
        self._values = np.empty(0, np.float32)

    def add(self, values: NDArray[np.float32]) -> None:
        """Adds values (N,)."""
        values = np.concatenate([self._values, values[values < self.greatest]])
        if len(values) >= self.count:
            values = np.partition(values, self.count - 1)[: self.count]
            self.greatest = float(values[-1])
        self._values = values


def _rank(share: float, total: int) -> int:
    """The least integer n for which n / total, as floating-point division rounds it, >= share."""
    rank = max(int(share * total), 1)
    while rank > 1 and (rank - 1) / total >= share:
        rank -= 1
    while rank / total < share:
        rank += 1
    return rank

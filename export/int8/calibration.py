"""Ranges of activations for int8: how the calibration images' values become a least and a greatest.

- ``minmax``: those of all images. Nothing is clipped; one outlier widens every step.
- ``moving_average``: each image's, smoothed over the images, as quantization-aware training does
  it. Values beyond an average image's are clipped.
- ``percentile``: leaves out the rarest values at either end of all images' together.

The input keeps its range in any case: int8 is to be pixel - 128.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.export import layers

from .post_training import Range
from .quantizer import Calibrated

METHODS = ("minmax", "moving_average", "percentile")
MOMENTUM = 0.9  # of the moving average, an image a step
PERCENTILE = 99.99  # of the values lie below the greatest, and as many above the least
_BINS = 4096


def ranges(calibrated: Calibrated, images: NDArray[np.float32], method: str) -> Mapping[str, Range]:
    """Ranges of all activations by a method.

    Args:
      calibrated: the network, calibrated with the same images.
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      method: one of `METHODS`.

    Returns:
      Range by the tensor's name, for `quantizer.quantize`.
    """
    if method == "minmax":
        return calibrated.ranges
    if method not in METHODS:
        raise ValueError(f"{method!r} is no method of calibration: {', '.join(METHODS)}")
    choose = _averaged if method == "moving_average" else _percentiles
    return {**calibrated.ranges, **choose(calibrated, images)}


def _averaged(calibrated: Calibrated, images: NDArray[np.float32]) -> dict[str, Range]:
    averages: dict[str, NDArray[np.float64]] = {}
    for values in layers.activations(calibrated.content, images):
        for name, value in values.items():
            extremes = np.array([value.min(), value.max()], np.float64)
            # Begins with the first image's, not with zeros: there is no bias to correct.
            before = averages.get(name, extremes)
            averages[name] = MOMENTUM * before + (1 - MOMENTUM) * extremes
    return {name: (float(low), float(high)) for name, (low, high) in averages.items()}


def _percentiles(calibrated: Calibrated, images: NDArray[np.float32]) -> dict[str, Range]:
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(_BINS, np.int64))
    for values in layers.activations(calibrated.content, images):
        for name, value in values.items():
            low, high = calibrated.ranges[name]
            steps = (value.ravel() - low) * ((_BINS - 1) / max(high - low, 1e-30))
            counts[name] += np.bincount(np.rint(steps).astype(np.int64), minlength=_BINS)
    return {name: _cut(count, calibrated.ranges[name]) for name, count in counts.items()}


def _cut(counts: NDArray[np.int64], extremes: Range) -> Range:
    """The range that leaves out the rarest values at either end, to a bin."""
    low, high = extremes
    below = np.cumsum(counts) / counts.sum()
    share = 1 - PERCENTILE / 100
    first, last = np.searchsorted(below, [share, 1 - share])
    step = (high - low) / (_BINS - 1)
    return low + int(first) * step, low + min(int(last), _BINS - 1) * step

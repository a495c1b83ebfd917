"""The ranges that an int8 file gets: those whose file computes most nearly what the float one does.

No calibration method is best for all networks. Minimum and maximum lose nothing where activations
are bounded, as with ReLU6; outliers of swish make their steps so coarse that percentiles are much
better (docs/int8.md). Comparing the outputs on the representative data set takes a second and needs
no labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import AUTO
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.formats import INT8
from efficientnet_elite.export.runtimes.runtime import Runner

from . import calibration, post_training
from .choices import CALIBRATION_METHODS
from .post_training import Observed, Range

# Images for the comparison; each costs one inference for each method.
_COMPARED_IMAGES = 100


def find(
    model: bytes, images: NDArray[np.float32], method: str = AUTO
) -> tuple[dict[str, dict[str, Range]], Observed]:
    """Finds the ranges of all activations.

    Args:
      model: content of a float32 file.
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      method: one of `choices.CALIBRATIONS`.

    Returns:
      As `calibration.observe`, by this method; with ``auto`` by all of `choices.CALIBRATIONS`.
    """
    if method != AUTO:
        return calibration.observe(model, images, [method])
    ranges, observed = calibration.observe(model, images, tuple(CALIBRATION_METHODS))
    every = -(-len(images) // _COMPARED_IMAGES)
    ranges[AUTO] = ranges[_nearest(model, images[::every], ranges)]
    return ranges, observed


def _nearest(
    model: bytes, images: NDArray[np.float32], ranges: Mapping[str, Mapping[str, Range]]
) -> str:
    """The method whose int8 file has outputs nearest to those of the float32 file.

    Weights are rounded to the nearest step: choosing them anew takes longer, and gains about the
    same with all ranges. What shifts all outputs of an image alike counts for nothing.
    """

    def outputs(content: bytes) -> NDArray[np.float32]:
        # XNNPACK ends the process where ranges are odd, as of networks with random weights.
        values = Runner(content, kernels="builtin kernels").run(images)
        return values - values.mean(-1, keepdims=True)

    reference = outputs(model)
    errors = {}
    for method, found in ranges.items():
        file = post_training.quantize_file(post_training.with_ranges(model, found), INT8)
        try:
            errors[method] = float(np.square(outputs(file) - reference).mean())
        except UserError:  # empty ranges, which are reported when the file is checked
            errors[method] = float("inf")
    return min(errors, key=lambda method: errors[method])

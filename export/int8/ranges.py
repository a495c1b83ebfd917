"""The ranges that an int8 file gets: those whose file computes most nearly what the float one does.

No calibration method is best for all networks. Minimum and maximum lose nothing where activations
are bounded, as with ReLU6; outliers of swish make their steps so coarse that percentiles are much
better (docs/int8.md). Comparing the outputs on the representative data set takes a second and needs
no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import AUTO
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8
from efficientnet_elite.export.runtimes.runtime import Runner

from . import calibration, post_training
from .choices import CALIBRATION_METHODS
from .post_training import Observed, Range

# Images for the comparison; each costs one inference for each method.
_COMPARED_IMAGES = 100


@dataclass(frozen=True)
class CalibratedNetwork:
    """A float network and the ranges of its activations on the representative data set.

    Attributes:
      content: content of the float32 file.
      contents: the same, parsed.
      method: the name in `choices.CALIBRATION_METHODS` of the method whose ranges files get.
      ranges_by_method: for this method, and for others to try: tensor's name to range, for the
        input and for each activation.
      observed: for weights and biases that keep the layers' outputs; None for the quantizer's own.
    """

    content: bytes
    contents: inspect.Contents
    method: str
    ranges_by_method: Mapping[str, Mapping[str, Range]]
    observed: Observed | None = None

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Tensor's name to the range that files get."""
        return self.ranges_by_method[self.method]

    @property
    def methods(self) -> list[str]:
        """The methods whose ranges are known, beginning with the one whose ranges files get."""
        return [self.method, *(name for name in self.ranges_by_method if name != self.method)]

    @property
    def operators(self) -> list[str]:
        """Names of the tensors that the operators compute, in the order of execution."""
        steps, tensors = self.contents.steps, self.contents.tensors
        return [tensors[index].name for step in steps for index in step.outputs]

    @property
    def plain(self) -> CalibratedNetwork:
        """The same for files with the weights and biases that the quantizer itself chooses."""
        return replace(self, observed=None)


def calibrate(
    content: bytes, images: NDArray[np.float32], method: str = AUTO, *, others: bool = True
) -> CalibratedNetwork:
    """Finds the ranges of all activations.

    Args:
      content: content of a float32 file.
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      method: whose ranges files get, one of `choices.CALIBRATIONS`.
      others: whether the ranges of all other methods are found, too; ``auto`` needs them anyway.
    """
    methods = tuple(CALIBRATION_METHODS) if others or method == AUTO else (method,)
    contents = inspect.read(content)
    ranges, observed = calibration.observe(content, images, methods)
    if method == AUTO:
        every = -(-len(images) // _COMPARED_IMAGES)
        method = _nearest(content, images[::every], ranges)
    return CalibratedNetwork(content, contents, method, ranges, observed)


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

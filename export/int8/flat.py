"""Which values of a tensor make no difference in int8, because the function that reads it is flat.

Swish, hard-swish and sigmoid come so near to their limits that all inputs beyond some value give
the same int8 output. A range that covers these inputs makes the steps coarse where the functions do
change. Networks with swish that began with the weights of one with ReLU6 lost several points by
that: their inputs of swish go down to -100.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from efficientnet_elite.export import inspect

from .post_training import Range

_EVERYTHING: Range = (float("-inf"), float("inf"))
# XNNPACK cannot load a convolution whose output has much finer steps than its input and weights,
# and may end the process instead of saying so.
_MOST_FINER = 16
_STEPS = 255  # of a range in int8
# Sigmoid's output has steps of 1/256: beyond this, it is within half of one of 0 or of 1.
_SIGMOID = float(np.log(511))
_HARD_SWISH = -3.0  # it is 0 below
# Swish falls from 0 to its minimum, -0.278, between minus infinity and -1.278.
_INPUTS = np.linspace(-1.278, -40, 4000)
_OUTPUTS = _INPUTS / (1 + np.exp(-_INPUTS))


def clipped(contents: inspect.Contents, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Leaves out of ranges what makes no difference.

    Args:
      contents: of a float32 file.
      ranges: tensor's name to its least and greatest value, for each activation.

    Returns:
      The same with other ranges for those tensors that nothing reads but swish, hard-swish or
      sigmoid.
    """
    readers: dict[int, list[inspect.Step]] = {}
    for step in contents.steps:
        for index in step.inputs:
            readers.setdefault(index, []).append(step)
    found = dict(ranges)
    for index, steps in readers.items():
        tensor = contents.tensors[index]
        if tensor.name in found and tensor not in contents.outputs:
            low, high = _informative(contents, index, steps, ranges)
            least, greatest = found[tensor.name]
            low, high = min(low, least / _MOST_FINER), max(high, greatest / _MOST_FINER)
            least = min(max(least, low), high)
            found[tensor.name] = least, max(min(greatest, high), least)
    return found


def _informative(
    contents: inspect.Contents,
    index: int,
    readers: list[inspect.Step],
    ranges: Mapping[str, Range],
) -> Range:
    """The values of a tensor between which its readers do change."""
    operators = sorted(step.operator for step in readers)
    if set(operators) == {"HARD_SWISH"}:
        return _HARD_SWISH, float("inf")
    if set(operators) == {"LOGISTIC"}:
        return -_SIGMOID, _SIGMOID
    if operators == ["LOGISTIC", "MUL"]:
        sigmoid, product = sorted(readers, key=lambda step: step.operator)
        output = contents.tensors[product.outputs[0]].name
        if set(product.inputs) == {index, *sigmoid.outputs} and output in ranges:
            low, high = ranges[output]
            half_step = (max(high, 0.0) - min(low, 0.0)) / _STEPS / 2
            return float(np.interp(-half_step, _OUTPUTS, _INPUTS)), float("inf")
    return _EVERYTHING

"""Multiply-accumulates of the operators of a `.tflite` file."""

from __future__ import annotations

from math import prod

from .inspect import Contents, Step

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def of_step(contents: Contents, step: Step) -> int:
    """Multiply-accumulates of an operator with weights, as its shapes give them; 0 for others."""
    if step.operator in _WEIGHTED:
        return _size(contents, step.inputs[1]) * prod(contents.tensors[step.outputs[0]].shape[:-1])
    if step.operator == "TRANSPOSE_CONV":  # every weight is used at every position of its input
        return _size(contents, step.inputs[1]) * prod(contents.tensors[step.inputs[2]].shape[:-1])
    return 0


def _size(contents: Contents, index: int) -> int:
    return prod(contents.tensors[index].shape)

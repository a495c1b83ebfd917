"""Scratch memory of CMSIS-NN's kernels in the arena of TensorFlow Lite Micro (TFLM).

CMSIS-NN computes on Arm's Cortex-M what TFLM's portable kernels compute elsewhere. Some of its
kernels need scratch memory while they run, as much as a function of the shapes says; processors
with the DSP extension (Cortex-M4, M7, M33) and with Helium (MVE: Cortex-M55, M85) differ. The
functions follow ``arm_*_get_buffer_size*`` of CMSIS-NN of July 2026 (commit 99f736a6).
"""

from __future__ import annotations

from collections.abc import Callable

from efficientnet_elite.device import memory

from .c.graph import Graph, Operator


def cmsis_nn_bytes(graph: Graph) -> int:
    """Bytes by which CMSIS-NN's scratch memory enlarges the arena, on the worse kind of processor.

    TFLM's planner places activations and scratch memory anew, so that the difference can be less
    than the scratch memory of the operator with the largest activations; it is not below 0.
    """
    plain = _head_bytes(graph, lambda operator: 0)
    dsp = _head_bytes(graph, lambda operator: _scratch_bytes(graph, operator, False))
    helium = _head_bytes(graph, lambda operator: _scratch_bytes(graph, operator, True))
    return max(0, dsp - plain, helium - plain)


def _head_bytes(graph: Graph, scratch: Callable[[Operator], int]) -> int:
    """Bytes of the arena's head as TFLM plans it, with the scratch memory that a function gives."""
    first: dict[int, int] = {graph.input: 0}
    last: dict[int, int] = {graph.input: 0}
    scratch_buffers = []
    for step, operator in enumerate(graph.operators, start=1):
        for tensor in operator.outputs:
            first[tensor] = last[tensor] = step
        for tensor in set(operator.inputs) & first.keys():
            last[tensor] = step
        sums = 4 * graph.tensors[operator.outputs[0]].size  # of TFLM's own kernels of MEAN and SUM
        sizes = [scratch(operator), sums if operator.kind in ("MEAN", "SUM") else 0]
        scratch_buffers += [memory.Buffer(size, step, step) for size in sizes if size]
    last[graph.output] = len(graph.operators)
    activations = [memory.Buffer(graph.tensors[t].size, first[t], last[t]) for t in first]
    buffers = activations + scratch_buffers
    return memory.plan_bytes(buffers, memory.greedy_offsets(buffers))


_HELIUM_CHANNELS = 124  # that a depthwise convolution handles at once
_ONE_CHANNEL_OUTPUTS = 1  # a depthwise convolution of one channel to more becomes a convolution
_REVERSED_CHANNELS = 16  # above, a transposed convolution becomes a convolution


def _scratch_bytes(graph: Graph, operator: Operator, helium: bool) -> int:
    """Bytes of scratch memory that CMSIS-NN's kernel of an operator needs, or 0."""
    kind, result = operator.kind, graph.tensors[operator.outputs[0]].shape
    if kind == "AVERAGE_POOL_2D":
        return 0 if helium else 4 * result[-1]
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return 0
    # The filter of a transposed convolution is its second input too, its image the third.
    source = graph.tensors[operator.inputs[2 if kind == "TRANSPOSE_CONV" else 0]].shape
    weights = graph.tensors[operator.inputs[1]].shape
    if kind == "FULLY_CONNECTED":
        return 8 * result[-1] if len(result) > 2 else 4 * result[-1] if helium else 0
    channels, (height, width) = source[-1], weights[1:3]
    area, options = height * width, operator.options
    dilated = max(options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)) > 1

    def columns(channels: int) -> int:
        """Of a convolution that copies the pixels under its kernel to rows."""
        return 4 * _multiple(area * channels, 16 if helium else 4)

    if kind == "CONV_2D":
        if area == 1 and weights[-1] == channels:
            # Arm's own compiler needs memory where GCC needs none.
            return 0 if helium else 4 * channels
        return columns(channels)
    if kind == "DEPTHWISE_CONV_2D":
        if channels == 1 and result[-1] > _ONE_CHANNEL_OUTPUTS:
            return columns(1) + area * result[-1]
        if dilated or channels != result[-1]:
            return 0
        return 4 * _HELIUM_CHANNELS * area if helium else 0 if area == 9 else 2 * area * channels
    strides = options["strideH"], options["strideW"]
    if channels > _REVERSED_CHANNELS and max(strides) <= 2:
        return columns(channels) + area * channels * result[-1]
    row = (source[2] - 1) * strides[1] + max(width, strides[0])
    return 4 * row * result[-1] * max(height, strides[0])


def _multiple(size: int, of: int) -> int:
    """The size, rounded up."""
    return -(-size // of) * of

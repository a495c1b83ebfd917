"""How often the loops of those kernels run that use Helium, the vectors of a Cortex-M55.

The other kernels are the same C code as elsewhere: `kernel_loops` counts theirs. A layer with a
factor that vectors do not handle (``nn_bits_are_usual``) is computed otherwise; which layers those
are is known after training, and they are rare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from efficientnet_elite.device.kernel_loops import (
    MOST_TERMS,
    TABLE,
    Call,
    Counts,
    Layer,
    Loops,
    convolution,
    copies,
    fully_connected,
    inside,
    merged_pair,
    pool,
    square_kernel,
)
from efficientnet_elite.device.lowering import Window
from efficientnet_elite.networks.ops import Shape

_BYTES = 16  # of a vector


def _vectors(values: int, lanes: int = _BYTES) -> int:
    return -(-values // lanes)


def _columns_inside(image: Shape, result: Shape, window: Window) -> int:
    """At how many positions along a row all columns of the kernel are inside of the image."""
    stride, before = window.stride[1], window.before[1]
    span = (window.kernel[1] - 1) * window.dilation[1]
    first, last = -(-before // stride), (image[1] - 1 - span + before) // stride
    return max(0, min(last, result[1] - 1) - first + 1)


def _gathered(layer: Layer, image: Shape, result: Shape, window: Window, depth: int) -> Call:
    """The call of nn_conv whose filters read ``depth`` channels of the image."""
    groups, taps = image[-1] // depth, prod(window.kernel)
    pixels, channels = prod(result[:-1]), result[-1]
    filters, size = channels // groups, depth * taps
    block = 4 if groups == 1 else 2
    blocks, fours = -(-pixels // block), pixels // block if block == 4 else 0
    rest = pixels - 4 * fours
    counts: Counts = {
        "channels": channels,
        "blocks": blocks,
        "groups of blocks": blocks * groups,
        "fours of pixels": fours,
        "single pixels": rest * groups,
        "fours of channels": rest * groups * (filters // 4),
        "single channels": rest * groups * (filters % 4),
    }
    turns = rest * groups * (filters // 4 + filters % 4) * _vectors(size)
    ended = rest * groups * (filters // 4 + filters % 4)
    if size <= _BYTES:
        counts["channels of fours, short"] = fours * channels
    else:
        counts["channels of fours"] = fours * channels
        turns += fours * channels * _vectors(size)
    counts["products of 4x16"] = turns
    if layer.table:
        counts["fours by table"] = ended + fours * channels
    if taps * prod(window.stride) * groups == 1:
        counts["copied vectors"] = fours * _vectors(4 * size) + (
            _vectors(rest * size) if rest else 0
        )
    else:
        counts |= _gathering(image, result, window, depth, groups)
    return Call("nn_conv", counts)


def _gathering(image: Shape, result: Shape, window: Window, depth: int, groups: int) -> Counts:
    """The loops of nn_gather_bytes: rows of the kernel at once, or position by position."""
    pixels, rows = prod(result[:-1]), prod(result[:-1]) * window.kernel[0]
    together = 0
    if groups == 1 and window.dilation[1] == 1:
        rows_inside = sum(inside(image[0], result[0], window, 0))
        together = rows_inside * _columns_inside(image, result, window)
    positions = (rows - together) * window.kernel[1]
    return {
        "gathered pixels": pixels * groups,
        "gathered rows": rows * groups,
        "rows at once": together,
        "vectors of rows": together * _vectors(window.kernel[1] * depth),
        "single positions": positions * groups,
        "vectors of positions": positions * groups * _vectors(depth),
    }


def _depthwise(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    channels, pixels = image[-1], prod(result[:-1])
    window = operator.window or Window(kernel=square_kernel(operator, channels))
    kernel, taps = window.kernel, prod(window.kernel)
    moved = result[0] * max(0, _columns_inside(image, result, window) - 1)
    full, rest = pixels * (channels // _BYTES), pixels * (channels % _BYTES > 0)
    counts: Counts = {
        "channels": channels,
        "rows": result[0],
        "pixels": pixels,
        "moved vectors": moved * _vectors(taps, 4),
        "aimed pixels": pixels - moved,
        "aimed rows": (pixels - moved) * kernel[0],
        "aimed positions": (pixels - moved) * taps,
        "sixteen channels": full,
        "fewer channels": rest,
        "pairs of taps": full * (taps // 2),
        "pairs of taps of fewer": rest * (taps // 2),
    }
    if taps % 2:
        counts |= {"last taps": full, "last taps of fewer": rest}
    if layer.table:
        counts["vectors by table"] = full + rest
    return [Call("nn_depthwise", counts)]


def _pair(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    """ADD and MUL of two tensors, or of one and a constant for each channel."""
    row = merged_pair(shapes, layer)[0]
    rows = prod(shapes[layer.operator.output]) // row
    counts: Counts = {"rows": rows, "fours": rows * (row // 4), "rests": rows * (row % 4 > 0)}
    return [Call(f"nn_{layer.operator.kind.lower()}", counts)]


def _reduction(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    result = shapes[layer.operator.output]
    terms, values = prod(shapes[layer.operator.inputs[0]]), prod(result)
    count, inner = terms // values, result[-1]
    if inner < 4:
        return [Call("nn_reduce", {"values": values, "terms": terms})]
    eights = values // inner * _vectors(inner, 8)
    parts = eights * _vectors(count, MOST_TERMS)
    return [Call("nn_reduce", {"eights": eights, "parts": parts, "vectors": eights * count})]


def _table(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    values = prod(shapes[layer.operator.output])
    return [Call("nn_table", {"vectors": values // _BYTES, "values": values % _BYTES})]


_POOL = pool("vectors", lambda channels: (_vectors(channels), 0))

KERNELS: Mapping[str, Loops] = {
    "CONV_2D": convolution(_gathered),
    "FULLY_CONNECTED": fully_connected(_gathered),
    "DEPTHWISE_CONV_2D": _depthwise,
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "MEAN": _reduction,
    "SUM": _reduction,
    "ADD": _pair,
    "MUL": _pair,
    TABLE: _table,
    **copies(lambda block: {"vectors": _vectors(block)}),
}

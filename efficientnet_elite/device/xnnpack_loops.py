"""How often the loops of XNNPACK's int8 kernels run on a 64-bit Arm processor, by the shapes.

XNNPACK multiplies blocks of four pixels and sixteen channels, and goes through other operators in
vectors of sixteen values. Its kernels differ between processors, and LiteRT runs some operators
with code of its own. What is the same is what the number of turns depends on; what a turn takes is
fitted for each processor. The kernels here are therefore named after the operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from efficientnet_elite.device.kernel_loops import Call, Counts, Layer, Loops, square_kernel
from efficientnet_elite.device.lowering import Window
from efficientnet_elite.networks.ops import Shape

_ROWS, _COLUMNS = 4, 16  # of a block of a matrix product
_DEPTH = 8  # products that the inner loop adds up before it looks again
_VECTOR = 16


def _product(rows: int, columns: int, depth: int, taps: int, groups: int = 1) -> Counts:
    """Loops of a product of matrices.

    Args:
      rows: pixels.
      columns: filters of a group.
      depth: values that a filter reads at each of its positions.
      taps: positions of a filter.
      groups: of filters.
    """
    across = -(-columns // _COLUMNS) * groups
    if rows < _ROWS:  # a kernel of its own, row by row
        blocks, name = rows * across, "single rows"
    else:
        blocks, name = -(-rows // _ROWS) * across, "blocks"
    eights, rest = divmod(depth, _DEPTH)
    return {
        name: blocks,
        f"eights of {name}": blocks * taps * eights,
        f"rests of {name}": blocks * taps * (rest > 0),
    }


def _convolution(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    taps = prod((operator.window or Window()).kernel)
    depth = operator.constants[0].values // (result[-1] * taps)
    groups = image[-1] // depth
    counts = _product(prod(result[:-1]), result[-1] // groups, depth, taps, groups)
    if taps > 1 and "blocks" in counts:  # the addresses of a block's pixels are looked up
        counts["positions of blocks"] = counts["blocks"] * taps
    return [Call("CONV_2D", counts)]


def _fully_connected(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    size, units = prod(shapes[layer.operator.inputs[0]]), shapes[layer.operator.output][-1]
    depth = layer.operator.constants[0].values // units
    return [Call("CONV_2D", _product(size // depth, units, depth, 1))]


def _depthwise(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    window = operator.window
    taps = prod(window.kernel if window else square_kernel(operator, image[-1]))
    pixels, vectors = prod(result[:-1]), -(-image[-1] // _VECTOR)
    size = next((str(size) for size in (9, 25) if taps <= size), "more")
    return [
        Call(
            f"DEPTHWISE_CONV_2D of {size}",
            {"pixels": pixels, "vectors": pixels * vectors, "products": pixels * vectors * taps},
        )
    ]


def _transposed(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    return [Call("TRANSPOSE_CONV", {"products": layer.operator.macs})]


def _pool(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    result, window = shapes[operator.output], operator.window or Window()
    vectors = prod(result[:-1]) * -(-result[-1] // _VECTOR)
    return [Call(operator.kind, {"vectors": vectors, "terms": vectors * prod(window.kernel)})]


def _reduction(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    terms, values = (prod(shapes[t]) for t in (layer.operator.inputs[0], layer.operator.output))
    return [Call(layer.operator.kind, {"values": values, "terms": terms})]


def _values(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    """An operator that does the same for each value of its output."""
    result = shapes[layer.operator.output]
    return [Call(layer.operator.kind, {"pixels": prod(result[:-1]), "values": prod(result)})]


def _pair(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    """ADD and MUL: of a gate there is a value for each channel, so that each pixel is a row."""
    operator, result = layer.operator, shapes[layer.operator.output]
    sizes = [prod(shapes[tensor]) for tensor in operator.inputs]
    sizes += [constant.values for constant in operator.constants]
    if min(sizes) == prod(result):
        return [Call(operator.kind, {"values": prod(result)})]
    return [
        Call(f"{operator.kind} by channel", {"rows": prod(result[:-1]), "values": prod(result)})
    ]


def _copy(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    result = shapes[layer.operator.output]
    rows = prod(result[:-1]) * len(layer.operator.inputs)
    return [Call(layer.operator.kind, {"rows": rows, "values": prod(result)})]


_COPIES = ("CONCATENATION", "PAD", "STRIDED_SLICE", "TRANSPOSE", "GATHER", "RESHAPE")
_EACH = ("LOGISTIC", "TANH", "HARD_SWISH", "PRELU", "RESIZE_BILINEAR", "RELU", "RELU6")

KERNELS: Mapping[str, Loops] = {
    "CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _reduction,
    "SUM": _reduction,
    "ADD": _pair,
    "MUL": _pair,
    **dict.fromkeys(_COPIES, _copy),
    **dict.fromkeys(_EACH, _values),
}

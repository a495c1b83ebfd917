"""How often the loops of each kernel of a network in C run, by the shapes of its operators.

The kernels are those of ``export/packages/c/kernels``, in plain C or with the DSP extension;
`vector_loops` has those that Helium replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from efficientnet_elite.device.dimensions import MOST_COPIED, MOST_PAIRED, merged, strides
from efficientnet_elite.device.lowering import Operator, Pair, Window
from efficientnet_elite.networks.ops import Shape

Counts = dict[str, float]
"""How often each loop of a kernel runs; ``call`` is always 1."""


@dataclass(frozen=True)
class Call:
    """A call of a kernel.

    Attributes:
      kernel: name of the C function.
      counts: how often its loops run.
    """

    kernel: str
    counts: Counts


@dataclass(frozen=True)
class Layer:
    """An operator that calls a kernel.

    Attributes:
      operator: the operator.
      table: whether its result goes through a table of 256 values.
    """

    operator: Operator
    table: bool = False


MOST_TERMS = 255
"""So many values are added in 16 bits."""

TABLE = "TABLE"
"""Kind of an operator that looks values up in a table on its own."""

Loops = Callable[[Sequence[Shape], Layer], list[Call]]
"""The calls that a layer makes, by the shapes of all tensors."""

Gathered = Callable[[Layer, Shape, Shape, Window, int], Call]
"""The call of nn_conv for a layer, its image and result, and filters that read so many channels of
the image."""


def inside(size: int, out: int, window: Window, axis: int) -> list[int]:
    """For each row (axis 0) or column (1) of a kernel: at how many positions it is in the image."""
    stride, before = window.stride[axis], window.before[axis]
    counts = []
    for place in range(window.kernel[axis]):
        outside = before - place * window.dilation[axis]
        first, last = max(0, -(-outside // stride)), min(out - 1, (size - 1 + outside) // stride)
        counts.append(max(0, last - first + 1))
    return counts


def taps_inside(image: Shape, result: Shape, window: Window) -> list[int]:
    """For each position of a kernel, row by row: how often it lies inside of the image."""
    rows = inside(image[0], result[0], window, 0)
    columns = inside(image[1], result[1], window, 1)
    return [row * column for row in rows for column in columns]


def _finished(layer: Layer, values: int) -> Counts:
    """The outputs of a convolution, by what happens to them."""
    if layer.table:
        return {"values by table": values}
    return {"values clamped" if layer.operator.fused else "values": values}


def square_kernel(operator: Operator, channels: int) -> Pair:
    """The kernel's height and width, where the operator has no window."""
    side = round((operator.constants[-2].values / channels) ** 0.5)
    return side, side


def convolution(gathered: Gathered) -> Loops:
    """CONV_2D, by the call of nn_conv."""

    def of(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
        operator = layer.operator
        image, result = shapes[operator.inputs[0]], shapes[operator.output]
        window = operator.window or Window()
        depth = operator.constants[0].values // (result[-1] * prod(window.kernel))
        return [gathered(layer, image, result, window, depth)]

    return of


def _gathered(layer: Layer, image: Shape, result: Shape, window: Window, depth: int) -> Call:
    """The call of nn_conv whose filters read ``depth`` channels of the image."""
    groups, taps = image[-1] // depth, taps_inside(image, result, window)
    pixels, filters = prod(result[:-1]), result[-1] // groups
    by_words = words = singles = outside = 0
    for number, within in enumerate(taps):
        # A word is read at once where the place of its values is a multiple of four.
        quick = depth // 4 if number * depth % 4 == 0 else 0
        by_words += within if quick else 0
        words += within * quick
        singles += within * (depth - 4 * quick)
        outside += (pixels - within) * depth
    pairs = -(-pixels // 2)
    blocks = pairs * groups * -(-filters // 2)
    return Call(
        "nn_conv",
        {
            "pairs of pixels": pairs,
            "groups of pairs": pairs * groups,
            "gathered pixels": pixels * groups,
            "gathered rows": pixels * groups * window.kernel[0],
            "gathered positions": pixels * groups * len(taps),
            "positions by words": by_words * groups,
            "gathered words": words * groups,
            "gathered values": singles * groups,
            "gathered padding": outside * groups,
            "gathered zeros": pixels * groups * (-depth * len(taps) % 4),
            "blocks of 2x2": blocks,
            "products of 2x2x4": blocks * -(-depth * len(taps) // 4),
            **_finished(layer, prod(result)),
        },
    )


def fully_connected(gathered: Gathered) -> Loops:
    """FULLY_CONNECTED, by the call of nn_conv."""

    def of(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
        size, units = prod(shapes[layer.operator.inputs[0]]), shapes[layer.operator.output][-1]
        depth = layer.operator.constants[0].values // units
        rows = 1, size // depth
        return [gathered(layer, (*rows, depth), (*rows, units), Window(), depth)]

    return of


def _depthwise(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    channels, pixels = image[-1], prod(result[:-1])
    kernel = operator.window.kernel if operator.window else square_kernel(operator, channels)
    taps, fours, rest = prod(kernel), channels // 4, channels % 4
    counts: Counts = {
        "pixels": pixels,
        "rows of the kernel": pixels * kernel[0],
        "positions": pixels * taps,
        "channels of padding": channels,
        "four channels": pixels * fours,
        "products of four": pixels * fours * taps,
        "single channels": pixels * rest,
        "products": pixels * rest * taps,
        **_finished(layer, prod(result)),
    }
    return [Call("nn_depthwise", counts)]


def _transposed(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    counts: Counts = {"products": operator.macs, **_finished(layer, prod(result))}
    return [Call("nn_transpose_conv", {"pixels": prod(image[:-1]), **counts})]


def pool(name: str, grouped: Callable[[int], tuple[int, int]]) -> Loops:
    """AVERAGE_POOL_2D and MAX_POOL_2D.

    Args:
      name: of groups of channels that are computed together.
      grouped: for a number of channels, how many groups there are and how many channels are left.
    """

    def of(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
        operator = layer.operator
        image, result = shapes[operator.inputs[0]], shapes[operator.output]
        window, average = operator.window or Window(), operator.kind == "AVERAGE_POOL_2D"
        groups, rest = grouped(image[-1])
        # Windows at the border have fewer terms than this: the few that still fit are neglected.
        if average and prod(map(min, window.kernel, image)) > MOST_TERMS:
            groups, rest = 0, image[-1]
        pixels = prod(result[:-1])
        rows = sum(inside(image[0], result[0], window, 0)) * result[1]
        terms = sum(taps_inside(image, result, window))
        counts: Counts = {
            "pixels": pixels,
            name: pixels * groups,
            f"rows of {name}": rows * groups,
            f"terms of {name}": terms * groups,
            "values": pixels * rest,
            "rows": rows * rest,
            "terms": terms * rest,
        }
        return [Call("nn_average_pool" if average else "nn_max_pool", counts)]

    return of


def _reduction(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    terms, values = (prod(shapes[t]) for t in (layer.operator.inputs[0], layer.operator.output))
    # The compiler's code for a single term is another one.
    return [
        Call(
            "nn_reduce", {"single values" if terms == values else "values": values, "terms": terms}
        )
    ]


def merged_pair(shapes: Sequence[Shape], layer: Layer) -> Sequence[int]:
    """The dimensions of the loops over two tensors, or one and a constant for each channel."""
    operator, result = layer.operator, shapes[layer.operator.output]
    inputs = [shapes[tensor] for tensor in operator.inputs]
    inputs += [(constant.values,) for constant in operator.constants]
    steps = []
    for shape in inputs:
        whole = (1,) * (len(result) - len(shape)) + tuple(shape)
        steps.append([0 if n == 1 else s for n, s in zip(whole, strides(whole), strict=True)])
    counts, _ = merged(result, steps, MOST_PAIRED, operator.kind)
    return counts


def _pair(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
    """ADD, MUL and PRELU of two tensors, or of one and a constant for each channel."""
    counts, values = merged_pair(shapes, layer), prod(shapes[layer.operator.output])
    kernel = f"nn_{layer.operator.kind.lower()}"
    return [Call(kernel, {"rows": values // counts[0], "values": values})]


@dataclass(frozen=True)
class Move:
    """What a call of nn_copy does.

    Attributes:
      shape: of the array that it moves.
      source, target: steps along the dimensions, where the array is and where it goes.
      fill: number of bytes that are filled first.
    """

    shape: Sequence[int]
    source: Sequence[int]
    target: Sequence[int]
    fill: int = 0


def _concatenation(shapes: Sequence[Shape], layer: Layer) -> list[Move]:
    result = strides(shapes[layer.operator.output])
    inputs = [shapes[tensor] for tensor in layer.operator.inputs]
    return [Move(shape, strides(shape), result) for shape in inputs]


def _padding(shapes: Sequence[Shape], layer: Layer) -> list[Move]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    return [Move(image, strides(image), strides(result), prod(result))]


def _slice(shapes: Sequence[Shape], layer: Layer) -> list[Move]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    every = (layer.operator.constants[2].content or ())[1:]
    source = [step * n for step, n in zip(strides(image), every, strict=True)]
    return [Move(result, source, strides(result))]


def _transposition(shapes: Sequence[Shape], layer: Layer) -> list[Move]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    order = (layer.operator.constants[0].content or ())[1:]
    steps = strides(image)
    return [Move(result, [steps[axis - 1] for axis in order], strides(result))]


_MOVES: Mapping[str, Callable[[Sequence[Shape], Layer], list[Move]]] = {
    "CONCATENATION": _concatenation,
    "PAD": _padding,
    "STRIDED_SLICE": _slice,
    "TRANSPOSE": _transposition,
}


def copies(moved: Callable[[int], Counts]) -> dict[str, Loops]:
    """The operators that nn_copy computes; ``moved`` counts the loops over the bytes of a block."""

    def call(move: Move) -> Call:
        steps = [move.source, move.target]
        counts, (sources, targets) = merged(move.shape, steps, MOST_COPIED + 1, "copy")
        block = 1
        if counts[0] == 1 or (sources[0], targets[0]) == (1, 1):
            block, counts = counts[0], counts[1:]
        blocks = prod(counts)
        loops: Counts = {"rows": blocks // counts[0], "filled bytes": move.fill}
        if block == 1:
            loops["single bytes"] = blocks
        else:
            loops["blocks"] = blocks
            loops |= {loop: blocks * count for loop, count in moved(block).items()}
        return Call("nn_copy", loops)

    def loops(moves: Callable[[Sequence[Shape], Layer], list[Move]]) -> Loops:
        return lambda shapes, layer: [call(move) for move in moves(shapes, layer)]

    return {kind: loops(moves) for kind, moves in _MOVES.items()}


def _words(block: int) -> Counts:
    # Bytes that are no whole words are copied one by one, and so may be the words beside them.
    words = block // 4 if block % 4 == 0 else 0
    return {"words": words, "bytes beside words": block - 4 * words}


def _values(kernel: str) -> Loops:
    """Calls of a kernel that does the same for each value of its output."""

    def of(shapes: Sequence[Shape], layer: Layer) -> list[Call]:
        result = shapes[layer.operator.output]
        return [Call(kernel, {"pixels": prod(result[:-1]), "values": prod(result)})]

    return of


_POOL = pool("fours", lambda channels: divmod(channels, 4))

KERNELS: Mapping[str, Loops] = {
    "CONV_2D": convolution(_gathered),
    "FULLY_CONNECTED": fully_connected(_gathered),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "MEAN": _reduction,
    "SUM": _reduction,
    "ADD": _pair,
    "MUL": _pair,
    "PRELU": _pair,
    **copies(_words),
    "GATHER": _values("nn_gather"),
    "RESIZE_BILINEAR": _values("nn_resize_bilinear"),
    TABLE: _values("nn_table"),
}

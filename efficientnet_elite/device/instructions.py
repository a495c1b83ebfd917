"""Instructions of a network in C on a Cortex-M4, estimated from its lowered form.

``elite export --target=c`` makes of each operator a call of a kernel (``export/packages/c``). How
often the loops of a kernel run follows from the shapes: `calls` says so. What a turn of each loop
takes was measured in an emulator, layer by layer, and fitted: ``cortex_m4.json`` holds these
instructions by kernel and loop, and the command that wrote it. docs/firmware.md has the errors.
The values of weights and images hardly matter, and the estimate does not know them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import prod

from efficientnet_elite.device.dimensions import MOST_COPIED, MOST_PAIRED, merged, strides
from efficientnet_elite.device.lowering import Operator, Pair, Program, Window
from efficientnet_elite.networks.ops import Shape

FITTED = "cortex_m4.json"

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
class _Layer:
    """An operator that calls a kernel.

    Attributes:
      operator: the operator.
      table: whether its result goes through a table of 256 values.
    """

    operator: Operator
    table: bool = False


def estimate(program: Program) -> float:
    """Instructions of one inference.

    Raises:
      ValueError: an operator has no kernel, or none that was measured.
    """
    fitted = _fitted()
    total = 0.0
    for call in calls(program):
        if call.kernel not in fitted:
            raise ValueError(f"the instructions of {call.kernel} were not measured")
        total += instructions(call, fitted[call.kernel])
    return total


def instructions(call: Call, fitted: Mapping[str, float]) -> float:
    """Instructions of a call, from those of one turn of each of its kernel's loops.

    Raises:
      ValueError: a loop was not measured.
    """
    total = 0.0
    for loop, count in call.counts.items():
        if count and loop not in fitted:
            raise ValueError(f"the instructions of {loop!r} in {call.kernel} were not measured")
        total += count * fitted.get(loop, 0.0)
    return total


@cache
def _fitted() -> Mapping[str, Mapping[str, float]]:
    """Kernel to loop to instructions of one turn."""
    text = resources.files(__package__).joinpath(FITTED).read_text(encoding="utf-8")
    return json.loads(text)["kernels"]


def calls(program: Program) -> list[Call]:
    """The calls of kernels in the order of execution.

    Raises:
      ValueError: an operator has no kernel.
    """
    found = []
    for layer in _layers(program):
        kind = layer.operator.kind
        if kind not in _KERNELS:
            raise ValueError(f"no instructions are known for {kind}")
        found += _KERNELS[kind](program.shapes, layer)
    return [replace(call, counts={"call": 1, **call.counts}) for call in found]


# -- what becomes a table, as export/packages/c/simplify.py decides it ----------------------------

_TABLE = "TABLE"
_UNARY = ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6")
_BINARY = ("ADD", "MUL")
_APPLYING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def _layers(program: Program) -> list[_Layer]:
    """The operators that call kernels: tables joined to convolutions, no changes of shape."""
    same_as: dict[int, int] = {}  # tensor: the one in whose memory it lies
    tables: dict[int, tuple[int, int]] = {}  # tensor: the one it is a function of, position
    kept: list[tuple[int, _Layer]] = []
    for position, operator in enumerate(program.operators):
        inputs = tuple(same_as.get(tensor, tensor) for tensor in operator.inputs)
        if operator.kind == "RESHAPE":
            same_as[operator.output] = inputs[0]
        elif (source := _function_of(program, operator, inputs, tables)) is not None:
            tables[operator.output] = source, position
        else:
            kept.append((position, _Layer(operator)))
    last = len(program.shapes) - 1  # the tensor that the last operator writes
    read = [tensor for _, layer in kept for tensor in layer.operator.inputs]
    needed = {same_as.get(tensor, tensor) for tensor in (*read, last)}
    made = {tensor: entry for tensor, entry in tables.items() if tensor in needed}
    sources = [source for source, _ in made.values()]
    for tensor, (source, position) in made.items():
        writers = (i for i, (_, layer) in enumerate(kept) if layer.operator.output == source)
        at = next(writers, None) if source not in needed and sources.count(source) == 1 else None
        if at is not None and kept[at][1].operator.kind in _APPLYING:
            kept[at] = kept[at][0], _Layer(kept[at][1].operator, table=True)
        else:
            kept.append((position, _Layer(Operator(_TABLE, (source,), tensor))))
    return [layer for _, layer in sorted(kept, key=lambda entry: entry[0])]


def _function_of(
    program: Program,
    operator: Operator,
    inputs: Sequence[int],
    tables: Mapping[int, tuple[int, int]],
) -> int | None:
    """The only tensor whose single values give those of the output; None if there is none."""
    if operator.kind not in (*_UNARY, *_BINARY):
        return None
    if any(constant.values != 1 for constant in operator.constants):
        return None
    sizes = {prod(program.shapes[tensor]) for tensor in (*inputs, operator.output)}
    roots = {tables[tensor][0] if tensor in tables else tensor for tensor in inputs}
    return roots.pop() if len(roots) == len(sizes) == 1 else None


# -- how often the loops of each kernel run -------------------------------------------------------


def _inside(size: int, out: int, window: Window, axis: int) -> list[int]:
    """For each row (axis 0) or column (1) of a kernel: at how many positions it is in the image."""
    stride, before = window.stride[axis], window.before[axis]
    counts = []
    for place in range(window.kernel[axis]):
        outside = before - place * window.dilation[axis]
        first, last = max(0, -(-outside // stride)), min(out - 1, (size - 1 + outside) // stride)
        counts.append(max(0, last - first + 1))
    return counts


def _taps(image: Shape, result: Shape, window: Window) -> list[int]:
    """For each position of a kernel, row by row: how often it lies inside of the image."""
    rows = _inside(image[0], result[0], window, 0)
    columns = _inside(image[1], result[1], window, 1)
    return [row * column for row in rows for column in columns]


def _finished(layer: _Layer, values: int) -> Counts:
    """The outputs of a convolution, by what happens to them."""
    if layer.table:
        return {"values by table": values}
    return {"values clamped" if layer.operator.fused else "values": values}


def _square(operator: Operator, channels: int) -> Pair:
    """The kernel's height and width, where the operator has no window."""
    side = round((operator.constants[-2].values / channels) ** 0.5)
    return side, side


def _convolution(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    window = operator.window or Window()
    depth = operator.constants[0].values // (result[-1] * prod(window.kernel))
    return [_gathered(layer, image, result, window, depth)]


def _gathered(layer: _Layer, image: Shape, result: Shape, window: Window, depth: int) -> Call:
    """The call of nn_conv whose filters read ``depth`` channels of the image."""
    groups, taps = image[-1] // depth, _taps(image, result, window)
    pixels, filters = prod(result[:-1]), result[-1] // groups
    by_words = words = singles = outside = 0
    for number, inside in enumerate(taps):
        # A word is read at once where the place of its values is a multiple of four.
        quick = depth // 4 if number * depth % 4 == 0 else 0
        by_words += inside if quick else 0
        words += inside * quick
        singles += inside * (depth - 4 * quick)
        outside += (pixels - inside) * depth
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


def _fully_connected(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    size, units = prod(shapes[layer.operator.inputs[0]]), shapes[layer.operator.output][-1]
    depth = layer.operator.constants[0].values // units
    rows = 1, size // depth
    return [_gathered(layer, (*rows, depth), (*rows, units), Window(), depth)]


def _depthwise(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    channels, pixels = image[-1], prod(result[:-1])
    kernel = operator.window.kernel if operator.window else _square(operator, channels)
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


def _transposed(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    counts: Counts = {"products": operator.macs, **_finished(layer, prod(result))}
    return [Call("nn_transpose_conv", {"pixels": prod(image[:-1]), **counts})]


def _pool(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    operator = layer.operator
    image, result = shapes[operator.inputs[0]], shapes[operator.output]
    window = operator.window or Window()
    rows = sum(_inside(image[0], result[0], window, 0)) * result[1]
    counts: Counts = {
        "pixels": prod(result[:-1]),
        "values": prod(result),
        "rows": rows * result[-1],
        "terms": sum(_taps(image, result, window)) * result[-1],
    }
    name = "nn_average_pool" if operator.kind == "AVERAGE_POOL_2D" else "nn_max_pool"
    return [Call(name, counts)]


def _reduction(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    terms, values = (prod(shapes[t]) for t in (layer.operator.inputs[0], layer.operator.output))
    # The compiler's code for a single term is another one.
    return [
        Call(
            "nn_reduce", {"single values" if terms == values else "values": values, "terms": terms}
        )
    ]


def _pair(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    """ADD, MUL and PRELU of two tensors, or of one and a constant for each channel."""
    operator, result = layer.operator, shapes[layer.operator.output]
    inputs = [shapes[tensor] for tensor in operator.inputs]
    inputs += [(constant.values,) for constant in operator.constants]
    steps = []
    for shape in inputs:
        whole = (1,) * (len(result) - len(shape)) + tuple(shape)
        steps.append([0 if n == 1 else s for n, s in zip(whole, strides(whole), strict=True)])
    counts, _ = merged(result, steps, MOST_PAIRED, operator.kind)
    values = prod(result)
    return [Call(f"nn_{operator.kind.lower()}", {"rows": values // counts[0], "values": values})]


def _copy(
    shape: Sequence[int], source: Sequence[int], target: Sequence[int], fill: int = 0
) -> Call:
    """The call of nn_copy that moves an array of a shape between places with these steps."""
    counts, (sources, targets) = merged(shape, [source, target], MOST_COPIED + 1, "copy")
    block = 1
    if counts[0] == 1 or (sources[0], targets[0]) == (1, 1):
        block, counts = counts[0], counts[1:]
    blocks = prod(counts)
    loops: Counts = {"rows": blocks // counts[0], "filled bytes": fill}
    if block == 1:
        loops["single bytes"] = blocks
    else:
        # Bytes that are no whole words are copied one by one, and so may be the words beside them.
        words = block // 4 if block % 4 == 0 else 0
        loops |= {"blocks": blocks, "words": blocks * words}
        loops["bytes beside words"] = blocks * (block - 4 * words)
    return Call("nn_copy", loops)


def _concatenation(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    result = strides(shapes[layer.operator.output])
    inputs = [shapes[tensor] for tensor in layer.operator.inputs]
    return [_copy(shape, strides(shape), result) for shape in inputs]


def _padding(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    return [_copy(image, strides(image), strides(result), prod(result))]


def _slice(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    every = (layer.operator.constants[2].content or ())[1:]
    source = [step * n for step, n in zip(strides(image), every, strict=True)]
    return [_copy(result, source, strides(result))]


def _transposition(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
    image, result = shapes[layer.operator.inputs[0]], shapes[layer.operator.output]
    order = (layer.operator.constants[0].content or ())[1:]
    steps = strides(image)
    return [_copy(result, [steps[axis - 1] for axis in order], strides(result))]


def _values(kernel: str) -> Callable[[Sequence[Shape], _Layer], list[Call]]:
    """Calls of a kernel that does the same for each value of its output."""

    def of(shapes: Sequence[Shape], layer: _Layer) -> list[Call]:
        result = shapes[layer.operator.output]
        return [Call(kernel, {"pixels": prod(result[:-1]), "values": prod(result)})]

    return of


_KERNELS: dict[str, Callable[[Sequence[Shape], _Layer], list[Call]]] = {
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
    "PRELU": _pair,
    "CONCATENATION": _concatenation,
    "PAD": _padding,
    "STRIDED_SLICE": _slice,
    "TRANSPOSE": _transposition,
    "GATHER": _values("nn_gather"),
    "RESIZE_BILINEAR": _values("nn_resize_bilinear"),
    _TABLE: _values("nn_table"),
}

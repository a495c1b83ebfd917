"""Makes calls of kernels from the other operators: two inputs, reductions, moves, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from efficientnet_elite.device.dimensions import MOST_COPIED, MOST_PAIRED, merged, strides
from efficientnet_elite.errors import UserError

from . import arithmetic as exact
from .graph import Graph, Operator
from .simplify import activation_range, sum_factors
from .steps import STEPS, Array, Field, Step, bits, operand


def _copy(
    operator: Operator,
    source: int | Array,
    output: int,
    shape: Sequence[int],
    steps: tuple[Sequence[int], Sequence[int]],
    starts: tuple[int, int] = (0, 0),
    fill: tuple[int, int] = (0, 0),
) -> Step:
    """A step that moves an array of a shape, see ``nn_copy_layer``."""
    # The innermost block comes first if both arrays have its bytes side by side.
    counts, (source_steps, target_steps) = merged(shape, steps, MOST_COPIED + 1, operator.kind)
    block = 1
    if counts[0] == 1 or (source_steps[0], target_steps[0]) == (1, 1):
        block = counts[0]
        counts, source_steps, target_steps = counts[1:], source_steps[1:], target_steps[1:]
    elif counts[-1] != 1:
        raise UserError(f"{operator.kind} of the shape {tuple(shape)} has too many dimensions")
    fields: dict[str, Field] = {
        "fill_bytes": fill[0],
        "fill": fill[1],
        "block": block,
        "from_start": starts[0],
        "to_start": starts[1],
        "count": counts[:MOST_COPIED],
        "from": source_steps[:MOST_COPIED],
        "to": target_steps[:MOST_COPIED],
    }
    return Step("nn_copy", "nn_copy_layer", fields, (source,), output)


def _constant(graph: Graph, operator: Operator, position: int) -> np.ndarray:
    """The value of an input that must be a constant."""
    values = graph.tensors[operator.inputs[position]].values
    if values is None:
        raise UserError(f"input {position} of {operator.kind} is not a constant")
    return values


def _same_scale(graph: Graph, operator: Operator, *indices: int) -> None:
    """UserError unless tensors have the scale and zero point of the output, as TFLM demands."""
    output = graph.tensors[operator.outputs[0]]
    for index in indices:
        tensor = graph.tensors[index]
        if (tensor.scale, tensor.zero) != (output.scale, output.zero):
            raise UserError(f"{operator.kind} has inputs and outputs of different scales")


def pair(graph: Graph, operator: Operator) -> list[Step]:
    """ADD, SUB, MUL, PRELU, MAXIMUM and MINIMUM, with broadcasting."""
    one, other = (graph.tensors[index] for index in operator.inputs)
    target, kind = operator.outputs[0], operator.kind
    output = graph.tensors[target]
    rank = len(output.shape)
    steps = []
    for tensor in (one, other):
        shape = (1,) * (rank - len(tensor.shape)) + tensor.shape
        steps.append([0 if n == 1 else s for n, s in zip(shape, strides(shape), strict=True)])
    counts, (a, b) = merged(output.shape, steps, MOST_PAIRED, kind)
    least, greatest = activation_range(operator, output)
    factors = [(0, 0)] * 3
    if kind in ("ADD", "SUB"):
        factors = sum_factors(one, other, output, kind)
    elif kind == "MUL":
        m, shift = exact.quantized_multiplier(one.scale * other.scale / output.scale)
        factors[2] = m, bits(shift, m)
    elif kind == "PRELU":
        factors[0] = exact.quantized_multiplier(one.scale / output.scale)
        factors[1] = exact.quantized_multiplier(one.scale * other.scale / output.scale)
    else:
        _same_scale(graph, operator, *operator.inputs)
    fields: dict[str, Field] = {
        "count": counts, "a": a, "b": b,
        "a_zero": one.zero, "b_zero": other.zero, "out_zero": output.zero,
        "a_multiplier": factors[0][0], "a_shift": factors[0][1],
        "b_multiplier": factors[1][0], "b_shift": factors[1][1],
        "out_multiplier": factors[2][0], "out_shift": factors[2][1],
        "least": least, "greatest": greatest,
    }  # fmt: skip
    inputs = tuple(operand(graph, index) for index in operator.inputs)
    # An input that is read once, in the order of the output, may be overwritten.
    overlaps = {
        index: 0
        for index, tensor in zip(operator.inputs, (one, other), strict=True)
        if tensor.values is None and tensor.size == output.size
    }
    name = f"nn_{kind.lower()}"
    return [Step(name, "nn_binary_layer", fields, inputs, target, overlaps=overlaps)]


def reduction(graph: Graph, operator: Operator) -> list[Step]:
    """MEAN, SUM and REDUCE_MAX over adjacent dimensions."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    rank = len(tensor.shape)
    axes = sorted({int(axis) % rank for axis in _constant(graph, operator, 1).reshape(-1)})
    axes = [axis for axis in axes if tensor.shape[axis] > 1] or axes[:1]
    between = [axis for axis in range(axes[0], axes[-1] + 1) if tensor.shape[axis] > 1]
    if between not in (axes, []):
        raise UserError(f"{operator.kind} over the dimensions {axes} of {tensor.shape}")
    outer, count = math.prod(tensor.shape[: axes[0]]), math.prod(tensor.shape[i] for i in axes)
    multiplier, shift = exact.quantized_multiplier(tensor.scale / output.scale)
    if operator.kind == "MEAN":
        # TFLM divides the multiplier by the count, with as many more bits as fit.
        more = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << more) // count, shift - more
    elif operator.kind == "REDUCE_MAX":
        _same_scale(graph, operator, operator.inputs[0])
    fields: dict[str, Field] = {
        "outer": outer, "count": count, "inner": tensor.size // outer // count,
        "in_zero": tensor.zero, "out_zero": output.zero,
        "multiplier": multiplier, "shift": shift,
    }  # fmt: skip
    name = "nn_reduce_max" if operator.kind == "REDUCE_MAX" else "nn_reduce"
    return [Step(name, "nn_reduce_layer", fields, operator.inputs[:1], operator.outputs[0])]


def padding(graph: Graph, operator: Operator) -> list[Step]:
    """PAD and PADV2."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    _same_scale(graph, operator, operator.inputs[0])
    before = _constant(graph, operator, 1)[:, 0].tolist()
    fill = output.zero
    if operator.kind == "PADV2":
        fill = int(_constant(graph, operator, 2).reshape(-1)[0])
    to = strides(output.shape)
    start = sum(n * step for n, step in zip(before, to, strict=True))
    steps = strides(tensor.shape), to
    source = operand(graph, operator.inputs[0])
    target = operator.outputs[0]
    return [_copy(operator, source, target, tensor.shape, steps, (0, start), (output.size, fill))]


def concatenation(graph: Graph, operator: Operator) -> list[Step]:
    """CONCATENATION and PACK: one move for each input."""
    output = graph.tensors[operator.outputs[0]]
    _same_scale(graph, operator, *operator.inputs)
    axis = operator.options["axis"] % len(output.shape)
    to = strides(output.shape)
    copies, start = [], 0
    for index in operator.inputs:
        shape = graph.tensors[index].shape
        if operator.kind == "PACK":
            shape = (*shape[:axis], 1, *shape[axis:])
        source = operand(graph, index)
        steps = strides(shape), to
        copies.append(_copy(operator, source, operator.outputs[0], shape, steps, (0, start)))
        start += shape[axis] * to[axis]
    return copies


def transposition(graph: Graph, operator: Operator) -> list[Step]:
    """TRANSPOSE."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    order = _constant(graph, operator, 1).reshape(-1).tolist()
    steps = strides(tensor.shape)
    moved = [steps[axis] for axis in order], strides(output.shape)
    return [_copy(operator, operator.inputs[0], operator.outputs[0], output.shape, moved)]


def _part(
    graph: Graph, operator: Operator, source: int, target: int, begin: Sequence[int],
    by: Sequence[int] | None = None, shape: Sequence[int] | None = None,
) -> Step:  # fmt: skip
    """A step that takes out every so many elements along each dimension from certain ones on."""
    steps = strides(graph.tensors[source].shape)
    start = sum(n * step for n, step in zip(begin, steps, strict=True))
    out_shape = graph.tensors[target].shape if shape is None else shape
    taken = [step * n for step, n in zip(steps, by or [1] * len(steps), strict=True)]
    return _copy(operator, source, target, out_shape, (taken, strides(out_shape)), (start, 0))


def slicing(graph: Graph, operator: Operator) -> list[Step]:
    """SLICE."""
    begin = _constant(graph, operator, 1).reshape(-1).tolist()
    return [_part(graph, operator, operator.inputs[0], operator.outputs[0], begin)]


def strided_slicing(graph: Graph, operator: Operator) -> list[Step]:
    """STRIDED_SLICE with positive strides."""
    shape, options = graph.tensors[operator.inputs[0]].shape, operator.options
    begin, end, by = (_constant(graph, operator, i).reshape(-1).tolist() for i in (1, 2, 3))
    if options["ellipsisMask"] or options["newAxisMask"] or min(by) < 1 or len(begin) != len(shape):
        raise UserError("STRIDED_SLICE with new dimensions, an ellipsis or negative strides")
    starts, counts = [], []
    for axis, size in enumerate(shape):
        first = 0 if options["beginMask"] >> axis & 1 else begin[axis]
        last = size if options["endMask"] >> axis & 1 else end[axis]
        first, last = (n + size if n < 0 else n for n in (first, last))
        first, last = max(0, min(first, size)), max(0, min(last, size))
        if options["shrinkAxisMask"] >> axis & 1:
            last = first + 1
        starts.append(first)
        counts.append(-(-(last - first) // by[axis]))
    return [_part(graph, operator, operator.inputs[0], operator.outputs[0], starts, by, counts)]


def splitting(graph: Graph, operator: Operator) -> list[Step]:
    """SPLIT, SPLIT_V and UNPACK: one move for each output."""
    position = 1 if operator.kind == "SPLIT" else 0
    source = operator.inputs[position]
    shape = graph.tensors[source].shape
    if operator.kind == "UNPACK":
        axis = operator.options["axis"] % len(shape)
    else:
        axis_input = 0 if operator.kind == "SPLIT" else 2
        axis = int(_constant(graph, operator, axis_input).reshape(-1)[0]) % len(shape)
    parts, start = [], 0
    for target in operator.outputs:
        part = list(shape)
        part[axis] = 1 if operator.kind == "UNPACK" else graph.tensors[target].shape[axis]
        begin = [start if i == axis else 0 for i in range(len(shape))]
        parts.append(_part(graph, operator, source, target, begin, shape=part))
        start += part[axis]
    return parts


def gathering(graph: Graph, operator: Operator) -> list[Step]:
    """GATHER with constant indices."""
    tensor = graph.tensors[operator.inputs[0]]
    if operator.options.get("batchDims", 0):
        raise UserError("GATHER with batch dimensions")
    axis = operator.options["axis"] % len(tensor.shape)
    indices = _constant(graph, operator, 1).reshape(-1)
    fields: dict[str, Field] = {
        "outer": math.prod(tensor.shape[:axis]),
        "axis": tensor.shape[axis],
        "inner": math.prod(tensor.shape[axis + 1 :]),
        "count": len(indices),
        "indices": Array("int32_t", indices.astype(np.int32)),
    }
    inputs = operator.inputs[:1]
    return [Step("nn_gather", "nn_gather_layer", fields, inputs, operator.outputs[0])]


def bilinear(graph: Graph, operator: Operator) -> list[Step]:
    """RESIZE_BILINEAR."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    fields: dict[str, Field] = {
        "in_h": tensor.shape[1], "in_w": tensor.shape[2],
        "out_h": output.shape[1], "out_w": output.shape[2], "channels": output.shape[3],
        "align_corners": int(operator.options["alignCorners"]),
        "half_pixel_centers": int(operator.options["halfPixelCenters"]),
    }  # fmt: skip
    inputs = operator.inputs[:1]
    return [Step("nn_resize_bilinear", "nn_resize_layer", fields, inputs, operator.outputs[0])]


def nearest(graph: Graph, operator: Operator) -> list[Step]:
    """RESIZE_NEAREST_NEIGHBOR."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    f = np.float32
    align = bool(operator.options["alignCorners"])
    half = f(0.5 if operator.options["halfPixelCenters"] else 0)
    chosen = []
    for size, count in zip(tensor.shape[1:3], output.shape[1:3], strict=True):
        scale = f(size - 1) / f(count - 1) if align and count > 1 else f(size) / f(count)
        positions = (np.arange(count, dtype=f) + half) * scale
        rounded = np.floor(positions + f(0.5)) if align else np.floor(positions)
        chosen.append(np.clip(rounded.astype(np.int32), 0, size - 1))
    fields: dict[str, Field] = {
        "in_w": tensor.shape[2], "out_h": output.shape[1], "out_w": output.shape[2],
        "channels": output.shape[3],
        "rows": Array("int32_t", chosen[0]), "columns": Array("int32_t", chosen[1]),
    }  # fmt: skip
    inputs = operator.inputs[:1]
    return [Step("nn_resize_nearest", "nn_nearest_layer", fields, inputs, operator.outputs[0])]


def softmax(graph: Graph, operator: Operator) -> list[Step]:
    """SOFTMAX from int8 to int8."""
    tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    if (output.scale, output.zero) != (1 / 256, -128):
        raise UserError("the output of SOFTMAX has another scale than 1/256")
    real = min(operator.options["beta"] * tensor.scale * (1 << 26), float((1 << 31) - 1))
    multiplier, shift = exact.quantized_multiplier(real)
    least = -exact.input_radius(5, shift)
    exps = [
        exact.exp_of_negative(exact.scaled(-below, multiplier, shift), 5) if -below >= least else 0
        for below in range(256)
    ]
    depth = tensor.shape[-1]
    fields: dict[str, Field] = {
        "rows": tensor.size // depth,
        "depth": depth,
        "exps": Array("int32_t", np.array(exps, np.int64)),
    }
    inputs = operator.inputs[:1]
    target = operator.outputs[0]
    return [Step("nn_softmax", "nn_softmax_layer", fields, inputs, target, overlaps={inputs[0]: 0})]


_Maker = Callable[[Graph, Operator], list[Step]]
# By the name of an operator the function that makes steps of it.
MAKERS: dict[str, _Maker] = {
    **STEPS,
    **dict.fromkeys(("ADD", "SUB", "MUL", "PRELU", "MAXIMUM", "MINIMUM"), pair),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), reduction),
    **dict.fromkeys(("PAD", "PADV2"), padding),
    **dict.fromkeys(("CONCATENATION", "PACK"), concatenation),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "UNPACK"), splitting),
    "TRANSPOSE": transposition,
    "SLICE": slicing,
    "STRIDED_SLICE": strided_slicing,
    "GATHER": gathering,
    "RESIZE_BILINEAR": bilinear,
    "RESIZE_NEAREST_NEIGHBOR": nearest,
    "SOFTMAX": softmax,
}

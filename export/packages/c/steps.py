"""Makes calls of kernels from the operators of a simplified graph: convolutions and pools.

Further operators are in `more_steps`. A `Step` has the fields of the C structure
that its kernel takes, and says how far its output may lie over its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from efficientnet_elite.errors import UserError

from . import arithmetic as exact
from .graph import Graph, Operator, Tensor
from .simplify import TABLE, activation_range


@dataclass(frozen=True, eq=False)
class Array:
    """A constant array of the generated code.

    Attributes:
      type: of its elements in C: ``int8_t``, ``int32_t`` or ``nn_channel``.
      values: its content; of ``nn_channel`` (channels, 3).
    """

    type: str
    values: np.ndarray

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.values.size * (1 if self.type == "int8_t" else 4)


Field = int | Sequence[int] | Array | None


@dataclass(frozen=True)
class Step:
    """A call of a kernel.

    Attributes:
      kernel: name of the C function.
      layer: name of the C structure of its first argument.
      fields: the members of the structure.
      inputs: tensors that it reads, or constant arrays.
      output: the tensor that it writes.
      scratch: bytes of scratch memory, 0 if the kernel takes none.
      overlaps: input to the number of bytes by which the output must begin before it at least,
        where the output may overlap with the input.
    """

    kernel: str
    layer: str
    fields: Mapping[str, Field]
    inputs: tuple[int | Array, ...]
    output: int
    scratch: int = 0
    overlaps: Mapping[int, int] = field(default_factory=dict)


def operand(graph: Graph, index: int) -> int | Array:
    """An input of a kernel: the tensor's index, or its content if it is a constant."""
    values = graph.tensors[index].values
    return index if values is None else Array("int8_t", values)


@dataclass(frozen=True)
class _Window:
    """Where a kernel window lies for each position of the output along one axis."""

    stride: int
    dilation: int
    kernel: int
    before: int  # padding

    def first(self, position: np.ndarray) -> np.ndarray:
        """The first input position inside of the image that each output position reads."""
        start = position * self.stride - self.before
        steps = -(-np.maximum(-start, 0) // self.dilation)
        return start + steps * self.dilation


def _window(options: dict, axis: str, kernel: int, size: int, out: int) -> _Window:
    stride, dilation = options[f"stride{axis}"], options.get(f"dilation{axis}Factor", 1)
    before = 0
    if options["padding"] == 0:  # SAME
        before = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size) // 2
    return _Window(stride, dilation, kernel, before)


def _image(tensor: Tensor, operator: Operator) -> tuple[int, int, int]:
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise UserError(f"{operator.kind} reads a tensor of the shape {tensor.shape}")
    return tensor.shape[1:]


def overlap(reads: np.ndarray, written: np.ndarray, *, buffered: bool) -> int:
    """By how many bytes the output must begin before the input so that nothing is lost.

    Args:
      reads: for each stage of the kernel the lowest address of the input that it reads.
      written: for each stage the number of bytes of the output that are written at its end.
      buffered: whether a stage reads all that it needs before it writes.
    """
    later = np.minimum.accumulate(reads[::-1])[::-1]
    if buffered:
        later, written = later[1:], written[:-1]
    return int((written - later).max()) if len(later) else -(1 << 30)


def _reads(
    rows: _Window, columns: _Window, in_w: int, out: tuple[int, int], depth: int
) -> np.ndarray:
    """The lowest address that each output position reads."""
    y = rows.first(np.arange(out[0]))[:, None]
    x = columns.first(np.arange(out[1]))[None]
    return ((y * in_w + x) * depth).reshape(-1)


def channels(
    operator: Operator, image: Tensor, weights: Tensor, bias: Tensor | None, output: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The multiplier and bits (see ``nn_channel``) of each output channel, and its bias."""
    if weights.zero != 0:
        raise UserError(f"the weights {weights.name!r} have a zero point other than 0")
    if weights.type != "INT8" or (bias is not None and bias.type != "INT32"):
        raise UserError(f"the weights {weights.name!r} are not int8 with an int32 bias")
    count = output.shape[-1]
    if operator.kind == "FULLY_CONNECTED" and len(weights.scales) == 1:
        # TFLM multiplies these two in float32.
        reals = [float(np.float32(image.scale) * np.float32(weights.scale)) / output.scale]
    else:
        reals = [image.scale * scale / output.scale for scale in weights.scales]
    reals = reals * count if len(reals) == 1 else reals
    factors = np.array([(m, bits(s, m)) for m, s in map(exact.quantized_multiplier, reals)])
    start = np.zeros(count, np.int64) if bias is None else bias.content.astype(np.int64)
    return factors, start


def bits(shift: int, multiplier: int) -> int:
    """A shift in the form of ``nn_channel.bits``."""
    if multiplier == 0:
        return 0
    return -shift - 2 if 2 <= -shift <= 23 else shift - 64


def _channel_array(factors: np.ndarray, bias: np.ndarray) -> Array:
    wrapped = [exact.wrapped(value) for value in bias.tolist()]
    return Array("nn_channel", np.column_stack([wrapped, factors]).astype(np.int64))


def _layer(
    graph: Graph, operator: Operator, kernel: tuple[int, int], windows: tuple[_Window, _Window]
) -> dict[str, Field]:
    image, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.result]
    least, greatest = activation_range(operator, output)
    (in_h, in_w, in_c), (out_h, out_w, out_c) = image.shape[-3:], output.shape[-3:]
    rows, columns = windows
    return {
        "in_h": in_h, "in_w": in_w, "in_c": in_c, "out_h": out_h, "out_w": out_w, "out_c": out_c,
        "kernel_h": kernel[0], "kernel_w": kernel[1],
        "stride_h": rows.stride, "stride_w": columns.stride,
        "dilation_h": rows.dilation, "dilation_w": columns.dilation,
        "pad_top": rows.before, "pad_left": columns.before, "groups": 1,
        "in_zero": image.zero, "out_zero": output.zero, "least": least, "greatest": greatest,
    }  # fmt: skip


def _padded_rows(weights: np.ndarray) -> np.ndarray:
    """Weights (channels, n), padded with zeros to a multiple of 4 columns."""
    return np.pad(weights, ((0, 0), (0, -weights.shape[1] % 4)))


def _table(operator: Operator) -> Array | None:
    return None if operator.table is None else Array("int8_t", operator.table)


def _constant(graph: Graph, operator: Operator, position: int) -> Tensor:
    """An input of an operator that must be a constant."""
    tensor = graph.tensors[operator.inputs[position]]
    if tensor.values is None:
        raise UserError(f"{operator.kind} has weights that another operator computes")
    return tensor


def convolution(graph: Graph, operator: Operator) -> list[Step]:
    """CONV_2D, also with groups."""
    image, weights = graph.tensors[operator.inputs[0]], _constant(graph, operator, 1)
    groups = _image(image, operator)[2] // weights.shape[3]
    return _convolution(graph, operator, weights.content, groups)


def _convolution(graph: Graph, operator: Operator, values: np.ndarray, groups: int) -> list[Step]:
    image, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.result]
    (in_h, in_w, in_c), (out_h, out_w, out_c) = _image(image, operator), output.shape[-3:]
    kernel = (values.shape[1], values.shape[2])
    rows = _window(operator.options, "H", kernel[0], in_h, out_h)
    columns = _window(operator.options, "W", kernel[1], in_w, out_w)
    flat = values.reshape(out_c, -1)
    pairs = np.arange(0, out_h * out_w, 2)
    reads = np.minimum.reduceat(_reads(rows, columns, in_w, (out_h, out_w), in_c), pairs)
    written = np.minimum(pairs + 2, out_h * out_w) * out_c
    fields = _layer(graph, operator, kernel, (rows, columns))
    return [
        _weighted(
            graph,
            operator,
            "nn_conv",
            {**fields, "groups": groups},
            _padded_rows(flat),
            flat.sum(1, dtype=np.int64),
            scratch=4 * (flat.shape[1] + -flat.shape[1] % 4),
            overlaps={operator.inputs[0]: overlap(reads, written, buffered=groups == 1)},
        )
    ]


def _weighted(
    graph: Graph,
    operator: Operator,
    kernel: str,
    fields: dict[str, Field],
    weights: np.ndarray,
    sums: np.ndarray,
    *,
    scratch: int = 0,
    overlaps: Mapping[int, int] | None = None,
    positions: tuple[int, int, int] = (0, 1, 2),
) -> Step:
    """A step of a kernel that takes an ``nn_conv_layer``.

    Args:
      graph, operator, kernel, fields: see `Step`.
      weights: in the order of the kernel.
      sums: for each output channel the sum of its weights, by which the input's zero point shifts
        the bias; zeros if the kernel subtracts the zero point itself.
      scratch, overlaps: see `Step`.
      positions: of the image, the weights and the bias among the operator's inputs.
    """
    image, filters = (graph.tensors[operator.inputs[i]] for i in positions[:2])
    at = operator.inputs[positions[2]] if positions[2] < len(operator.inputs) else -1
    bias = graph.tensors[at] if at >= 0 else None
    output = graph.tensors[operator.result]
    factors, start = channels(operator, image, filters, bias, output)
    layer: dict[str, Field] = {
        **fields,
        "weights": Array("int8_t", weights),
        "channels": _channel_array(factors, start - image.zero * sums),
        "table": _table(operator),
    }
    read = operator.inputs[positions[0]]
    return Step(
        kernel, "nn_conv_layer", layer, (read,), operator.outputs[0], scratch, overlaps or {}
    )


def depthwise(graph: Graph, operator: Operator) -> list[Step]:
    """DEPTHWISE_CONV_2D; with several output channels an input channel, as CONV_2D with groups.

    So are weights of -128, which the vectors of ``nn_depthwise`` do not compute. TFLite's converter
    writes none.
    """
    image, weights = graph.tensors[operator.inputs[0]], _constant(graph, operator, 1)
    output = graph.tensors[operator.result]
    (in_h, in_w, in_c), (out_h, out_w, out_c) = _image(image, operator), output.shape[-3:]
    if out_c != in_c or weights.content.min() == -128:
        return _convolution(graph, operator, weights.content.transpose(3, 1, 2, 0), in_c)
    kernel = (weights.shape[1], weights.shape[2])
    rows = _window(operator.options, "H", kernel[0], in_h, out_h)
    columns = _window(operator.options, "W", kernel[1], in_w, out_w)
    flat = weights.content.reshape(-1, in_c)
    reads = _reads(rows, columns, in_w, (out_h, out_w), in_c)
    written = np.arange(1, out_h * out_w + 1) * out_c
    return [
        _weighted(
            graph,
            operator,
            "nn_depthwise",
            _layer(graph, operator, kernel, (rows, columns)),
            flat,
            flat.sum(0, dtype=np.int64),
            scratch=in_c + 8 * len(flat),  # pointers have 8 bytes on a 64-bit machine
            overlaps={operator.inputs[0]: overlap(reads, written, buffered=False)},
        )
    ]


def fully_connected(graph: Graph, operator: Operator) -> list[Step]:
    """FULLY_CONNECTED: a convolution of single pixels."""
    image, weights = graph.tensors[operator.inputs[0]], _constant(graph, operator, 1)
    output = graph.tensors[operator.result]
    out_c, in_c = weights.shape
    if operator.options.get("weightsFormat", 0):
        raise UserError("FULLY_CONNECTED has its weights in a shuffled order")
    rows = image.size // in_c
    least, greatest = activation_range(operator, output)
    fields: dict[str, Field] = {
        "in_h": 1, "in_w": rows, "in_c": in_c, "out_h": 1, "out_w": rows, "out_c": out_c,
        "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "dilation_h": 1,
        "dilation_w": 1, "pad_top": 0, "pad_left": 0, "groups": 1,
        "in_zero": image.zero, "out_zero": output.zero, "least": least, "greatest": greatest,
    }  # fmt: skip
    pairs = np.arange(0, rows, 2)
    before = overlap(pairs * in_c, np.minimum(pairs + 2, rows) * out_c, buffered=True)
    return [
        _weighted(
            graph,
            operator,
            "nn_conv",
            fields,
            _padded_rows(weights.content),
            weights.content.sum(1, dtype=np.int64),
            scratch=4 * (in_c + -in_c % 4),
            overlaps={operator.inputs[0]: before},
        )
    ]


def transposed(graph: Graph, operator: Operator) -> list[Step]:
    """TRANSPOSE_CONV: its inputs are the output's shape, the weights, the image and the bias."""
    weights, image = _constant(graph, operator, 1), graph.tensors[operator.inputs[2]]
    output = graph.tensors[operator.result]
    (in_h, in_w, _), (out_h, out_w, out_c) = _image(image, operator), output.shape[-3:]
    kernel = (weights.shape[1], weights.shape[2])
    # The padding is that of the convolution from the output to the input.
    rows = _window(operator.options, "H", kernel[0], out_h, in_h)
    columns = _window(operator.options, "W", kernel[1], out_w, in_w)
    reading = replace(operator, inputs=operator.inputs[2:3])
    return [
        _weighted(
            graph,
            operator,
            "nn_transpose_conv",
            _layer(graph, reading, kernel, (rows, columns)),
            weights.content,
            np.zeros(out_c, np.int64),
            positions=(2, 1, 3),
        )
    ]


def pool(graph: Graph, operator: Operator) -> list[Step]:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    image, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.result]
    (in_h, in_w, depth), (out_h, out_w, _) = _image(image, operator), output.shape[-3:]
    options = operator.options
    kernel = options["filterHeight"], options["filterWidth"]
    rows = _window(options, "H", kernel[0], in_h, out_h)
    columns = _window(options, "W", kernel[1], in_w, out_w)
    least, greatest = activation_range(operator, output)
    fields: dict[str, Field] = {
        "in_h": in_h, "in_w": in_w, "out_h": out_h, "out_w": out_w, "channels": depth,
        "kernel_h": kernel[0], "kernel_w": kernel[1],
        "stride_h": rows.stride, "stride_w": columns.stride,
        "pad_top": rows.before, "pad_left": columns.before, "least": least, "greatest": greatest,
    }  # fmt: skip
    name = "nn_average_pool" if operator.kind == "AVERAGE_POOL_2D" else "nn_max_pool"
    reads = _reads(rows, columns, in_w, (out_h, out_w), depth)
    before = overlap(reads, np.arange(1, out_h * out_w + 1) * depth, buffered=False)
    inputs = operator.inputs[:1]
    return [
        Step(
            name, "nn_pool_layer", fields, inputs, operator.outputs[0], overlaps={inputs[0]: before}
        )
    ]


def table(graph: Graph, operator: Operator) -> list[Step]:
    """A table on its own."""
    inputs, (output,) = operator.inputs, operator.outputs
    fields: dict[str, Field] = {"size": graph.tensors[output].size, "table": _table(operator)}
    return [Step("nn_table", "nn_table_layer", fields, inputs, output, overlaps={inputs[0]: 0})]


STEPS = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transposed,
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
    TABLE: table,
}

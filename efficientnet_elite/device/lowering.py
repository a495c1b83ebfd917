"""A network as its int8 TFLite file runs it: operators in order, activation tensors and constants.

`lower` predicts what the TFLite converter makes of a graph, without converting it. The converter
folds batch normalisation into the convolution before it, fuses ReLU and ReLU6 into the operator
before them, merges equal operations and drops operations that only training needs. It turns swish
into the operators LOGISTIC and MUL. The operators are in the order of `ordering`. Every activation
tensor is int8, so that one element takes one byte, and the batch size is 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import singledispatch
from math import prod
from typing import Any

from efficientnet_elite.device.ordering import converter_order
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.ops import Op, Shape


@dataclass(frozen=True)
class Constant:
    """A constant tensor in the file.

    Attributes:
      values: number of values.
      value_bytes: bytes of each value: 1 for weights, 4 for biases, axes and shapes.
      scales: number of quantization scales: one for each channel with per-channel quantization, 0
        for plain integers.
      content: the values, if they are known. The file stores equal constants once.
      zeros: whether all values are zero, as in a bias that nothing was folded into. The file stores
        the values of such constants of equal size once, but quantization parameters for each.
    """

    values: int
    value_bytes: int = 1
    scales: int = 1
    content: tuple[int, ...] | None = None
    zeros: bool = False

    @property
    def bytes(self) -> int:
        """Size of the values in bytes."""
        return self.values * self.value_bytes


Pair = tuple[int, int]  # of the height and the width


@dataclass(frozen=True)
class Window:
    """Which positions of a map an operator reads for each position of its output.

    Position i of the output reads ``kernel`` positions of the input, ``dilation`` apart, from
    i * stride - before on; those outside of the input are padding.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)

    @classmethod
    def same(
        cls, image: Shape, result: Shape, kernel: Pair, stride: Pair, dilation: Pair
    ) -> Window:
        """The window of ``same`` padding, from the shapes of input and output."""
        sizes = zip(image[:2], result[:2], kernel, stride, dilation, strict=True)
        height, width = (same_padding(*axis)[0] for axis in sizes)
        return cls(kernel, stride, dilation, (height, width))


def same_padding(size: int, out: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Positions before and after an axis that TFLite's ``same`` padding adds."""
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


POINT = Window()  # of operators that work on single positions


@dataclass(frozen=True)
class Operator:
    """An operator of the file.

    Attributes:
      kind: its name in TFLite, such as ``CONV_2D``.
      inputs: indices of the activation tensors that it reads.
      output: index of the activation tensor that it writes.
      constants: the constant tensors that it reads.
      scratch: bytes of scratch memory that TFLM's reference kernel uses while it runs.
      fused: name of the activation that is fused into it; None for no activation.
      channels: number of output channels with a requantization factor of their own.
      macs: multiply-accumulates of one inference.
      window: which part of its inputs it reads for a part of its output; None if it must read all.
      whole: whether it must know all of its input although it has a window: an average over borders
        counts the positions inside.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    constants: tuple[Constant, ...] = ()
    scratch: int = 0
    fused: str | None = None
    channels: int = 0
    macs: int = 0
    window: Window | None = None
    whole: bool = False


@dataclass
class Program:
    """The operators and activation tensors of a network.

    Tensor 0 is the image. The tensor that the last operator writes holds the logits.

    Attributes:
      shapes: of the activation tensors, without the batch axis.
      operators: in the order of execution.
    """

    shapes: list[Shape] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """Size of each activation tensor in bytes."""
        return [prod(shape) for shape in self.shapes]

    @property
    def constants(self) -> list[Constant]:
        """The constant tensors of the file; those with equal known content appear once."""
        every = [constant for operator in self.operators for constant in operator.constants]
        known = dict.fromkeys(constant for constant in every if constant.content is not None)
        return [*known, *(constant for constant in every if constant.content is None)]

    def constant_bytes(self) -> int:
        """Size in bytes of the values of all constants as they are stored in the file."""
        zeros = dict.fromkeys(constant for constant in self.constants if constant.zeros)
        others = [constant for constant in self.constants if not constant.zeros]
        return sum(constant.bytes for constant in [*zeros, *others])

    def operator_counts(self) -> dict[str, int]:
        """Number of operators by their names in TFLite, sorted by name."""
        return dict(sorted(Counter(operator.kind for operator in self.operators).items()))

    def add_tensor(self, shape: Shape) -> int:
        """Adds an activation tensor and returns its index."""
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def emit(
        self, kind: str, inputs: tuple[int, ...], shape: Shape, *constants: Constant, **more: Any
    ) -> int:
        """Appends an operator and returns the index of its output tensor.

        Args:
          kind: name of the operator in TFLite.
          inputs: indices of the activation tensors that it reads.
          shape: of its output.
          *constants: the constant tensors that it reads.
          **more: further attributes of the `Operator`.
        """
        output = self.add_tensor(shape)
        self.operators.append(Operator(kind, inputs, output, constants, **more))
        return output

    def change_operator(self, operator: Operator, **changes: Any) -> None:
        """Changes attributes of an operator of the program."""
        self.operators[self.operators.index(operator)] = replace(operator, **changes)


def lower(graph: Graph) -> Program:
    """The operators that the TFLite converter makes of a graph in int8.

    Raises:
      ValueError: it is not known what TFLite makes of an operation.
    """
    nodes = _converted_nodes(graph)
    reader_counts = Counter(source for node in nodes.values() for source in node.inputs)
    program = Program()
    tensors = {-1: program.add_tensor(graph.image.shape)}
    for index, node in nodes.items():
        inputs = tuple(tensors[source] for source in node.inputs)
        only_reader = all(reader_counts[source] == 1 for source in node.inputs)
        tensors[index] = _lower(node.op, _Site(program, inputs, node.shape, only_reader))
    return program


def _converted_nodes(graph: Graph) -> dict[int, Node]:
    """The nodes that the converter keeps, by index and in its order.

    It leaves out operations that only training needs. Of several equal operations without weights
    that read the same inputs, it keeps the first.
    """
    replaced_by: dict[int, int] = {-1: -1}
    first_of_equals: dict[tuple[Op, tuple[int, ...]], int] = {}
    nodes: dict[int, Node] = {}
    for index in converter_order(graph.nodes):
        node = graph.nodes[index]
        sources = tuple(replaced_by[source] for source in node.inputs)
        if isinstance(node.op, ops.Dropout | ops.DropPath):
            replaced_by[index] = sources[0]
            continue
        first = index
        if node.params == 0:
            first = first_of_equals.setdefault((node.op, sources), index)
        replaced_by[index] = first
        if first == index:
            nodes[index] = replace(node, inputs=sources)
    return nodes


# Operators into which the converter can fuse rectifying activations.
_FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MAX_POOL_2D",
           "AVERAGE_POOL_2D")  # fmt: skip


@dataclass(frozen=True)
class _Site:
    """The place of an operation in a program.

    Attributes:
      program: to which the operators are appended.
      inputs: indices of the activation tensors that the operation reads.
      shape: of its output.
      only_reader: whether no other operation reads these tensors.
    """

    program: Program
    inputs: tuple[int, ...]
    shape: Shape
    only_reader: bool

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs."""
        return tuple(self.program.shapes[tensor] for tensor in self.inputs)

    @property
    def fusable(self) -> Operator | None:
        """The operator that writes the first input, if another operation can be fused into it."""
        writers = (o for o in self.program.operators if o.output == self.inputs[0])
        writer = next(writers, None)
        return writer if writer and self.only_reader and not writer.fused else None

    def sliding(self, op: Any, padding: str = "same") -> Window:
        """The window of a convolution or pool with this padding."""
        kernel, stride, dilation = (
            value if isinstance(value, tuple) else (value, value)
            for value in (op.kernel, op.stride, getattr(op, "dilation", 1))
        )
        if padding != "same":
            return Window(kernel, stride, dilation)
        return Window.same(self.shapes[0], self.shape, kernel, stride, dilation)

    def emit(self, kind: str, *constants: Constant, **more: Any) -> int:
        """Appends an operator that reads the inputs and writes the output of the operation."""
        return self.program.emit(kind, self.inputs, self.shape, *constants, **more)


@singledispatch
def _lower(op: Op, site: _Site) -> int:
    """Appends the operators of an operation; returns the index of the tensor of its result."""
    raise ValueError(f"no TFLite operator is known for {op}")


def integers(*values: int) -> Constant:
    """A constant of plain integers, such as axes or a shape."""
    return Constant(len(values), 4, scales=0, content=values)


_SIXTH = Constant(1, content=(1, 6))  # 1 / 6


def _weights_and_bias(weights: int, channels: int, bias: bool) -> tuple[Constant, Constant]:
    """Constants of a convolution, quantized per channel.

    In the file there is always a bias; it is zero where the operation has none.
    """
    return Constant(weights, 1, channels), Constant(channels, 4, channels, zeros=not bias)


@_lower.register
def _(op: ops.Conv, site: _Site) -> int:
    weights = op.params(*site.shapes) - op.bias * op.filters
    constants = _weights_and_bias(weights, op.filters, op.bias)
    window, macs = site.sliding(op, op.padding), op.macs(*site.shapes)
    return site.emit("CONV_2D", *constants, channels=op.filters, window=window, macs=macs)


@_lower.register
def _(op: ops.DepthwiseConv, site: _Site) -> int:
    channels = site.shape[-1]
    constants = _weights_and_bias(op.params(*site.shapes), channels, False)
    more = {"channels": channels, "macs": op.macs(*site.shapes)}
    if op.stride == 1 or op.dilation == 1:
        return site.emit("DEPTHWISE_CONV_2D", *constants, window=site.sliding(op), **more)
    # With both a stride and a dilation, the convolution is computed at every position of a padded
    # map, and a slice keeps one position in each stride.
    program, sides = site.program, site.shapes[0][:2]
    reach = op.dilation * (op.kernel - 1)
    # The distance from the first to the last position that is kept, plus one.
    spans = ((-(-side // op.stride) - 1) * op.stride + 1 for side in sides)
    padded = tuple(max(span + reach, side) for span, side in zip(spans, sides, strict=True))
    borders = (after - before for after, before in zip(padded, sides, strict=True))
    pads = (part for border in borders for part in (border // 2, border - border // 2))
    x = program.emit("PAD", site.inputs, (*padded, channels), integers(0, 0, *pads, 0, 0))
    convolved = *(side - reach for side in padded), channels
    x = program.emit("DEPTHWISE_CONV_2D", (x,), convolved, *constants, **more)
    strides = integers(1, op.stride, op.stride, 1)
    zeros = integers(0, 0, 0, 0)
    return program.emit("STRIDED_SLICE", (x,), site.shape, zeros, zeros, strides)


@_lower.register
def _(op: ops.Dense, site: _Site) -> int:
    constants = _weights_and_bias(op.units * site.shapes[0][-1], op.units, op.bias)
    macs = op.macs(*site.shapes)
    return site.emit("FULLY_CONNECTED", *constants, channels=op.units, macs=macs)


@_lower.register
def _(op: ops.BatchNorm, site: _Site) -> int:
    fusable, channels = site.fusable, site.shape[-1]
    if fusable and fusable.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        weights, bias = fusable.constants
        site.program.change_operator(fusable, constants=(weights, replace(bias, zeros=False)))
        return site.inputs[0]
    scaled = site.emit("MUL", Constant(channels), window=POINT)
    return site.program.emit("ADD", (scaled,), site.shape, Constant(channels), window=POINT)


@_lower.register
def _(op: ops.Activation, site: _Site) -> int:
    program, fusable = site.program, site.fusable
    if op.kind == "hard_sigmoid":  # relu6(x + 3) / 6; a convolution adds the 3 in its bias
        shifted = site.inputs[0]
        if fusable is None or not fusable.channels:
            shifted = site.emit("ADD", Constant(1, content=(3,)), window=POINT)
            fusable = program.operators[-1]
        program.change_operator(fusable, fused="relu6")
        return program.emit("MUL", (shifted,), site.shape, _SIXTH, window=POINT)
    entry = ACTIVATIONS.get(op.kind)
    if entry is None:
        raise ValueError(f"no TFLite operator is known for {op}")
    if entry.fuses and fusable and fusable.kind in _FUSING:
        program.change_operator(fusable, fused=op.kind)
        return site.inputs[0]
    values = site.inputs
    for kind in entry.operators:
        values = (program.emit(kind, values, site.shape, window=POINT),)
    if not entry.gates:
        return values[0]
    return program.emit("MUL", (*site.inputs, *values), site.shape, window=POINT)


@_lower.register
def _(op: ops.GlobalAveragePool, site: _Site) -> int:
    if site.shapes[0] == site.shape:  # the map has a single pixel and keeps its shape
        return site.inputs[0]
    # The reference kernel sums into 32-bit integers.
    return site.emit("MEAN", integers(1, 2), scratch=4 * site.shape[-1])


@_lower.register
def _(op: ops.Multiply, site: _Site) -> int:
    return site.emit("MUL", window=POINT)


@_lower.register
def _(op: ops.Add, site: _Site) -> int:
    total, *others = site.inputs
    for term in others:
        # The converter treats a (1, 1, c) tensor as a vector that is broadcast.
        if site.shape[:2] == (1, 1):
            channels = site.shape[-1]
            term = site.program.emit("RESHAPE", (term,), (channels,), integers(channels))
        total = site.program.emit("ADD", (total, term), site.shape, window=POINT)
    return total


@_lower.register
def _(op: ops.MaxPool, site: _Site) -> int:
    return site.emit("MAX_POOL_2D", window=site.sliding(op, op.padding))


@_lower.register
def _(op: ops.AveragePool, site: _Site) -> int:
    whole = op.padding == "same"
    return site.emit("AVERAGE_POOL_2D", window=site.sliding(op, op.padding), whole=whole)


@_lower.register
def _(op: ops.Concat, site: _Site) -> int:
    return site.emit("CONCATENATION", window=POINT)


@_lower.register
def _(op: ops.Pad, site: _Site) -> int:
    window = Window(before=(op.height[0], op.width[0]))
    return site.emit("PAD", integers(0, 0, *op.height, *op.width, 0, 0), window=window)


@_lower.register
def _(op: ops.Crop, site: _Site) -> int:
    bounds = integers(0, op.top, op.left, 0), integers(0, 0, 0, 0), integers(1, 1, 1, 1)
    return site.emit("STRIDED_SLICE", *bounds)


@_lower.register
def _(op: ops.Reshape, site: _Site) -> int:
    return site.emit("RESHAPE", integers(1, *site.shape))


@_lower.register
def _(op: ops.PReLU, site: _Site) -> int:
    return site.emit("PRELU", Constant(site.shape[-1]), window=POINT)


@_lower.register
def _(op: ops.Permute, site: _Site) -> int:
    return site.emit("TRANSPOSE", integers(0, *(axis + 1 for axis in op.order)))


@_lower.register
def _(op: ops.Select, site: _Site) -> int:
    return site.emit("GATHER", integers(*op.indices))


@_lower.register
def _(op: ops.FoldChannels, site: _Site) -> int:
    program, (height, width, channels), x = site.program, site.shapes[0], site.inputs[0]
    terms = -(-channels // op.filters)
    if padding := terms * op.filters - channels:
        borders = integers(0, 0, 0, 0, 0, 0, 0, padding)
        x = program.emit("PAD", (x,), (height, width, channels + padding), borders)
    shape = height * width, terms, op.filters
    x = program.emit("RESHAPE", (x,), shape, integers(1, *shape))
    # The reference kernel sums into 32-bit integers.
    sums = height * width, op.filters
    x = program.emit("SUM", (x,), sums, integers(2), scratch=4 * prod(sums))
    return program.emit("RESHAPE", (x,), site.shape, integers(1, *site.shape))


@_lower.register
def _(op: ops.TransposeConv, site: _Site) -> int:
    # The reference kernel sums into 32-bit integers.
    constants = _weights_and_bias(op.params(*site.shapes), op.filters, False)
    shape = integers(1, *site.shape)
    more = {"scratch": 4 * prod(site.shape), "macs": op.macs(*site.shapes)}
    return site.emit("TRANSPOSE_CONV", shape, *constants, channels=op.filters, **more)


@_lower.register
def _(op: ops.Resize, site: _Site) -> int:
    return site.emit("RESIZE_BILINEAR", integers(op.height, op.width))

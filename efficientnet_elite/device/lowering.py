"""A network as the int8 TFLite file runs it: its operators in order, tensors and constants.

The converter folds batch normalisation into the convolution before it, fuses rectifiers into the
operator that makes their input, merges equal operations and drops what only training needs. swish
becomes LOGISTIC and MUL. The order is the converter's (`ordering`); every tensor is int8, batch 1.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import singledispatch
from math import prod
from typing import Any

from efficientnet_elite.device.ordering import converted
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.ops import Op, Shape


@dataclass(frozen=True)
class Constant:
    """Values in the file.

    Attributes:
      values: how many.
      width: bytes each: 1 for weights, 4 for biases, axes and shapes.
      scales: quantization scales (one a channel where quantized per channel, 0 for plain integers).
      content: the values where they are known; the file holds equal ones once.
      zeros: whether all are zero, as biases are where there is nothing to fold into them; the file
        holds those of one length once, with quantization parameters for each.
    """

    values: int
    width: int = 1
    scales: int = 1
    content: tuple[int, ...] | None = None
    zeros: bool = False

    @property
    def bytes(self) -> int:
        """Size of the values."""
        return self.values * self.width


@dataclass(frozen=True)
class Operator:
    """An operator of the file.

    Attributes:
      kind: TFLite's name for it.
      inputs: activation tensors that it reads.
      output: the activation tensor that it writes.
      constants: what it reads from the file.
      scratch: bytes that TFLM's reference kernel works in while it runs.
      fused: the activation within it, if any.
      channels: output channels that are requantized each by its own factor.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    constants: tuple[Constant, ...] = ()
    scratch: int = 0
    fused: str | None = None
    channels: int = 0


@dataclass
class Program:
    """The operators in order of execution; tensor 0 is the image, the last operator's the logits.

    Attributes:
      shapes: of the activation tensors, without the batch; an element is a byte.
      operators: in order of execution.
    """

    shapes: list[Shape] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """Bytes of each activation tensor."""
        return [prod(shape) for shape in self.shapes]

    @property
    def constants(self) -> list[Constant]:
        """All constants, operator by operator; those of known content once."""
        found = [constant for operator in self.operators for constant in operator.constants]
        known = dict.fromkeys(constant for constant in found if constant.content is not None)
        return [*known, *(constant for constant in found if constant.content is None)]

    def constant_bytes(self) -> int:
        """Bytes of all values in the file."""
        kept = dict.fromkeys(constant for constant in self.constants if constant.zeros)
        others = [constant for constant in self.constants if not constant.zeros]
        return sum(constant.bytes for constant in [*kept, *others])

    def kinds(self) -> dict[str, int]:
        """How often each operator occurs, by name."""
        return dict(sorted(Counter(operator.kind for operator in self.operators).items()))

    def tensor(self, shape: Shape) -> int:
        """A new activation tensor."""
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def emit(
        self, kind: str, inputs: tuple[int, ...], shape: Shape, *constants: Constant, **more: Any
    ) -> int:
        """Appends an operator and returns its output."""
        output = self.tensor(shape)
        self.operators.append(Operator(kind, inputs, output, constants, **more))
        return output

    def change(self, operator: Operator, **changes: Any) -> None:
        """Replaces an operator by one with other values."""
        self.operators[self.operators.index(operator)] = replace(operator, **changes)


def lower(graph: Graph) -> Program:
    """What the int8 converter makes of a graph.

    ValueError for an operation without a known form in TFLite.
    """
    nodes = _merged(graph)
    readers = Counter(source for node in nodes.values() for source in node.inputs)
    program = Program()
    values = {-1: program.tensor(graph.image.shape)}
    for index, node in nodes.items():
        inputs = tuple(values[source] for source in node.inputs)
        alone = all(readers[source] == 1 for source in node.inputs)
        values[index] = _lower(node.op, _Site(program, inputs, node.shape, alone))
    return program


def _merged(graph: Graph) -> dict[int, Node]:
    """The nodes by index, in the converter's order; what only training needs is left out.

    Of equal nodes without weights on equal inputs only the first is left.
    """
    same: dict[int, int] = {-1: -1}
    first: dict[tuple[Op, tuple[int, ...]], int] = {}
    kept: dict[int, Node] = {}
    for index in converted(graph.nodes):
        node = graph.nodes[index]
        sources = tuple(same[source] for source in node.inputs)
        if isinstance(node.op, ops.Dropout | ops.DropPath):
            same[index] = sources[0]
            continue
        found = first.setdefault((node.op, sources), index) if node.params == 0 else index
        same[index] = found
        if found == index:
            kept[index] = replace(node, inputs=sources)
    return kept


# Operators that TFLite can rectify within.
_FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MAX_POOL_2D",
           "AVERAGE_POOL_2D")  # fmt: skip


@dataclass(frozen=True)
class _Site:
    """Where an operation stands: inputs, output's shape, whether it alone reads its inputs."""

    program: Program
    inputs: tuple[int, ...]
    shape: Shape
    alone: bool

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(self.program.shapes[tensor] for tensor in self.inputs)

    @property
    def maker(self) -> Operator | None:
        """The operator that writes the first input, where something can be built into it."""
        made = (o for o in self.program.operators if o.output == self.inputs[0])
        maker = next(made, None)
        return maker if maker and self.alone and not maker.fused else None

    def emit(self, kind: str, *constants: Constant, **more: Any) -> int:
        return self.program.emit(kind, self.inputs, self.shape, *constants, **more)


@singledispatch
def _lower(op: Op, at: _Site) -> int:
    """Appends an operation's operators and returns the tensor of its result."""
    raise ValueError(f"no TFLite operator is known for {op}")


def _integers(*values: int) -> Constant:
    return Constant(len(values), 4, scales=0, content=values)


_SIXTH = Constant(1, content=(1, 6))  # 1 / 6


def _biased(weights: int, channels: int, bias: bool) -> tuple[Constant, Constant]:
    """Weights and biases, quantized per channel; there are always biases."""
    return Constant(weights, 1, channels), Constant(channels, 4, channels, zeros=not bias)


@_lower.register
def _(op: ops.Conv, at: _Site) -> int:
    weights = op.params(*at.shapes) - op.bias * op.filters
    constants = _biased(weights, op.filters, op.bias)
    return at.emit("CONV_2D", *constants, channels=op.filters)


@_lower.register
def _(op: ops.DepthwiseConv, at: _Site) -> int:
    channels = at.shape[-1]
    constants = _biased(op.params(*at.shapes), channels, False)
    if op.stride == 1 or op.dilation == 1:
        return at.emit("DEPTHWISE_CONV_2D", *constants, channels=channels)
    # Every position is computed, on an image padded for the stride, and one in four is kept.
    program, (height, width, _) = at.program, at.shapes[0]
    reach = op.dilation * (op.kernel - 1)
    sides = tuple((-(-side // op.stride) - 1) * op.stride + 1 for side in (height, width))
    padded = tuple(
        max(inner + reach, side) for inner, side in zip(sides, (height, width), strict=True)
    )
    borders = (side - own for side, own in zip(padded, (height, width), strict=True))
    pads = (half for border in borders for half in (border // 2, border - border // 2))
    x = program.emit("PAD", at.inputs, (*padded, channels), _integers(0, 0, *pads, 0, 0))
    inner = *(side - reach for side in padded), channels
    x = program.emit("DEPTHWISE_CONV_2D", (x,), inner, *constants, channels=channels)
    strides = _integers(1, op.stride, op.stride, 1)
    zeros = _integers(0, 0, 0, 0)
    return program.emit("STRIDED_SLICE", (x,), at.shape, zeros, zeros, strides)


@_lower.register
def _(op: ops.Dense, at: _Site) -> int:
    constants = _biased(op.units * at.shapes[0][-1], op.units, op.bias)
    return at.emit("FULLY_CONNECTED", *constants, channels=op.units)


@_lower.register
def _(op: ops.BatchNorm, at: _Site) -> int:
    maker, channels = at.maker, at.shape[-1]
    if maker and maker.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        weights, bias = maker.constants
        at.program.change(maker, constants=(weights, replace(bias, zeros=False)))
        return at.inputs[0]
    scaled = at.emit("MUL", Constant(channels))
    return at.program.emit("ADD", (scaled,), at.shape, Constant(channels))


@_lower.register
def _(op: ops.Activation, at: _Site) -> int:
    program, maker = at.program, at.maker
    if op.kind == "hard_sigmoid":  # relu6(x + 3) / 6; a convolution takes the 3 into its bias
        raised = at.inputs[0]
        if maker is None or not maker.channels:
            raised = at.emit("ADD", Constant(1, content=(3,)))
            maker = program.operators[-1]
        program.change(maker, fused="relu6")
        return program.emit("MUL", (raised,), at.shape, _SIXTH)
    entry = ACTIVATIONS.get(op.kind)
    if entry is None:
        raise ValueError(f"no TFLite operator is known for {op}")
    if entry.fuses and maker and maker.kind in _FUSING:
        program.change(maker, fused=op.kind)
        return at.inputs[0]
    values = at.inputs
    for kind in entry.operators:
        values = (program.emit(kind, values, at.shape),)
    return program.emit("MUL", (*at.inputs, *values), at.shape) if entry.gates else values[0]


@_lower.register
def _(op: ops.GlobalAveragePool, at: _Site) -> int:
    if at.shapes[0] == at.shape:  # of a single pixel
        return at.inputs[0]
    # The reference kernel sums into 32-bit integers.
    return at.emit("MEAN", _integers(1, 2), scratch=4 * at.shape[-1])


@_lower.register
def _(op: ops.Multiply, at: _Site) -> int:
    return at.emit("MUL")


@_lower.register
def _(op: ops.Add, at: _Site) -> int:
    total, *others = at.inputs
    for term in others:
        if at.shape[:2] == (1, 1):  # the converter takes the vector for a constant to broadcast
            channels = at.shape[-1]
            term = at.program.emit("RESHAPE", (term,), (channels,), _integers(channels))
        total = at.program.emit("ADD", (total, term), at.shape)
    return total


@_lower.register
def _(op: ops.MaxPool, at: _Site) -> int:
    return at.emit("MAX_POOL_2D")


@_lower.register
def _(op: ops.AveragePool, at: _Site) -> int:
    return at.emit("AVERAGE_POOL_2D")


@_lower.register
def _(op: ops.Concat, at: _Site) -> int:
    return at.emit("CONCATENATION")


@_lower.register
def _(op: ops.Pad, at: _Site) -> int:
    return at.emit("PAD", _integers(0, 0, *op.height, *op.width, 0, 0))


@_lower.register
def _(op: ops.Crop, at: _Site) -> int:
    bounds = _integers(0, op.top, op.left, 0), _integers(0, 0, 0, 0), _integers(1, 1, 1, 1)
    return at.emit("STRIDED_SLICE", *bounds)


@_lower.register
def _(op: ops.Reshape, at: _Site) -> int:
    return at.emit("RESHAPE", _integers(1, *at.shape))


@_lower.register
def _(op: ops.PReLU, at: _Site) -> int:
    return at.emit("PRELU", Constant(at.shape[-1]))


@_lower.register
def _(op: ops.Permute, at: _Site) -> int:
    return at.emit("TRANSPOSE", _integers(0, *(axis + 1 for axis in op.order)))


@_lower.register
def _(op: ops.Select, at: _Site) -> int:
    return at.emit("GATHER", _integers(*op.indices))


@_lower.register
def _(op: ops.FoldChannels, at: _Site) -> int:
    program, (height, width, channels), x = at.program, at.shapes[0], at.inputs[0]
    terms = -(-channels // op.filters)
    if missing := terms * op.filters - channels:
        borders = _integers(0, 0, 0, 0, 0, 0, 0, missing)
        x = program.emit("PAD", (x,), (height, width, channels + missing), borders)
    shape = height * width, terms, op.filters
    x = program.emit("RESHAPE", (x,), shape, _integers(1, *shape))
    # The reference kernel sums into 32-bit integers.
    total = height * width * op.filters
    x = program.emit("SUM", (x,), (height * width, op.filters), _integers(2), scratch=4 * total)
    return program.emit("RESHAPE", (x,), at.shape, _integers(1, *at.shape))


@_lower.register
def _(op: ops.TransposeConv, at: _Site) -> int:
    # The reference kernel sums into 32-bit integers.
    constants = _biased(op.params(*at.shapes), op.filters, False)
    shape = _integers(1, *at.shape)
    sums = 4 * prod(at.shape)
    return at.emit("TRANSPOSE_CONV", shape, *constants, scratch=sums, channels=op.filters)


@_lower.register
def _(op: ops.Resize, at: _Site) -> int:
    return at.emit("RESIZE_BILINEAR", _integers(op.height, op.width))

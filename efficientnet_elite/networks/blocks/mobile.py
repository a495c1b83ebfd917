"""Blocks that many mobile networks share.

Convolution, squeeze-excite, channel attention, separable convolution, pooling, inverted residual
block and classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class ConvBlock(Block):
    """Convolution, batch normalisation and activation: the stem and the top of most networks.

    Attributes:
      filters: output channels.
      kernel: height and width in pixels.
      stride: step in pixels.
      activation: name of the activation; None for no activation.
      padding: ``same`` or ``valid``.
      batch_norm: whether there is batch normalisation; otherwise the convolution has a bias.
    """

    channel_counts: ClassVar[tuple[str, ...] | None] = ("filters",)

    filters: int
    kernel: int = 1
    stride: int = 1
    activation: str | None = "swish"
    padding: str = "same"
    batch_norm: bool = True

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters) with ``same`` padding."""
        if not self.batch_norm:
            conv = ops.Conv(self.filters, self.kernel, self.stride, bias=True, padding=self.padding)
            x = graph.apply(f"{self.name}_conv", conv, x)
            return graph.activate(f"{self.name}_activation", x, self.activation)
        return graph.conv_bn(
            self.name,
            x,
            self.filters,
            self.kernel,
            self.stride,
            self.activation,
            padding=self.padding,
        )


@dataclass(frozen=True)
class SqueezeExcite(Block):
    """Squeeze-excite (arXiv 1709.01507): weights the channels of a feature map by a gate.

    The gate is computed from the global average of each channel by two 1x1 convolutions.

    Attributes:
      channels: output channels of the first of these convolutions.
      activation: name of the activation between them.
      gate: name of the activation after them, which gives factors from 0 to 1.
    """

    channels: int
    activation: str = "swish"
    gate: str = "sigmoid"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape (h, w, c)."""
        # With keepdims the gate has the shape (1, 1, c), and TFLite needs no RESHAPE after MEAN.
        s = graph.apply(f"{self.name}_squeeze", ops.GlobalAveragePool(keepdims=True), x)
        s = graph.apply(f"{self.name}_reduce", ops.Conv(self.channels, 1, bias=True), s)
        s = graph.apply(f"{self.name}_reduce_activation", ops.Activation(self.activation), s)
        s = graph.apply(f"{self.name}_expand", ops.Conv(x.channels, 1, bias=True), s)
        s = graph.apply(f"{self.name}_gate", ops.Activation(self.gate), s)
        return graph.apply(f"{self.name}_excite", ops.Multiply(), x, s)


@dataclass(frozen=True)
class ChannelAttention(Block):
    """Efficient channel attention (arXiv 1910.03151): weights channels by a gate.

    The gate of a channel is computed from the global averages of the neighbouring channels, by a
    convolution along the channels.

    Attributes:
      kernel: number of neighbouring channels that the convolution reads.
    """

    kernel: int

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape (h, w, c)."""
        s = graph.apply(f"{self.name}_squeeze", ops.GlobalAveragePool(keepdims=True), x)
        # The channels become the height of a map, so that a 2-D convolution can run along them.
        s = graph.apply(f"{self.name}_turn", ops.Reshape((x.channels, 1, 1)), s)
        s = graph.apply(f"{self.name}_conv", ops.Conv(1, (self.kernel, 1)), s)
        s = graph.apply(f"{self.name}_return", ops.Reshape((1, 1, x.channels)), s)
        s = graph.apply(f"{self.name}_gate", ops.Activation("sigmoid"), s)
        return graph.apply(f"{self.name}_excite", ops.Multiply(), x, s)


@dataclass(frozen=True)
class SeparableConv(Block):
    """Depthwise separable convolution (arXiv 1704.04861, section 3.1).

    A depthwise and a 1x1 convolution, each followed by batch normalisation and the activation.

    Attributes:
      filters: output channels.
      kernel: of the depthwise convolution, in pixels.
      stride: of the depthwise convolution.
      activation: name of the activation.
      groups: of the 1x1 convolution.
    """

    depthwise_kernels: ClassVar[tuple[str, ...] | None] = ("kernel",)
    channel_counts: ClassVar[tuple[str, ...] | None] = ("filters",)

    filters: int
    kernel: int = 3
    stride: int = 1
    activation: str = "relu6"
    groups: int = 1

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        x = graph.depthwise_bn(f"{self.name}_dw", x, self.kernel, self.stride, self.activation)
        return graph.conv_bn(
            f"{self.name}_pw", x, self.filters, activation=self.activation, groups=self.groups
        )


@dataclass(frozen=True)
class Pool(Block):
    """Max pooling or average pooling.

    Attributes:
      kind: ``max`` or ``average``.
      kernel: side of the window in pixels.
      stride: step in pixels.
      padding: ``same``, ``valid`` or ``ceil``. The last is Caffe's rounding: a window that is only
        partly inside the map counts too. It is correct only for ``max`` pooling of a map without
        negative values.
    """

    channel_counts: ClassVar[tuple[str, ...] | None] = ()

    kind: str
    kernel: int
    stride: int = 2
    padding: str = "same"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to about (h / stride, w / stride, c)."""
        padding = self.padding
        if padding == "ceil":
            height, width = ((self.kernel - size) % self.stride for size in x.shape[:2])
            if height or width:  # the zeros do not change the maximum of values of at least 0
                x = graph.apply(f"{self.name}_pad", ops.Pad((0, height), (0, width)), x)
            padding = "valid"
        op = ops.MaxPool if self.kind == "max" else ops.AveragePool
        return graph.apply(self.name, op(self.kernel, self.stride, padding), x)


@dataclass(frozen=True)
class MBConv(Block):
    """Inverted residual block (arXiv 1801.04381), with squeeze-excite as in arXiv 1905.11946.

    1x1 convolution that expands the channels, depthwise convolution, squeeze-excite, 1x1 projection
    without activation, efficient channel attention. The input is added if it has the shape of the
    output and the stride is 1; stochastic depth is then applied before the addition.

    Attributes:
      filters: output channels.
      expanded: channels after the first convolution; None leaves this convolution out.
      kernel: of the depthwise convolution, in pixels.
      stride: of the depthwise convolution.
      squeeze: channels inside the squeeze-excite; None for no squeeze-excite.
      activation: name of the activation.
      drop_path: rate of stochastic depth.
      gate: name of the activation at the end of the squeeze-excite.
      squeeze_activation: name of the activation inside it; None for ``activation``.
      attention: kernel of the efficient channel attention; None for no attention.
      dilation: of the depthwise convolution.
      residual: whether the input is added where it may be.
    """

    depthwise_kernels: ClassVar[tuple[str, ...] | None] = ("kernel",)
    channel_counts: ClassVar[tuple[str, ...] | None] = ("filters", "expanded")

    filters: int
    expanded: int | None
    kernel: int
    stride: int = 1
    squeeze: int | None = None
    activation: str = "swish"
    drop_path: float = 0.0
    gate: str = "sigmoid"
    squeeze_activation: str | None = None
    attention: int | None = None
    dilation: int = 1
    residual: bool = True

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        if self.expanded is not None:
            x = graph.conv_bn(f"{self.name}_expand", x, self.expanded, activation=self.activation)
        x = graph.depthwise_bn(
            f"{self.name}_dw", x, self.kernel, self.stride, self.activation, self.dilation
        )
        if self.squeeze is not None:
            activation = self.squeeze_activation or self.activation
            gate = SqueezeExcite(f"{self.name}_se", self.squeeze, activation, self.gate)
            x = gate.draw(graph, x)
        x = graph.conv_bn(f"{self.name}_project", x, self.filters)
        if self.attention is not None:
            x = ChannelAttention(f"{self.name}_eca", self.attention).draw(graph, x)
        if self.residual and self.stride == 1 and x.shape == skip.shape:
            x = graph.add_skip(self.name, x, skip, self.drop_path)
        return x


@dataclass(frozen=True)
class Classifier(Block):
    """Global average pooling, dropout and a fully connected layer, which gives the logits.

    Attributes:
      classes: number of logits.
      stages: whether the fully connected layer also reads the mean of the last feature map of each
        stage. A stage are the blocks with outputs of one shape; the stem is none.
      dropout: rate of dropout.
      hidden: units of a further fully connected layer after the pooling; None for no such layer.
      activation: name of the activation after the hidden layer.
      bias: whether the last layer has a bias.
    """

    top: ClassVar[bool] = True
    channel_counts: ClassVar[tuple[str, ...] | None] = ("hidden",)

    classes: int
    dropout: float = 0.0
    hidden: int | None = None
    activation: str = "relu"
    bias: bool = True
    stages: bool = False

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        ends = stage_ends(graph)[:-1] if self.stages else []
        x = graph.apply("avg_pool", ops.GlobalAveragePool(), x)
        if self.hidden is not None:
            x = graph.apply("hidden", ops.Dense(self.hidden), x)
            x = graph.activate("hidden_activation", x, self.activation)
        if ends:
            # Names that sort before those of blocks: a device then computes each mean as soon as
            # its map is there, see `device.ordering`, and the map need not be kept.
            means = [
                graph.apply(f"avg_pool_stage{number}", ops.GlobalAveragePool(), end)
                for number, end in enumerate(ends, 1)
            ]
            x = graph.apply(f"{self.name}_features", ops.Concat(), *means, x)
        if self.dropout > 0:
            x = graph.apply("top_dropout", ops.Dropout(self.dropout), x)
        return graph.apply(self.name, ops.Dense(self.classes, self.bias), x)


def stage_ends(graph: Graph) -> list[Tensor]:
    """The last feature map of each stage of the blocks drawn so far, without the stem.

    A stage are the blocks with outputs of one shape, in the order of the network. The last one is
    usually a convolution that makes features for a classifier.
    """
    ends: dict[tuple[int, ...], Tensor] = {}
    for output in list(graph.outputs.values())[1:]:
        if len(output.shape) == 3:
            ends[output.shape] = output
    return list(ends.values())

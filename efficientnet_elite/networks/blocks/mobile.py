"""Blocks of mobile networks: plain convolution, inverted residual, channel gate, classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class ConvBlock(Block):
    """Convolution, batch normalisation, activation: the stem and the top of most networks.

    Without ``batch_norm`` the convolution has a bias instead. ``padding`` is same or valid.
    """

    filters: int
    kernel: int = 1
    stride: int = 1
    activation: str | None = "swish"
    padding: str = "same"
    batch_norm: bool = True

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters) with SAME padding."""
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
    """Channel gate (arXiv 1709.01507): pool, squeeze to ``channels``, expand, gate, multiply."""

    channels: int
    activation: str = "swish"
    gate: str = "sigmoid"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape."""
        # keepdims makes the gate a (1, 1, c) map: one MEAN in TFLite, no RESHAPE.
        s = graph.apply(f"{self.name}_squeeze", ops.GlobalAveragePool(keepdims=True), x)
        s = graph.apply(f"{self.name}_reduce", ops.Conv(self.channels, 1, bias=True), s)
        s = graph.apply(f"{self.name}_reduce_activation", ops.Activation(self.activation), s)
        s = graph.apply(f"{self.name}_expand", ops.Conv(x.channels, 1, bias=True), s)
        s = graph.apply(f"{self.name}_gate", ops.Activation(self.gate), s)
        return graph.apply(f"{self.name}_excite", ops.Multiply(), x, s)


@dataclass(frozen=True)
class ChannelAttention(Block):
    """Efficient channel attention (arXiv 1910.03151): a gate from each channel's neighbours."""

    kernel: int

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape."""
        s = graph.apply(f"{self.name}_squeeze", ops.GlobalAveragePool(keepdims=True), x)
        # The channels become the height of a map, so that a convolution may run along them.
        s = graph.apply(f"{self.name}_turn", ops.Reshape((x.channels, 1, 1)), s)
        s = graph.apply(f"{self.name}_conv", ops.Conv(1, (self.kernel, 1)), s)
        s = graph.apply(f"{self.name}_return", ops.Reshape((1, 1, x.channels)), s)
        s = graph.apply(f"{self.name}_gate", ops.Activation("sigmoid"), s)
        return graph.apply(f"{self.name}_excite", ops.Multiply(), x, s)


@dataclass(frozen=True)
class SeparableConv(Block):
    """Depthwise and pointwise convolution, both normalised and activated (arXiv 1704.04861).

    ``groups`` are the pointwise convolution's.
    """

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
    """Max or average pooling; ``padding`` is same, valid or ceil (what valid would cut off counts).

    ``ceil`` is Caffe's rounding; only for ``max``, behind a rectified map.
    """

    kind: str
    kernel: int
    stride: int = 2
    padding: str = "same"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to about (h / stride, w / stride, c)."""
        padding = self.padding
        if padding == "ceil":
            height, width = ((self.kernel - size) % self.stride for size in x.shape[:2])
            if height or width:  # zeros never win against a rectified map
                x = graph.apply(f"{self.name}_pad", ops.Pad((0, height), (0, width)), x)
            padding = "valid"
        op = ops.MaxPool if self.kind == "max" else ops.AveragePool
        return graph.apply(self.name, op(self.kernel, self.stride, padding), x)


@dataclass(frozen=True)
class MBConv(Block):
    """Inverted residual block (arXiv 1801.04381, with squeeze-excite as in 1905.11946).

    [1x1 expand to ``expanded``; absent when None] -> depthwise -> [squeeze-excite] -> 1x1 linear
    projection to ``filters`` -> [efficient channel attention] -> residual (with stochastic depth)
    where stride 1 and equal channels allow it.

    Attributes:
      squeeze: width of the squeeze-excite, None for none; ``gate`` and ``squeeze_activation``
        (by default the block's) are its functions.
      attention: kernel of the efficient channel attention, None for none.
      dilation: of the depthwise convolution.
    """

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

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        if self.expanded is not None:
            x = graph.conv_bn(f"{self.name}_expand", x, self.expanded, activation=self.activation)
        x = graph.depthwise_bn(
            f"{self.name}_dw", x, self.kernel, self.stride, self.activation, self.dilation
        )
        if self.squeeze is not None:
            inner = self.squeeze_activation or self.activation
            x = SqueezeExcite(f"{self.name}_se", self.squeeze, inner, self.gate).draw(graph, x)
        x = graph.conv_bn(f"{self.name}_project", x, self.filters)
        if self.attention is not None:
            x = ChannelAttention(f"{self.name}_eca", self.attention).draw(graph, x)
        if self.stride == 1 and x.shape == skip.shape:
            if self.drop_path > 0:
                x = graph.apply(f"{self.name}_drop", ops.DropPath(self.drop_path), x)
            x = graph.apply(f"{self.name}_add", ops.Add(), x, skip)
        return x


@dataclass(frozen=True)
class Classifier(Block):
    """Global average pool, dropout, fully connected layer. Its output are logits.

    ``hidden`` puts another fully connected layer with ``activation`` behind the pool.
    """

    top: ClassVar[bool] = True

    classes: int
    dropout: float = 0.0
    hidden: int | None = None
    activation: str = "relu"
    bias: bool = True

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        x = graph.apply("avg_pool", ops.GlobalAveragePool(), x)
        if self.hidden is not None:
            x = graph.apply("hidden", ops.Dense(self.hidden), x)
            x = graph.activate("hidden_activation", x, self.activation)
        if self.dropout > 0:
            x = graph.apply("top_dropout", ops.Dropout(self.dropout), x)
        return graph.apply(self.name, ops.Dense(self.classes, self.bias), x)

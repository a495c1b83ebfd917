"""Building blocks of networks: frozen data with one method that draws them on a `Graph`.

Channel counts are absolute: a family's width and depth rules have been applied by the time a block
exists, so a block means the same in every family.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite import ops
from efficientnet_elite.graph import Graph, Tensor


@dataclass(frozen=True)
class Block:
    """A named part of a network. Node names start with ``name``, as layer names in Keras do."""

    name: str

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Draws the block's operations behind ``x`` and returns its output."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConvBlock(Block):
    """Convolution, batch normalisation, activation: the stem and the top of most networks."""

    filters: int
    kernel: int = 1
    stride: int = 1
    activation: str | None = "swish"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        return graph.conv_bn(self.name, x, self.filters, self.kernel, self.stride, self.activation)


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
class MBConv(Block):
    """Inverted residual block (arXiv 1801.04381, with squeeze-excite as in 1905.11946).

    [1x1 expand to ``expanded``; absent when None] -> depthwise -> [squeeze-excite] -> 1x1 linear
    projection to ``filters`` -> residual (with stochastic depth) where stride 1 and equal channels
    allow it.
    """

    filters: int
    expanded: int | None
    kernel: int
    stride: int = 1
    squeeze: int | None = None
    activation: str = "swish"
    drop_path: float = 0.0

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        if self.expanded is not None:
            x = graph.conv_bn(f"{self.name}_expand", x, self.expanded, activation=self.activation)
        x = graph.apply(f"{self.name}_dwconv", ops.DepthwiseConv(self.kernel, self.stride), x)
        x = graph.bn_activation(f"{self.name}_dw", x, self.activation)
        if self.squeeze is not None:
            x = SqueezeExcite(f"{self.name}_se", self.squeeze, self.activation).draw(graph, x)
        x = graph.conv_bn(f"{self.name}_project", x, self.filters)
        if self.stride == 1 and x.shape == skip.shape:
            if self.drop_path > 0:
                x = graph.apply(f"{self.name}_drop", ops.DropPath(self.drop_path), x)
            x = graph.apply(f"{self.name}_add", ops.Add(), x, skip)
        return x


@dataclass(frozen=True)
class Classifier(Block):
    """Global average pool, dropout, fully connected layer. Its output are logits."""

    classes: int
    dropout: float = 0.0

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        x = graph.apply("avg_pool", ops.GlobalAveragePool(), x)
        if self.dropout > 0:
            x = graph.apply("top_dropout", ops.Dropout(self.dropout), x)
        return graph.apply(self.name, ops.Dense(self.classes), x)

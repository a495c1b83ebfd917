"""Blocks of SqueezeNet (arXiv 1602.07360) and PeleeNet (arXiv 1804.06882).

Both networks concatenate the outputs of parallel branches along the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class Fire(Block):
    """SqueezeNet's fire module (arXiv 1602.07360, section 3.2).

    A 1x1 convolution reduces the channels. A 1x1 and a 3x3 convolution then read its output in
    parallel, and their outputs are concatenated. Every convolution has a bias and an activation;
    there is no batch normalisation.

    Attributes:
      squeezed: output channels of the first convolution.
      expand: output channels of each of the two parallel convolutions.
      activation: name of the activation.
    """

    squeezed: int
    expand: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, 2 * expand)."""
        x = self._conv(graph, f"{self.name}_squeeze", x, self.squeezed, 1)
        expand_1x1 = self._conv(graph, f"{self.name}_expand1", x, self.expand, 1)
        expand_3x3 = self._conv(graph, f"{self.name}_expand3", x, self.expand, 3)
        return graph.apply(f"{self.name}_concat", ops.Concat(), expand_1x1, expand_3x3)

    def _conv(self, graph: Graph, name: str, x: Tensor, filters: int, kernel: int) -> Tensor:
        x = graph.apply(f"{name}_conv", ops.Conv(filters, kernel, bias=True), x)
        return graph.activate(f"{name}_activation", x, self.activation)


@dataclass(frozen=True)
class ConvClassifier(Block):
    """SqueezeNet's classifier.

    Dropout, 1x1 convolution with one filter for each class, activation and global average pooling;
    the result is the logits.
    """

    top: ClassVar[bool] = True

    classes: int
    dropout: float = 0.0
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        if self.dropout > 0:
            x = graph.apply("top_dropout", ops.Dropout(self.dropout), x)
        x = graph.apply(self.name, ops.Conv(self.classes, 1, bias=True, classifier=True), x)
        x = graph.activate(f"{self.name}_activation", x, self.activation)
        return graph.apply("avg_pool", ops.GlobalAveragePool(), x)


@dataclass(frozen=True)
class PeleeStem(Block):
    """PeleeNet's stem (arXiv 1804.06882, section 2).

    A 3x3 convolution of stride 2, then two parallel branches that halve the map again (max pooling;
    a 1x1 and a strided 3x3 convolution), then a 1x1 convolution of their concatenation. Every
    convolution is followed by batch normalisation and the activation.

    Attributes:
      filters: output channels.
      activation: name of the activation.
    """

    filters: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / 4), ceil(w / 4), filters)."""
        filters, activation = self.filters, self.activation
        x = graph.conv_bn(f"{self.name}_1", x, filters, 3, 2, activation)
        convolved = graph.conv_bn(f"{self.name}_2a", x, filters // 2, activation=activation)
        convolved = graph.conv_bn(f"{self.name}_2b", convolved, filters, 3, 2, activation)
        pooled = graph.apply(f"{self.name}_pool", ops.MaxPool(2, 2), x)
        x = graph.apply(f"{self.name}_concat", ops.Concat(), pooled, convolved)
        return graph.conv_bn(f"{self.name}_3", x, filters, activation=activation)


@dataclass(frozen=True)
class TwoWayDense(Block):
    """PeleeNet's two-way dense layer (arXiv 1804.06882, section 2).

    The input is concatenated with the outputs of two parallel branches: a 1x1 convolution followed
    by one 3x3 convolution in the first branch and by two in the second.

    Attributes:
      growth: output channels of each branch.
      bottleneck: output channels of the 1x1 convolutions.
      activation: name of the activation.
    """

    growth: int
    bottleneck: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, c + 2 * growth)."""
        branches = [x]
        for number, letters in ((1, "b"), (2, "bc")):
            name = f"{self.name}_{number}"
            y = graph.conv_bn(f"{name}a", x, self.bottleneck, activation=self.activation)
            for letter in letters:
                y = graph.conv_bn(f"{name}{letter}", y, self.growth, 3, activation=self.activation)
            branches.append(y)
        return graph.apply(f"{self.name}_concat", ops.Concat(), *branches)

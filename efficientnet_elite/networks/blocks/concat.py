"""Blocks that join branches along the channels: SqueezeNet's (arXiv 1602.07360), PeleeNet's
(arXiv 1804.06882).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class Fire(Block):
    """1x1 convolution to ``squeeze``, then 1x1 and 3x3 ones side by side, ``expand`` each.

    Convolutions have biases; there is no batch normalisation.
    """

    squeezed: int
    expand: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, 2 * expand)."""
        x = self._conv(graph, f"{self.name}_squeeze", x, self.squeezed, 1)
        one = self._conv(graph, f"{self.name}_expand1", x, self.expand, 1)
        three = self._conv(graph, f"{self.name}_expand3", x, self.expand, 3)
        return graph.apply(f"{self.name}_concat", ops.Concat(), one, three)

    def _conv(self, graph: Graph, name: str, x: Tensor, filters: int, kernel: int) -> Tensor:
        x = graph.apply(f"{name}_conv", ops.Conv(filters, kernel, bias=True), x)
        return graph.activate(f"{name}_activation", x, self.activation)


@dataclass(frozen=True)
class ConvClassifier(Block):
    """Dropout, 1x1 convolution to the classes, activation, global average pool: the logits."""

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
    """Strided 3x3 convolution -> max pool beside 1x1 and strided 3x3 -> concat -> 1x1."""

    filters: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / 4), ceil(w / 4), filters)."""
        filters, act = self.filters, self.activation
        x = graph.conv_bn(f"{self.name}_1", x, filters, 3, 2, act)
        right = graph.conv_bn(f"{self.name}_2a", x, filters // 2, activation=act)
        right = graph.conv_bn(f"{self.name}_2b", right, filters, 3, 2, act)
        left = graph.apply(f"{self.name}_pool", ops.MaxPool(2, 2), x)
        x = graph.apply(f"{self.name}_concat", ops.Concat(), left, right)
        return graph.conv_bn(f"{self.name}_3", x, filters, activation=act)


@dataclass(frozen=True)
class TwoWayDense(Block):
    """Dense layer whose two branches see 3x3 and 5x5 pixels; each adds ``growth`` channels."""

    growth: int
    bottleneck: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, c + 2 * growth)."""
        branches = [x]
        for number, depth in ((1, 1), (2, 2)):
            name = f"{self.name}_{number}"
            y = graph.conv_bn(f"{name}a", x, self.bottleneck, activation=self.activation)
            for letter in "bc"[:depth]:
                y = graph.conv_bn(f"{name}{letter}", y, self.growth, 3, activation=self.activation)
            branches.append(y)
        return graph.apply(f"{self.name}_concat", ops.Concat(), *branches)

"""GhostNet's bottleneck (arXiv 1911.11907)."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.blocks.mobile import SqueezeExcite
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class GhostBottleneck(Block):
    """Ghost module -> [depthwise, at stride 2] -> [squeeze-excite] -> ghost module -> residual.

    A ghost module makes half its (even) channels by a 1x1 convolution and the other half from these
    by a depthwise one. Where the input does not fit the output, the shortcut is a depthwise and a
    1x1 convolution. ``kernel`` matters only to strided blocks and such shortcuts.
    """

    filters: int
    expanded: int
    kernel: int
    stride: int = 1
    squeeze: int | None = None
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        x = self._ghost(graph, f"{self.name}_ghost1", x, self.expanded, self.activation)
        if self.stride > 1:
            x = graph.depthwise_bn(f"{self.name}_dw", x, self.kernel, self.stride)
        if self.squeeze is not None:
            gate = SqueezeExcite(f"{self.name}_se", self.squeeze, self.activation, "hard_sigmoid")
            x = gate.draw(graph, x)
        x = self._ghost(graph, f"{self.name}_ghost2", x, self.filters, None)
        if skip.shape != x.shape:
            skip = graph.depthwise_bn(f"{self.name}_skip_dw", skip, self.kernel, self.stride)
            skip = graph.conv_bn(f"{self.name}_skip", skip, self.filters)
        return graph.apply(f"{self.name}_add", ops.Add(), x, skip)

    @staticmethod
    def _ghost(graph: Graph, name: str, x: Tensor, filters: int, activation: str | None) -> Tensor:
        primary = graph.conv_bn(f"{name}_primary", x, filters // 2, activation=activation)
        cheap = graph.depthwise_bn(f"{name}_cheap", primary, 3, activation=activation)
        return graph.apply(f"{name}_concat", ops.Concat(), primary, cheap)

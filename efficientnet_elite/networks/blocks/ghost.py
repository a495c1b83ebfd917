"""The bottleneck block of GhostNet (arXiv 1911.11907)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.blocks.mobile import SqueezeExcite
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class GhostBottleneck(Block):
    """Ghost bottleneck (arXiv 1911.11907, section 3.2).

    Ghost module, depthwise convolution (only with a stride), squeeze-excite (if asked for), ghost
    module, residual connection. A ghost module makes half of its output channels by a 1x1
    convolution, and the other half from these by a depthwise convolution. If the input does not
    have the shape of the output, the residual connection is a depthwise and a 1x1 convolution.

    Attributes:
      filters: output channels; an even number.
      expanded: output channels of the first ghost module; an even number.
      kernel: of the depthwise convolutions of a stride and of the residual connection, in pixels.
      stride: 1 or 2.
      squeeze: channels inside the squeeze-excite; None for no squeeze-excite.
      activation: name of the activation.
    """

    depthwise_kernels: ClassVar[tuple[str, ...] | None] = ("kernel",)

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

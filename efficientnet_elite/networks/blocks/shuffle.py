"""The unit of ShuffleNet (arXiv 1707.01083)."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class ShuffleUnit(Block):
    """ShuffleNet unit (arXiv 1707.01083, section 3.2).

    A 1x1 group convolution to a quarter of the channels, channel shuffle, 3x3 depthwise convolution
    and 1x1 group convolution. At stride 1 the input is added to the result. At stride 2 the
    average-pooled input and the result are concatenated, so that the last convolution only makes
    the channels that the input does not have.

    Attributes:
      filters: output channels.
      groups: of both 1x1 convolutions.
      stride: of the depthwise convolution, 1 or 2.
      first_groups: of the first 1x1 convolution, if it has another number of groups.
      activation: name of the activation.
    """

    filters: int
    groups: int
    stride: int = 1
    first_groups: int | None = None
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        branch_filters = self.filters if self.stride == 1 else self.filters - x.channels
        x = graph.conv_bn(
            f"{self.name}_reduce",
            x,
            self.filters // 4,
            activation=self.activation,
            groups=self.first_groups or self.groups,
        )
        if self.groups > 1:
            x = graph.channel_shuffle(f"{self.name}_shuffle", x, self.groups)
        x = graph.depthwise_bn(f"{self.name}_dw", x, 3, self.stride)
        x = graph.conv_bn(f"{self.name}_expand", x, branch_filters, groups=self.groups)
        if self.stride == 1:
            x = graph.apply(f"{self.name}_add", ops.Add(), x, skip)
            return graph.activate(f"{self.name}_activation", x, self.activation)
        x = graph.activate(f"{self.name}_activation", x, self.activation)
        skip = graph.apply(f"{self.name}_pool", ops.AveragePool(3, self.stride), skip)
        return graph.apply(f"{self.name}_concat", ops.Concat(), skip, x)

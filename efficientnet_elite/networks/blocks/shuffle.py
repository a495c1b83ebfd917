"""ShuffleNet's unit (arXiv 1707.01083)."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class ShuffleUnit(Block):
    """1x1 group convolution to a quarter -> shuffle -> depthwise -> 1x1 group convolution -> join.

    At stride 1 the input is added; at stride 2 it is average-pooled and stands before the branch,
    which then makes only the channels that are missing to ``filters``.

    Attributes:
      groups: of both 1x1 convolutions; ``first_groups`` instead in the first one.
    """

    filters: int
    groups: int
    stride: int = 1
    first_groups: int | None = None
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        skip = x
        made = self.filters if self.stride == 1 else self.filters - x.channels
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
        x = graph.conv_bn(f"{self.name}_expand", x, made, groups=self.groups)
        if self.stride == 1:
            x = graph.apply(f"{self.name}_add", ops.Add(), x, skip)
            return graph.activate(f"{self.name}_activation", x, self.activation)
        x = graph.activate(f"{self.name}_activation", x, self.activation)
        skip = graph.apply(f"{self.name}_pool", ops.AveragePool(3, self.stride), skip)
        return graph.apply(f"{self.name}_concat", ops.Concat(), skip, x)

"""The blocks of MobileNetV4 (arXiv 2404.10518) that no earlier network has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class UniversalBottleneck(Block):
    """Universal inverted bottleneck (arXiv 2404.10518, section 3).

    Depthwise convolution at the start, 1x1 convolution that expands the channels, depthwise
    convolution in the middle, 1x1 projection. Either or both of the depthwise convolutions may be
    missing: a block with both is the paper's ExtraDW, one with the middle one alone an inverted
    bottleneck, one with the first one alone is like ConvNext, and one with neither a feed-forward
    network. There is no activation after the one at the start, nor after the projection. The input
    is added if it has the shape of the output and the stride is 1; stochastic depth is then applied
    before the addition.

    Attributes:
      filters: output channels.
      expanded: channels after the first 1x1 convolution.
      start: kernel of the depthwise convolution before it, in pixels; None for none.
      middle: kernel of the depthwise convolution after it, in pixels; None for none.
      stride: of the depthwise convolution in the middle, or of that at the start if it is the only
        one.
      activation: name of the activation.
      drop_path: rate of stochastic depth.
      residual: whether the input is added where it may be.
    """

    depthwise_kernels: ClassVar[tuple[str, ...] | None] = ("start", "middle")
    channel_counts: ClassVar[tuple[str, ...] | None] = ("filters", "expanded")

    filters: int
    expanded: int
    start: int | None
    middle: int | None
    stride: int = 1
    activation: str = "relu"
    drop_path: float = 0.0
    residual: bool = True

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters).

        Raises:
          ValueError: there is no depthwise convolution that could have the stride.
        """
        if self.stride > 1 and self.start is None and self.middle is None:
            raise ValueError(f"{self.name}: a stride needs a depthwise convolution")
        skip = x
        if self.start is not None:
            stride = self.stride if self.middle is None else 1
            x = graph.depthwise_bn(f"{self.name}_start_dw", x, self.start, stride)
        x = graph.conv_bn(f"{self.name}_expand", x, self.expanded, activation=self.activation)
        if self.middle is not None:
            x = graph.depthwise_bn(f"{self.name}_dw", x, self.middle, self.stride, self.activation)
        x = graph.conv_bn(f"{self.name}_project", x, self.filters)
        if self.residual and self.stride == 1 and x.shape == skip.shape:
            x = graph.add_skip(self.name, x, skip, self.drop_path)
        return x


@dataclass(frozen=True)
class PooledConv(Block):
    """Global average pooling, then 1x1 convolution, batch normalisation and activation.

    Attributes:
      filters: output channels.
      activation: name of the activation.
    """

    channel_counts: ClassVar[tuple[str, ...] | None] = ("filters",)

    filters: int
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (1, 1, filters)."""
        x = graph.apply(f"{self.name}_pool", ops.GlobalAveragePool(keepdims=True), x)
        return graph.conv_bn(self.name, x, self.filters, activation=self.activation)

"""Units of ESPNetv2 (arXiv 1811.11431): parallel depthwise convolutions of several dilations."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class EESP(Block):
    """EESP unit: extremely efficient spatial pyramid of depthwise dilated separable convolutions.

    A 1x1 group convolution reduces the channels. Parallel branches then apply a 3x3 depthwise
    convolution each, the sum of all branches so far is the output of a branch (hierarchical feature
    fusion), and the concatenated branches pass a 1x1 group convolution. The input is added if it
    has the shape of the output. See arXiv 1811.11431, section 3.2.

    Attributes:
      filters: output channels.
      dilations: dilation of each branch. The group convolutions have as many groups.
      stride: of the depthwise convolutions.
      activation: name of the activation.
    """

    filters: int
    dilations: tuple[int, ...]
    stride: int = 1
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        activation = self.activation
        y = _pyramid(graph, self.name, x, self.filters, self.dilations, self.stride, activation)
        if y.shape == x.shape:
            y = graph.apply(f"{self.name}_add", ops.Add(), y, x)
        return graph.activate(f"{self.name}_activation", y, activation)


@dataclass(frozen=True)
class EESPDown(Block):
    """Strided EESP unit with a shortcut to the image, which halves height and width.

    The average-pooled input is concatenated with the output of an EESP unit of stride 2. The input
    image, pooled to the same size and convolved twice, is added to the result. See arXiv
    1811.11431, section 3.2.

    Attributes:
      filters: output channels; more than the input has.
      dilations: dilation of each branch of the EESP unit.
      image: whether the shortcut to the image is there.
      activation: name of the activation.
    """

    filters: int
    dilations: tuple[int, ...]
    image: bool = True
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / 2), ceil(w / 2), filters)."""
        name, activation = self.name, self.activation
        added_channels = self.filters - x.channels
        y = _pyramid(graph, f"{name}_eesp", x, added_channels, self.dilations, 2, activation)
        x = graph.apply(f"{name}_pool", ops.AveragePool(3, 2), x)
        x = graph.apply(f"{name}_concat", ops.Concat(), x, y)
        if self.image:
            image = pooled_image(graph, x)
            image = graph.conv_bn(f"{name}_image1", image, image.channels, 3, activation=activation)
            image = graph.conv_bn(f"{name}_image2", image, self.filters)
            x = graph.apply(f"{name}_add", ops.Add(), x, image)
        return graph.activate(f"{name}_activation", x, activation)


def _pyramid(
    graph: Graph,
    name: str,
    x: Tensor,
    filters: int,
    dilations: tuple[int, ...],
    stride: int,
    activation: str,
) -> Tensor:
    """An EESP unit without its residual connection and last activation."""
    branches = len(dilations)
    x = graph.conv_bn(
        f"{name}_reduce", x, filters // branches, activation=activation, groups=branches
    )
    fused: list[Tensor] = []
    for number, dilation in enumerate(dilations, start=1):
        conv = ops.DepthwiseConv(3, stride, dilation)
        y = graph.apply(f"{name}_branch{number}_dwconv", conv, x)
        if fused:
            y = graph.apply(f"{name}_fuse{number}", ops.Add(), y, fused[-1])
        fused.append(y)
    y = graph.apply(f"{name}_join", ops.Concat(), *fused)
    y = graph.bn_activation(f"{name}_join", y, activation)
    return graph.conv_bn(f"{name}_expand", y, filters, groups=branches)


def pooled_image(graph: Graph, like: Tensor) -> Tensor:
    """The input image, halved by average pooling until it has the height and width of ``like``.

    Poolings that the graph has already are used again.
    """
    image, count = graph.image, 0
    index_by_name = {node.name: index for index, node in enumerate(graph.nodes)}
    while image.shape[:2] != like.shape[:2]:
        count += 1
        name = f"image_pool{count}"
        if name in index_by_name:
            image = Tensor(index_by_name[name], graph.nodes[index_by_name[name]].shape)
        else:
            image = graph.apply(name, ops.AveragePool(3, 2), image)
    return image

"""ESPNetv2's units (arXiv 1811.11431): depthwise convolutions of several dilations side by side."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class EESP(Block):
    """Extremely efficient spatial pyramid of depthwise dilated separable convolutions.

    1x1 group convolution to one branch's channels -> depthwise 3x3 at each of ``dilations`` -> each
    branch added to the next (hierarchical feature fusion) -> concat -> 1x1 group convolution ->
    residual, at stride 1. There are as many groups as branches.
    """

    filters: int
    dilations: tuple[int, ...]
    stride: int = 1
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        act = self.activation
        y = _pyramid(graph, self.name, x, self.filters, self.dilations, self.stride, act)
        if y.shape == x.shape:
            y = graph.apply(f"{self.name}_add", ops.Add(), y, x)
        return graph.activate(f"{self.name}_activation", y, act)


@dataclass(frozen=True)
class EESPDown(Block):
    """Halves the map: average pool beside a strided EESP, and the image itself added to both.

    ``image`` says whether the image, pooled to this size, is reinforced into the output.
    """

    filters: int
    dilations: tuple[int, ...]
    image: bool = True
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / 2), ceil(w / 2), filters)."""
        name, act = self.name, self.activation
        made = self.filters - x.channels
        y = _pyramid(graph, f"{name}_eesp", x, made, self.dilations, 2, act)
        x = graph.apply(f"{name}_pool", ops.AveragePool(3, 2), x)
        x = graph.apply(f"{name}_concat", ops.Concat(), x, y)
        if self.image:
            small = pooled_image(graph, x)
            small = graph.conv_bn(f"{name}_image1", small, small.channels, 3, activation=act)
            small = graph.conv_bn(f"{name}_image2", small, self.filters)
            x = graph.apply(f"{name}_add", ops.Add(), x, small)
        return graph.activate(f"{name}_activation", x, act)


def _pyramid(
    graph: Graph,
    name: str,
    x: Tensor,
    filters: int,
    dilations: tuple[int, ...],
    stride: int,
    activation: str,
) -> Tensor:
    """The unit without its residual and last activation."""
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
    """The image halved until it has the size of ``like``; halvings drawn before are used again."""
    image, count = graph.image, 0
    while image.shape[:2] != like.shape[:2]:
        count += 1
        name = f"image_pool{count}"
        drawn = [i for i, node in enumerate(graph.nodes) if node.name == name]
        if drawn:
            image = Tensor(drawn[0], graph.nodes[drawn[0]].shape)
        else:
            image = graph.apply(name, ops.AveragePool(3, 2), image)
    return image

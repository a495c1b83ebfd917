"""Networks as a list of nodes, with shapes and costs, computed without a framework.

Blocks add their operations to a `Graph`. The graph gives shapes, parameters and MACs within
microseconds, and `networks.build` turns the same nodes into Keras layers. The costs and the Keras
model therefore always agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.ops import Op, Shape


@dataclass(frozen=True, slots=True)
class Tensor:
    """The output of a node.

    Attributes:
      node: index of the node in `Graph.nodes`; -1 for the input image.
      shape: without the batch axis.
    """

    node: int
    shape: Shape

    @property
    def channels(self) -> int:
        """Size of the last axis."""
        return self.shape[-1]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation, applied to the outputs of earlier nodes.

    Attributes:
      name: unique in its graph; also the name of the Keras layer.
      op: the operation.
      inputs: indices of the nodes whose outputs it reads; -1 is the input image.
      shape: of its output, without the batch axis.
      params: number of weights, including moving statistics.
      macs: multiply-accumulates for one image.
    """

    name: str
    op: Op
    inputs: tuple[int, ...]
    shape: Shape
    params: int
    macs: int


class Graph:
    """The operations of a network, in the order in which blocks added them.

    Attributes:
      image: the input tensor, of shape ``(height, width, channels)``.
      nodes: the operations added so far.
      outputs: output of each finished block by the name of the block, for later blocks that read
        more than the block directly before them.
    """

    def __init__(self, input_shape: tuple[int, int, int]):
        self.image = Tensor(-1, input_shape)
        self.nodes: list[Node] = []
        self.outputs: dict[str, Tensor] = {}

    @property
    def params(self) -> int:
        """Number of weights of all nodes, including moving statistics."""
        return sum(node.params for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes for one image."""
        return sum(node.macs for node in self.nodes)

    def apply(self, name: str, op: Op, *inputs: Tensor) -> Tensor:
        """Appends a node and returns its output; ValueError if the input shapes do not fit."""
        shapes = [tensor.shape for tensor in inputs]
        node = Node(
            name=name,
            op=op,
            inputs=tuple(tensor.node for tensor in inputs),
            shape=op.output(*shapes),
            params=op.params(*shapes),
            macs=op.macs(*shapes),
        )
        self.nodes.append(node)
        return Tensor(len(self.nodes) - 1, node.shape)

    def conv_bn(
        self,
        name: str,
        x: Tensor,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        activation: str | None = None,
        groups: int = 1,
        padding: str = "same",
    ) -> Tensor:
        """Convolution without bias, batch normalisation and, if one is given, an activation."""
        conv = ops.Conv(filters, kernel, stride, groups, padding=padding)
        x = self.apply(f"{name}_conv", conv, x)
        return self.bn_activation(name, x, activation)

    def depthwise_bn(
        self,
        name: str,
        x: Tensor,
        kernel: int,
        stride: int = 1,
        activation: str | None = None,
        dilation: int = 1,
    ) -> Tensor:
        """Depthwise convolution, batch normalisation and, if one is given, an activation."""
        x = self.apply(f"{name}conv", ops.DepthwiseConv(kernel, stride, dilation), x)
        return self.bn_activation(name, x, activation)

    def bn_activation(self, name: str, x: Tensor, activation: str | None) -> Tensor:
        """Batch normalisation and, if one is given, an activation."""
        x = self.apply(f"{name}_bn", ops.BatchNorm(), x)
        return self.activate(f"{name}_activation", x, activation)

    def add_skip(self, name: str, x: Tensor, skip: Tensor, drop_path: float) -> Tensor:
        """The sum with a skip connection, after stochastic depth where its rate is not 0."""
        if drop_path > 0:
            x = self.apply(f"{name}_drop", ops.DropPath(drop_path), x)
        return self.apply(f"{name}_add", ops.Add(), x, skip)

    def activate(self, name: str, x: Tensor, activation: str | None) -> Tensor:
        """Activation by name: a Keras activation, ``prelu``, or None for no activation."""
        if activation is None:
            return x
        op = ops.PReLU() if activation == "prelu" else ops.Activation(activation)
        return self.apply(name, op, x)

    def channel_shuffle(self, name: str, x: Tensor, groups: int) -> Tensor:
        """Channel shuffle (arXiv 1707.01083): transposes (groups, n) channels to (n, groups).

        Height and width are merged first, because not all runtimes transpose tensors of five axes.
        """
        height, width, channels = x.shape
        split = ops.Reshape((height * width, groups, channels // groups))
        x = self.apply(f"{name}_split", split, x)
        x = self.apply(f"{name}_transpose", ops.Permute((0, 2, 1)), x)
        return self.apply(f"{name}_join", ops.Reshape((height, width, channels)), x)

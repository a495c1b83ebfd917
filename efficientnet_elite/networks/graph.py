"""Networks drawn as a list of nodes: shapes and costs in microseconds, no framework.

Blocks draw on a `Graph`; what they drew is plain data that ``models`` turns into a Keras model
node by node. So a block says once what it is, and its cost and its Keras form cannot part ways.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.ops import Op, Shape


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value in the graph: the index of the node that made it, and its shape without the batch."""

    node: int
    shape: Shape

    @property
    def channels(self) -> int:
        """Size of the last axis."""
        return self.shape[-1]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation applied to the outputs of earlier nodes (by index; -1 is the image)."""

    name: str
    op: Op
    inputs: tuple[int, ...]
    shape: Shape
    params: int
    macs: int


class Graph:
    """Records operations in the order in which blocks draw them.

    Attributes:
      image: the input tensor, ``(height, width, channels)``.
      nodes: what has been drawn so far.
      outputs: what finished blocks gave, by their names, for blocks that look further back.
    """

    def __init__(self, input_shape: tuple[int, int, int]):
        self.image = Tensor(-1, input_shape)
        self.nodes: list[Node] = []
        self.outputs: dict[str, Tensor] = {}

    @property
    def params(self) -> int:
        """Weights of all nodes, moving statistics included."""
        return sum(node.params for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes for one image."""
        return sum(node.macs for node in self.nodes)

    def apply(self, name: str, op: Op, *inputs: Tensor) -> Tensor:
        """Appends a node and returns its output; ValueError where the shapes do not fit."""
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
        """Convolution without bias, batch normalisation, activation if any."""
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
        """Depthwise convolution, batch normalisation, activation if any."""
        x = self.apply(f"{name}conv", ops.DepthwiseConv(kernel, stride, dilation), x)
        return self.bn_activation(name, x, activation)

    def bn_activation(self, name: str, x: Tensor, activation: str | None) -> Tensor:
        """Batch normalisation, activation if any."""
        x = self.apply(f"{name}_bn", ops.BatchNorm(), x)
        return self.activate(f"{name}_activation", x, activation)

    def activate(self, name: str, x: Tensor, activation: str | None) -> Tensor:
        """Pointwise function by name; ``prelu`` learns its slopes, None leaves ``x`` as it is."""
        if activation is None:
            return x
        op = ops.PReLU() if activation == "prelu" else ops.Activation(activation)
        return self.apply(name, op, x)

    def channel_shuffle(self, name: str, x: Tensor, groups: int) -> Tensor:
        """Interleaves the channels of groups (arXiv 1707.01083): (groups, n) becomes (n, groups).

        Drawn with four axes, batch included: not all runtimes transpose five.
        """
        height, width, channels = x.shape
        parts = ops.Reshape((height * width, groups, channels // groups))
        x = self.apply(f"{name}_split", parts, x)
        x = self.apply(f"{name}_transpose", ops.Permute((0, 2, 1)), x)
        return self.apply(f"{name}_join", ops.Reshape((height, width, channels)), x)

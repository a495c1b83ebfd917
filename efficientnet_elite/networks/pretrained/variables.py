"""The variables of a network's Keras model, known from its spec without Keras."""

from __future__ import annotations

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.ops import Op, Shape
from efficientnet_elite.networks.spec import ArchSpec

_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def variables(spec: ArchSpec) -> dict[str, dict[str, Shape]]:
    """Paths and shapes of the variables of each layer that has any, in Keras' order.

    Raises:
      UserError: the network has an operation whose weights are of another kind, such as a learned
        group convolution or a user's model.
    """
    graph = spec.graph
    return {
        node.name: {
            f"{node.name}/{name}": shape
            for name, shape in _shapes(node.op, _channels(graph, node), node, spec).items()
        }
        for node in graph.nodes
        if node.params
    }


def _channels(graph: Graph, node: Node) -> int:
    """Channels of the input of a node."""
    index = node.inputs[0]
    return (graph.image.shape if index < 0 else graph.nodes[index].shape)[-1]


def _shapes(op: Op, channels: int, node: Node, spec: ArchSpec) -> dict[str, Shape]:
    if isinstance(op, ops.BatchNorm):
        return dict.fromkeys(_STATISTICS, (channels,))
    if isinstance(op, ops.Conv):
        height, width = op.kernel if isinstance(op.kernel, tuple) else (op.kernel, op.kernel)
        kernel: Shape = (height, width, channels // op.groups, op.filters)
        return {"kernel": kernel, **({"bias": (op.filters,)} if op.bias else {})}
    if isinstance(op, ops.DepthwiseConv):
        return {"kernel": (op.kernel, op.kernel, channels, 1)}
    if isinstance(op, ops.Dense):
        return {"kernel": (channels, op.units), **({"bias": (op.units,)} if op.bias else {})}
    if isinstance(op, ops.PReLU):
        return {"alpha": (1, 1, channels)}
    if isinstance(op, ops.TransposeConv):
        return {"kernel": (2, 2, op.filters, channels)}
    raise UserError(
        f"the weights of {spec.name} cannot be read: its layer {node.name} is a {type(op).__name__}"
    )

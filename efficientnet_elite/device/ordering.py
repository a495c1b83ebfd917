"""The order in which the TFLite converter writes operators, and in which a device runs them.

Where branches join, the order decides which branch has to wait in memory for the other. TensorFlow
imports a graph in the reverse postorder of a depth-first search along the data. The search starts
at all nodes without inputs, which include the weights, and always visits nodes in reverse
alphabetical order of their names. The names therefore decide which of two branches runs first.

This rule is not documented. It was found by comparing files, and `tests/device/test_costs.py`
checks it for networks of every family.
"""

from __future__ import annotations

from collections.abc import Sequence

from efficientnet_elite.networks.graph import Node


def converter_order(nodes: Sequence[Node]) -> list[int]:
    """Indices of the nodes of a graph in the order of their operators in the converted file."""
    readers: dict[int, list[int]] = {index: [] for index in range(-1, len(nodes))}
    for index, node in enumerate(nodes):
        for source in dict.fromkeys(node.inputs):
            readers[source].append(index)

    def by_name(index: int) -> str:
        # The converter calls the layers once more, which adds "_1" to their names in the graph.
        return f"{nodes[index].name}_1/"

    for indices in readers.values():
        indices.sort(key=by_name)
    with_weights = sorted((index for index, node in enumerate(nodes) if node.params), key=by_name)

    postorder: list[int] = []
    visited: set[int] = set()
    # Nodes with whether their readers have been visited; the last one is the next to look at.
    stack = [(index, False) for index in (-1, *with_weights)]
    while stack:
        index, readers_visited = stack.pop()
        if readers_visited:
            postorder.append(index)
        elif index not in visited:
            visited.add(index)
            stack.append((index, True))
            stack += [(reader, False) for reader in readers[index]]
    return [index for index in reversed(postorder) if index != -1]

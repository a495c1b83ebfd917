"""The order in which the converter writes a network's operators, and a device then runs them.

Where branches meet, it decides which of them waits in memory for the other. TensorFlow imports a
graph in reverse postorder of a depth-first walk along the data. The walk starts from all nodes
that read nothing, weights among them, and everywhere takes the name that sorts last first; so
names
decide between branches (found by comparing files; exact for every family, see
`tests/device/test_costs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from efficientnet_elite.networks.graph import Node


def converted(nodes: Sequence[Node]) -> list[int]:
    """Indices of a graph's nodes in the order of the converted file."""
    readers: dict[int, list[int]] = {index: [] for index in range(-1, len(nodes))}
    for index, node in enumerate(nodes):
        for source in dict.fromkeys(node.inputs):
            readers[source].append(index)

    def by_name(index: int) -> str:
        return f"{nodes[index].name}_1/"  # as operators are named after their layer, called anew

    for own in readers.values():
        own.sort(key=by_name)
    weighted = sorted((index for index, node in enumerate(nodes) if node.params), key=by_name)

    postorder: list[int] = []
    seen: set[int] = set()
    # What is still to be visited, the next one last; and what is left once its readers are done.
    stack = [(index, False) for index in (-1, *weighted)]
    while stack:
        index, left = stack.pop()
        if left:
            postorder.append(index)
        elif index not in seen:
            seen.add(index)
            stack.append((index, True))
            stack += [(reader, False) for reader in readers[index]]
    return [index for index in reversed(postorder) if index != -1]

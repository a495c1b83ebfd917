"""Single operators of a `.tflite` file as files of their own, to be measured alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from . import inspect, rewrite


def single_operators(model: bytes) -> Iterator[bytes | None]:
    """Each operator of a file's network with its constants, in the order of execution.

    Its other inputs and its outputs are those of the file made of it, with the types, shapes and
    quantization that they have in the model.

    Args:
      model: content of a file.

    Yields:
      The content of a file for each operator; None for one that cannot stand alone, because it
      calls another subgraph or keeps values between inferences.

    Raises:
      UserError: the file is damaged.
    """
    contents = inspect.read(model)
    tree = rewrite.tree_of(model)
    for place, operator in enumerate(tree.subgraphs[0].operators):
        if contents.steps[place].operator in _BOUND or any(
            tree.subgraphs[0].tensors[index].isVariable for index in operator.inputs if index >= 0
        ):
            yield None
        else:
            yield _alone(tree, operator, contents)


_BOUND = {"IF", "WHILE", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


def _alone(tree: Any, operator: Any, contents: inspect.Contents) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    old = tree.subgraphs[0].tensors
    result, graph = schema.ModelT(), schema.SubGraphT()
    result.version, result.subgraphs, result.buffers = tree.version, [graph], [schema.BufferT()]
    graph.tensors = []
    places = {-1: -1}  # of an absent input, and of tensors of the file in the new one
    for index in (*operator.inputs, *operator.outputs):
        if index in places:
            continue
        tensor = copy.copy(old[index])
        if contents.tensors[index].constant:
            result.buffers.append(tree.buffers[tensor.buffer])
            tensor.buffer = len(result.buffers) - 1
        else:
            tensor.buffer = 0
        places[int(index)] = len(graph.tensors)
        graph.tensors.append(tensor)
    new = copy.copy(operator)
    new.opcodeIndex = 0
    new.inputs = [places[int(index)] for index in operator.inputs]
    new.outputs = [places[int(index)] for index in operator.outputs]
    # One operator may read a tensor twice, as the square of a map does.
    given = [i for i in operator.inputs if i >= 0 and not contents.tensors[i].constant]
    graph.inputs = [places[int(index)] for index in dict.fromkeys(given)]
    graph.outputs, graph.operators = list(new.outputs), [new]
    result.operatorCodes = [tree.operatorCodes[operator.opcodeIndex]]
    return rewrite.packed(result)

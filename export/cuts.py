"""Single operators of a `.tflite` file as files of their own, to be measured alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from efficientnet_elite.errors import UserError

from . import inspect, rewrite

MOST_OPERATORS = 2000
MOST_BYTES = 2**30  # of all files together, as one constant may be read by many operators


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
      UserError: the file is damaged, or its operators would be too many or too large.
    """
    contents = inspect.read(model)
    if len(contents.steps) > MOST_OPERATORS:
        raise UserError(
            f"the file has {len(contents.steps)} operators, and at most {MOST_OPERATORS} are "
            "measured one by one: give a model for small devices"
        )
    left = MOST_BYTES
    tree = rewrite.tree_of(model)
    for step, operator in zip(contents.steps, tree.subgraphs[0].operators, strict=True):
        read = [tree.subgraphs[0].tensors[index] for index in step.inputs if index >= 0]
        if step.operator in _BOUND or any(tensor.isVariable for tensor in read):
            yield None
            continue
        content = _alone(tree, operator, step, contents)
        left -= len(content)
        if left < 0:
            raise UserError(
                f"the file's operators, each with its constants, take more than {MOST_BYTES:,} "
                "bytes: give a model for small devices"
            )
        yield content


_BOUND = {"IF", "WHILE", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


def _alone(tree: Any, operator: Any, step: inspect.Step, contents: inspect.Contents) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    old = tree.subgraphs[0].tensors
    result, graph = schema.ModelT(), schema.SubGraphT()
    result.version, result.subgraphs, result.buffers = tree.version, [graph], [schema.BufferT()]
    graph.tensors = []
    places = {-1: -1}  # of an absent input, and of tensors of the file in the new one
    for index in (*step.inputs, *step.outputs):
        if index in places:
            continue
        tensor = copy.copy(old[index])
        tensor.buffer = 0
        if contents.tensors[index].constant:
            result.buffers.append(tree.buffers[old[index].buffer])
            tensor.buffer = len(result.buffers) - 1
        places[index] = len(graph.tensors)
        graph.tensors.append(tensor)
    new = copy.copy(operator)
    new.opcodeIndex = 0
    new.inputs = [places[index] for index in step.inputs]
    new.outputs = [places[index] for index in step.outputs]
    # One operator may read a tensor twice, as the square of a map does.
    given = [i for i in step.inputs if i >= 0 and not contents.tensors[i].constant]
    graph.inputs = [places[index] for index in dict.fromkeys(given)]
    graph.outputs, graph.operators = list(new.outputs), [new]
    result.operatorCodes = [tree.operatorCodes[operator.opcodeIndex]]
    return rewrite.packed(result)

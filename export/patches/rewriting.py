"""Writes a file again with the operators of a patched program."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_elite.device.lowering import Operator
from efficientnet_elite.device.patches import Patched, Piece
from efficientnet_elite.export import rewrite

_VERSION = 2  # of the operators below, for int8
_SAME, _VALID = 0, 1


def rewritten(model: bytes, plan: Patched, tensors: Sequence[int]) -> bytes:
    """The content of a file that computes the same patch by patch.

    Args:
      model: content of the file of which `program.of_graph` made the plan's original program.
      plan: the patched program.
      tensors: for each tensor of the original program its index in the file.

    Returns:
      A file without the tensors that are not used any more, because TFLM would plan them too.
    """
    from ai_edge_litert import schema_py_generated as schema

    tree = rewrite.tree_of(model)
    _Rewriter(schema, tree, plan, tensors).rewrite()
    return rewrite.packed(tree)


class _Rewriter:
    """Changes the object tree of a file."""

    def __init__(self, schema: Any, tree: Any, plan: Patched, tensors: Sequence[int]):
        self._schema, self._tree, self._plan = schema, tree, plan
        self._graph = tree.subgraphs[0]
        self._old = list(self._graph.tensors)
        self._file_tensors = tensors
        self._new: list[Any] = []
        self._kept: dict[int, int] = {-1: -1}  # tensor of the old file to that of the new one
        self._numbers: dict[tuple[str, tuple[int, ...]], int] = {}

    def rewrite(self) -> None:
        """Replaces tensors, operators and buffers."""
        plan, graph = self._plan, self._graph
        # In the order in which they were planned, on which the planner's ties depend.
        activations = [self._activation(index) for index in range(len(plan.tensors))]
        operators = []
        for operator, piece in zip(plan.program.operators, plan.pieces, strict=True):
            if piece.source is None:
                operators.append(self._moving(operator, piece, activations))
            elif piece.source < plan.cut:
                operators.append(self._repeated(operator, piece, activations))
        for old in graph.operators[plan.cut :]:
            operators.append(
                self._with(old, map(self._keep, old.inputs), map(self._keep, old.outputs))
            )
        graph.inputs = [self._keep(index) for index in graph.inputs]
        graph.outputs = [self._keep(index) for index in graph.outputs]
        for signature in self._tree.signatureDefs or ():
            for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
                entry.tensorIndex = self._keep(entry.tensorIndex)
        graph.operators, graph.tensors = operators, self._new
        self._drop_buffers()

    def _activation(self, index: int) -> int:
        """A tensor of the patched program; those that are whole take the place of the old ones."""
        plan = self._plan
        old = self._file_tensors[plan.tensors[index]]
        tensor = copy.copy(self._old[old])
        self._new.append(tensor)
        if index == 0 or index >= plan.joined:
            self._kept[old] = len(self._new) - 1
        else:
            tensor.name, tensor.buffer = f"patches/{index}", 0
            tensor.shape, tensor.shapeSignature = [1, *plan.program.shapes[index]], None
        return len(self._new) - 1

    def _keep(self, index: int) -> int:
        """A tensor of the old file in the new one."""
        if index not in self._kept:
            self._new.append(self._old[index])
            self._kept[index] = len(self._new) - 1
        return self._kept[index]

    def _with(self, old: Any, inputs: Any, outputs: Any) -> Any:
        operator = copy.copy(old)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        return operator

    def _repeated(self, operator: Operator, piece: Piece, activations: Sequence[int]) -> Any:
        old = self._graph.operators[piece.source]
        parts = iter(operator.inputs)
        inputs = [
            activations[next(parts)] if self._is_activation(index) else self._keep(index)
            for index in old.inputs
        ]
        new = self._with(old, inputs, [activations[operator.output]])
        if hasattr(old.builtinOptions, "padding"):
            new.builtinOptions = copy.copy(old.builtinOptions)
            new.builtinOptions.padding = _SAME if piece.same else _VALID
        return new

    def _is_activation(self, index: int) -> bool:
        return index in self._file_tensors

    def _moving(self, operator: Operator, piece: Piece, activations: Sequence[int]) -> Any:
        """SLICE, PAD, PADV2 or CONCATENATION."""
        schema, kind = self._schema, operator.kind
        constants: list[int] = []
        options = {
            "SLICE": "Slice",
            "PAD": "Pad",
            "PADV2": "PadV2",
            "CONCATENATION": "Concatenation",
        }
        new = schema.OperatorT()
        new.opcodeIndex = self._code(kind)
        new.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options[kind]}Options")
        new.builtinOptions = getattr(schema, f"{options[kind]}OptionsT")()
        height, width, channels = self._plan.program.shapes[operator.output]
        if kind == "SLICE":
            constants = [
                self._integers(0, *piece.begin, 0),
                self._integers(1, height, width, channels),
            ]
        elif kind == "CONCATENATION":
            new.builtinOptions.axis = 1 + piece.axis  # the first is that of the batch
        else:
            constants = [self._integers((0, 0), *piece.pads, (0, 0))]
            if kind == "PADV2":
                constants.append(self._least(activations[operator.inputs[0]]))
        new.inputs = [*(activations[tensor] for tensor in operator.inputs), *constants]
        new.outputs = [activations[operator.output]]
        return new

    def _integers(self, *values: Any) -> int:
        """A constant tensor of int32, one for equal values."""
        array = np.array(values, np.int32)
        key = ("int32", tuple(array.reshape(-1).tolist()))
        if key not in self._numbers:
            tensor = self._schema.TensorT()
            tensor.type = self._schema.TensorType.INT32
            self._numbers[key] = self._constant(tensor, array, "x".join(map(str, key[1])))
        return self._numbers[key]

    def _least(self, like: int) -> int:
        """A constant tensor of the least int8 value, with the scale of another tensor."""
        tensor = copy.copy(self._new[like])
        tensor.shapeSignature = None
        return self._constant(tensor, np.array([-128], np.int8), "least")

    def _constant(self, tensor: Any, values: np.ndarray, name: str) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._tree.buffers.append(buffer)
        tensor.buffer, tensor.shape = len(self._tree.buffers) - 1, list(values.shape)
        tensor.name = f"patches/{name}"
        self._new.append(tensor)
        return len(self._new) - 1

    def _code(self, kind: str) -> int:
        """Index of an operator code, which is added where the file lacks it."""
        code = getattr(self._schema.BuiltinOperator, kind)
        for index, known in enumerate(self._tree.operatorCodes):
            if max(known.builtinCode, known.deprecatedBuiltinCode) == code:
                known.version = max(known.version, _VERSION)
                return index
        added = self._schema.OperatorCodeT()
        added.builtinCode = added.deprecatedBuiltinCode = code
        added.version = _VERSION
        self._tree.operatorCodes.append(added)
        return len(self._tree.operatorCodes) - 1

    def _drop_buffers(self) -> None:
        """Leaves out the buffers that nothing refers to any more; the first is always empty."""
        users = [
            *(tensor for graph in self._tree.subgraphs for tensor in graph.tensors),
            *(self._tree.metadata or ()),
        ]
        place = {old: new for new, old in enumerate(sorted({0, *(user.buffer for user in users)}))}
        for user in {id(user): user for user in users}.values():
            user.buffer = place[user.buffer]
        self._tree.buffers = [self._tree.buffers[old] for old in place]

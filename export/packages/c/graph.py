"""An int8 .tflite file as a list of operators with their options and constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect

_DTYPES = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Attributes:
      name, type, shape: see `inspect.Tensor`.
      scales, zero: real = scale * (integer - zero); one scale for each channel where it is
        quantized per channel, none where it is not quantized.
      values: its content if it is a constant.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero: int
    values: np.ndarray | None

    @property
    def size(self) -> int:
        """Number of elements, which is the number of bytes of an activation."""
        return prod(self.shape)

    @property
    def content(self) -> np.ndarray:
        """The values of a tensor that is known to be a constant."""
        if self.values is None:
            raise ValueError(f"{self.name} is not a constant")
        return self.values

    @property
    def scale(self) -> float:
        """The scale of a tensor that is quantized as a whole."""
        return self.scales[0]


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
      kind: its name in TFLite.
      inputs: tensors that it reads; -1 stands for an absent one.
      outputs: tensors that it writes.
      options: the fields of its options in the file, such as ``strideH``.
      table: 256 int8 values that replace its result's values v by table[v + 128]; None for none.
      before_table: the tensor that would hold the result without the table.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    table: np.ndarray | None = None
    before_table: int = -1

    @property
    def result(self) -> int:
        """The tensor with the scale and shape of the result, before a table is applied."""
        return self.outputs[0] if self.table is None else self.before_table


@dataclass(frozen=True)
class Graph:
    """A network with one input and one output.

    Attributes:
      tensors: all tensors.
      operators: in the order of execution.
      input, output: indices of the image and of the result.
      same_as: tensor to the one whose memory it shares, because it only has another shape.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int
    same_as: Mapping[int, int] = field(default_factory=dict)

    def memory_of(self, tensor: int) -> int:
        """The tensor in whose memory a tensor lies."""
        return self.same_as.get(tensor, tensor)


def read(model: bytes) -> Graph:
    """Reads the first subgraph of a file.

    Raises:
      UserError: the file is damaged, is not int8 throughout, has several inputs or outputs, or a
        batch size other than 1.
    """
    contents = inspect.read(model)
    inspect.check_full_int8(contents)
    if (len(contents.inputs), len(contents.outputs)) != (1, 1):
        raise UserError(
            f"the model has {len(contents.inputs)} inputs and {len(contents.outputs)} outputs: "
            "one of each can be compiled to C"
        )
    try:
        graph = _read(model, contents)
    except UserError:
        raise
    except Exception as error:  # wrong offsets and sizes can raise almost anything
        raise UserError("the file is a damaged TFLite model: copy or export it again") from error
    if graph.tensors[graph.input].shape[:1] != (1,):
        raise UserError("the model's batch size is not 1: export it with a static batch of 1")
    return graph


def _read(model: bytes, contents: inspect.Contents) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model)
    subgraph = root.Subgraphs(0)
    tensors = []
    for index in range(subgraph.TensorsLength()):
        raw, known = subgraph.Tensors(index), contents.tensors[index]
        if raw.ShapeSignatureLength() and -1 in raw.ShapeSignatureAsNumpy().tolist():
            raise UserError(
                f"the size of the tensor {known.name!r} is not fixed: export with static shapes"
            )
        data = root.Buffers(raw.Buffer()).DataAsNumpy() if known.constant else None
        values = None
        if data is not None:
            if known.type not in _DTYPES:
                raise UserError(f"the constant {known.name!r} has the type {known.type}")
            values = data.view(_DTYPES[known.type]).reshape(known.shape)
        zeros = set(known.zero_points)
        if len(zeros) > 1:
            raise UserError(f"the tensor {known.name!r} has several zero points")
        zero = zeros.pop() if zeros else 0
        tensors.append(Tensor(known.name, known.type, known.shape, known.scales, zero, values))
    operators = tuple(
        Operator(step.operator, step.inputs, step.outputs, _options(schema, subgraph.Operators(i)))
        for i, step in enumerate(contents.steps)
    )
    (image,), (result,) = subgraph.InputsAsNumpy().tolist(), subgraph.OutputsAsNumpy().tolist()
    return Graph(tuple(tensors), operators, image, result)


def _options(schema: Any, operator: Any) -> dict[str, Any]:
    """The fields of an operator's options by name."""
    kind, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
    if kind == 0 or table is None:
        return {}
    options = schema.BuiltinOptionsCreator(kind, table)
    return dict(vars(options)) if options is not None else {}

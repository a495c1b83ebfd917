"""What is inside a TFLite file, read from the flatbuffer itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.errors import UserError

# The quantizer widens an empty range to +-1e-6, which gives 2e-6 / 255 = 7.8e-9.
DEGENERATE_SCALE = 1e-8


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
      name: the converter's name for it.
      type: ``INT8``, ``FLOAT32``, ... as in the TFLite schema.
      shape: its dimensions.
      scales, zero_points: real = scale * (integer - zero point); several where quantized per
        channel, empty where not quantized.
      constant: whether its values are in the file (weights, biases, shapes).
      producer: the operator that computes it; None for inputs and constants.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    constant: bool
    producer: str | None


@dataclass(frozen=True)
class Contents:
    """A parsed file: operators by name and count, all tensors, those of the interface."""

    operators: dict[str, int]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(model: bytes) -> Contents:
    """Parses a TFLite file's content; inputs and outputs are those of the first subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    builtins = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    root = schema.Model.GetRootAs(model)
    codes = [_operator(root.OperatorCodes(i), builtins) for i in range(root.OperatorCodesLength())]
    operators: Counter[str] = Counter()
    subgraphs = []
    for subgraph in (root.Subgraphs(i) for i in range(root.SubgraphsLength())):
        producers: dict[int, str] = {}
        for operator in (subgraph.Operators(i) for i in range(subgraph.OperatorsLength())):
            name = codes[operator.OpcodeIndex()]
            operators[name] += 1
            producers.update((output, name) for output in _list(operator.OutputsAsNumpy()))
        subgraphs.append(
            [
                _tensor(root, subgraph.Tensors(i), types, producers.get(i))
                for i in range(subgraph.TensorsLength())
            ]
        )
    main = root.Subgraphs(0)
    return Contents(
        operators=dict(sorted(operators.items())),
        tensors=tuple(tensor for tensors in subgraphs for tensor in tensors),
        inputs=tuple(subgraphs[0][i] for i in _list(main.InputsAsNumpy())),
        outputs=tuple(subgraphs[0][i] for i in _list(main.OutputsAsNumpy())),
    )


def operators(model: bytes) -> dict[str, int]:
    """How often each operator occurs, by name; custom operators by their own."""
    return read(model).operators


def tensors(model: bytes) -> tuple[Tensor, ...]:
    """All tensors of the file."""
    return read(model).tensors


def check_full_int8(contents: Contents) -> None:
    """Raises UserError, naming the tensor, unless the file is int8 throughout and sound.

    Every tensor must be an integer, the interface int8, and no activation's range degenerate: one
    that was zero for all calibration images gets a scale of 7.8e-9, which XNNPACK may refuse and
    which clips whatever else the activation might become.
    """
    floats = [tensor for tensor in contents.tensors if "FLOAT" in tensor.type]
    if floats:
        # The culprit is the operator that wanted floats, not the DEQUANTIZE that feeds it.
        tensor = min(floats, key=lambda tensor: tensor.producer == "DEQUANTIZE")
        origin = f"made by {tensor.producer}" if tensor.producer else "a constant or an input"
        raise UserError(
            f"the int8 model is not int8 throughout: tensor {tensor.name!r}, {origin}, "
            f"is {tensor.type}; replace the operator by one with an int8 kernel"
        )
    for tensor in (*contents.inputs, *contents.outputs):
        if tensor.type != "INT8":
            raise UserError(f"the int8 model's tensor {tensor.name!r} is {tensor.type}, not INT8")
    for tensor in contents.tensors:
        if tensor.scales and not tensor.constant and min(tensor.scales) < DEGENERATE_SCALE:
            raise UserError(
                f"the int8 model's tensor {tensor.name!r} has the degenerate scale "
                f"{min(tensor.scales):.2g}: it was zero for every calibration image, so the layer "
                "is dead; train the model longer or calibrate with more varied images"
            )


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _operator(code: Any, builtins: dict[int, str]) -> str:
    # Numbers above 126 did not fit the first schema's byte; older files have only that byte.
    name = builtins[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    return code.CustomCode().decode() if name == "CUSTOM" else name


def _tensor(root: Any, tensor: Any, types: dict[int, str], producer: str | None) -> Tensor:
    quantization = tensor.Quantization()
    return Tensor(
        name=(tensor.Name() or b"").decode(),
        type=types[tensor.Type()],
        shape=tuple(_list(tensor.ShapeAsNumpy())),
        scales=tuple(_list(quantization.ScaleAsNumpy()) if quantization else ()),
        zero_points=tuple(_list(quantization.ZeroPointAsNumpy()) if quantization else ()),
        constant=root.Buffers(tensor.Buffer()).DataLength() > 0,
        producer=producer,
    )


def _list(array: Any) -> list:
    """A flatbuffer vector as a list; an absent one reads as the number 0."""
    return array.tolist() if hasattr(array, "tolist") else []

"""Reads `.tflite` files into an object tree (`tree_of`) and writes such trees (`packed`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import inspect


def with_batch_of_one(model: bytes) -> bytes:
    """A file whose tensors have the shapes that they have for one image.

    TFLite stores the shapes for a batch of one beside those with an open batch (-1), and runtimes
    such as LiteRT.js refuse the latter. The network itself stays the same.

    Args:
      model: the content of a file; it is returned as it is where no size is open.

    Raises:
      UserError: the file is damaged, or another size than the batch is open.
    """
    contents = inspect.read(model)
    if not any(-1 in tensor.signature for tensor in contents.tensors):
        return model
    for tensor in (*contents.inputs, *contents.outputs):
        if -1 in tensor.signature[1:]:
            raise UserError(
                f"the shape of the model's {tensor.name} is {tensor.signature}, with sides that "
                "are not fixed: convert it for images of one size"
            )
    tree = tree_of(model)
    for graph in tree.subgraphs:
        for tensor in graph.tensors:
            tensor.shapeSignature = None
    return packed(tree)


def with_probabilities(model: bytes, temperature: float) -> bytes:
    """A classifier's file that gives calibrated probabilities in float32.

    It appends what `confidence.calibrated` computes, a SOFTMAX whose factor is 1 / temperature. Of
    probabilities it takes the logarithm first.

    Args:
      model: the content of a file with one output: logits or probabilities, (1, classes).
      temperature: above 0. Files that give probabilities already are returned as they are where it
        is 1, and those of sigmoids always.

    Raises:
      UserError: the file is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    last = inspect.last_operator(inspect.read(model))
    if last == "LOGISTIC" or (last == "SOFTMAX" and temperature == 1):
        return model
    tree = tree_of(model)
    (output,) = tree.subgraphs[0].outputs
    result = output
    if tree.subgraphs[0].tensors[output].type != schema.TensorType.FLOAT32:
        result = _appended(tree, "DEQUANTIZE", result)
    if last == "SOFTMAX":
        least = _constant(tree, float(np.finfo(np.float32).tiny))
        result = _appended(tree, "LOG", _appended(tree, "MAXIMUM", result, least))
    options = schema.SoftmaxOptionsT()
    options.beta = 1 / temperature
    result = _appended(tree, "SOFTMAX", result, options=options)
    tree.subgraphs[0].tensors[result].name = b"probabilities"
    tree.subgraphs[0].outputs = [result]
    for signature in tree.signatureDefs or []:
        for named in signature.outputs:
            named.tensorIndex = result if named.tensorIndex == output else named.tensorIndex
    return packed(tree)


# Versions of operators that are not 1; of DEQUANTIZE it is the one that takes int8.
_VERSIONS = {"DEQUANTIZE": 2}


def _appended(tree: Any, name: str, *inputs: int, options: Any = None) -> int:
    """Appends an operator to a `ModelT`; returns its output, float32 like the first input."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = _VERSIONS.get(name, 1)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(tree.operatorCodes)
    if options is not None:
        operator.builtinOptions = options
        operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    graph = tree.subgraphs[0]
    operator.inputs = list(inputs)
    operator.outputs = [
        _tensor(tree, f"calibration/{name.lower()}", graph.tensors[inputs[0]].shape)
    ]
    tree.operatorCodes.append(code)
    graph.operators.append(operator)
    return operator.outputs[0]


def _constant(tree: Any, value: float) -> int:
    """Appends a float32 constant of one element to a `ModelT`; returns its index."""
    index = _tensor(tree, "calibration/least", [1])
    set_constant(tree, index, np.array([value], np.float32))
    return index


def _tensor(tree: Any, name: str, shape: Any) -> int:
    """Appends a float32 tensor with a buffer of its own to a `ModelT`; returns its index."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape = name.encode(), schema.TensorType.FLOAT32, shape
    tensor.buffer = len(tree.buffers)
    tree.buffers.append(schema.BufferT())
    tree.subgraphs[0].tensors.append(tensor)
    return len(tree.subgraphs[0].tensors) - 1


def tree_of(model: bytes) -> Any:
    """The `ModelT` of the TFLite schema that a file contains."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))


def constant(tree: Any, index: int, dtype: Any) -> np.ndarray:
    """The values of a constant tensor of a `ModelT`'s first subgraph, (elements,)."""
    return np.frombuffer(bytes(tree.buffers[tree.subgraphs[0].tensors[index].buffer].data), dtype)


def set_constant(tree: Any, index: int, values: np.ndarray) -> None:
    """Gives a tensor of a `ModelT`'s first subgraph other values; no other tensor changes."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = tree.subgraphs[0].tensors[index]
    users = [each.buffer for graph in tree.subgraphs for each in graph.tensors]
    if tensor.buffer == 0 or users.count(tensor.buffer) > 1:  # 0 is everybody's empty buffer
        tensor.buffer = len(tree.buffers)
        tree.buffers.append(schema.BufferT())
    tree.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)


def set_scales(tree: Any, index: int, scales: np.ndarray) -> None:
    """Gives a quantized tensor of a `ModelT`'s first subgraph as many other scales."""
    quantization = tree.subgraphs[0].tensors[index].quantization
    assert len(quantization.scale) == len(scales)
    quantization.scale = np.asarray(scales, np.float32)


def packed(tree: Any) -> bytes:
    """The content of a file, from a `ModelT` of the TFLite schema."""
    import flatbuffers

    tree.buffers = [_AlignedBuffer(buffer.data) for buffer in tree.buffers]
    builder = flatbuffers.Builder(4096 + sum(len(buffer.data) for buffer in tree.buffers))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _AlignedBuffer:
    """A buffer of the model, written at a multiple of 16 bytes, as the TFLite schema requires."""

    def __init__(self, data: Any):
        self.data = b"" if data is None else np.asarray(data, np.uint8).tobytes()

    def Pack(self, builder: Any) -> int:
        """Writes the buffer and returns its offset; the schema's `ModelT.Pack` calls this."""
        from ai_edge_litert import schema_py_generated as schema

        if self.data:
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if self.data:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)

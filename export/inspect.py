"""Reads and checks the contents of a TFLite file without running it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import files

# The quantizer widens an empty range to +-1e-6, which gives the scale 2e-6 / 255 = 7.8e-9.
DEGENERATE_SCALE = 1e-8
# Limit on the number of operator codes, of subgraphs, and of tensors plus operators; eLite9 has
# about 400.
MAX_PARTS = 100_000
# Limit on all numbers and letters in names, shapes and scales; eLite9 has about 54,000.
MAX_DETAILS = 4_000_000
MAX_SIDE = 4096  # of an image, in pixels
_CASTS = {"QUANTIZE", "DEQUANTIZE"}
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
      name: the name that the converter gave it.
      type: ``INT8``, ``FLOAT32``, ... as in the TFLite schema.
      shape: its dimensions.
      scales, zero_points: real = scale * (integer - zero point); one for each channel if it is
        quantized per channel, empty if it is not quantized.
      constant: whether its values are in the file (weights, biases, shapes).
      producer: the operator that computes it; None for inputs and constants.
      signature: its dimensions with -1 for those that are not fixed; empty if all are.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    constant: bool
    producer: str | None
    signature: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """An operator's name, and the indices of the tensors that it reads and writes."""

    operator: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """A parsed file.

    Attributes:
      operators: operator's name to the number of its occurrences.
      tensors: all tensors; those of the first subgraph, which is the network, come first.
      steps: the operators of the first subgraph in the order of execution.
      inputs, outputs: the inputs and outputs of the first subgraph.
      custom: names of operators that are not TFLite's own, such as TensorFlow's (``Flex...``).
    """

    operators: dict[str, int]
    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    custom: tuple[str, ...] = ()


def load(path: Path) -> bytes:
    """A model file's content; UserError if `files.check_model_file` rejects the file."""
    files.check_model_file(path)
    return path.read_bytes()


def read(model: bytes) -> Contents:
    """Parses the content of a TFLite file.

    Nothing in the file is executed, and time and memory are bounded for any content.

    Raises:
      UserError: the content is not a TFLite file, or it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        if not schema.Model.ModelBufferHasIdentifier(model, 0):
            raise UserError(
                "the file is not a TFLite model (it lacks the identifier TFL3): give a .tflite file"
            )
        return _read(schema, model)
    except UserError:
        raise
    except Exception as error:  # wrong offsets can raise almost anything
        raise UserError("the file is a damaged TFLite model: copy or export it again") from error


def _read(schema: Any, model: bytes) -> Contents:
    builtins = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    root, reader = schema.Model.GetRootAs(model), _BoundedReader()
    operator_codes = [root.OperatorCodes(i) for i in range(_bounded(root.OperatorCodesLength()))]
    codes = [_operator(code, builtins, reader) for code in operator_codes]
    graphs = [root.Subgraphs(i) for i in range(_bounded(root.SubgraphsLength()))]
    # The sum is bounded because a forged file can list the same subgraph many times.
    _bounded(sum(graph.TensorsLength() + graph.OperatorsLength() for graph in graphs))
    steps = [
        [
            Step(
                codes[operator.OpcodeIndex()],
                reader.numbers(operator.InputsAsNumpy()),
                reader.numbers(operator.OutputsAsNumpy()),
            )
            for operator in (graph.Operators(i) for i in range(graph.OperatorsLength()))
        ]
        for graph in graphs
    ]
    subgraphs = []
    for graph, graph_steps in zip(graphs, steps, strict=True):
        used = {index for step in graph_steps for index in (*step.inputs, *step.outputs)}
        if not used <= {
            -1,
            *range(graph.TensorsLength()),
        }:  # -1 stands for an optional input that is absent
            raise ValueError("an operator reads or writes a tensor that does not exist")
        producers = {output: step.operator for step in graph_steps for output in step.outputs}
        subgraphs.append(
            [
                _tensor(root, graph.Tensors(i), types, producers.get(i), reader)
                for i in range(graph.TensorsLength())
            ]
        )
    operators = Counter(step.operator for graph_steps in steps for step in graph_steps)
    main = graphs[0]
    return Contents(
        operators=dict(sorted(operators.items())),
        tensors=tuple(tensor for tensors in subgraphs for tensor in tensors),
        steps=tuple(steps[0]),
        inputs=tuple(subgraphs[0][i] for i in reader.numbers(main.InputsAsNumpy())),
        outputs=tuple(subgraphs[0][i] for i in reader.numbers(main.OutputsAsNumpy())),
        custom=tuple(
            name
            for name, code in zip(codes, operator_codes, strict=True)
            if _builtin(code, builtins) == "CUSTOM"
        ),
    )


def _bounded(count: int) -> int:
    if count > MAX_PARTS:
        raise UserError(
            f"the file has {count} tensors, operators or subgraphs, more than the {MAX_PARTS} "
            "that can be read: give a model for small devices"
        )
    return count


def operators(model: bytes) -> dict[str, int]:
    """Operator's name to the number of its occurrences; custom operators have their own names."""
    return read(model).operators


def tensors(model: bytes) -> tuple[Tensor, ...]:
    """All tensors of a file, given its content."""
    return read(model).tensors


def check_full_int8(contents: Contents, *, floats: bool = False) -> None:
    """Raises UserError, naming the tensor, unless the file is int8 throughout and sound.

    All tensors must be integers (except between input and output if `floats` is true), inputs and
    outputs must be int8, and no activation may have a degenerate range. An activation that is zero
    on the whole representative data set gets a scale of 7.8e-9, which XNNPACK may refuse and which
    clips all other values.
    """
    unwanted = [t for t in contents.tensors if "FLOAT" in t.type and not floats]
    if unwanted:
        # Name the operator that computes in float rather than the DEQUANTIZE before it.
        tensor = min(unwanted, key=lambda tensor: tensor.producer == "DEQUANTIZE")
        origin = f"computed by {tensor.producer}" if tensor.producer else "a constant or an input"
        raise UserError(
            f"the int8 model is not int8 throughout: tensor {tensor.name!r}, {origin}, "
            f"is {tensor.type}; replace the operator with one that has an int8 kernel"
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


def shared(contents: Contents) -> set[int]:
    """Indices of the tensors that several operators read."""
    reads = Counter(index for step in contents.steps for index in step.inputs)
    return {index for index, count in reads.items() if count > 1}


def last_operator(contents: Contents) -> str | None:
    """The operator that computes the outputs, such as ``SOFTMAX`` or ``LOGISTIC`` (a sigmoid)."""
    computing = [step.operator for step in contents.steps if step.operator not in _CASTS]
    return computing[-1] if computing else None


def ends_in_softmax(contents: Contents) -> bool:
    """Whether the outputs are probabilities rather than logits."""
    return last_operator(contents) == "SOFTMAX"


def gives_probabilities(contents: Contents) -> bool:
    """Whether the outputs are probabilities, of a softmax or of sigmoids."""
    return last_operator(contents) in ("SOFTMAX", "LOGISTIC")


def two_classes(outputs: np.ndarray, sigmoid: bool) -> np.ndarray:
    """The outputs of a network, with a class more where one value decides between two classes.

    Args:
      outputs: (N, ..., classes) float32.
      sigmoid: whether a single output is the probability of the second class. Otherwise it is its
        logit, over that of the first class.
    """
    if outputs.shape[-1] != 1:
        return outputs
    first = 1 - outputs if sigmoid else np.zeros_like(outputs)
    return np.concatenate([first, outputs], axis=-1)


def output_step(contents: Contents) -> float:
    """The difference between adjacent values of the output; 0 if the output is computed in float.

    It is the scale of an integer output, or of the integers that a final DEQUANTIZE makes float.
    """
    (output,) = contents.outputs
    last = contents.steps[-1] if contents.steps else None
    if last is not None and last.operator == "DEQUANTIZE" and last.inputs:
        output = contents.tensors[last.inputs[0]]
    return output.scales[0] if output.scales else 0.0


def has_hybrid_operators(contents: Contents) -> bool:
    """Whether operators with int8 weights quantize float activations during inference."""
    tensors = contents.tensors
    return any(
        (tensors[step.inputs[0]].type, tensors[step.inputs[1]].type) == ("FLOAT32", "INT8")
        for step in contents.steps
        if step.operator in _WEIGHTED and len(step.inputs) > 1
    )


def check_own_operators(contents: Contents) -> None:
    """Raises UserError, with its name, where an operator is not one of TFLite's own."""
    if not contents.custom:
        return
    name = contents.custom[0]
    origin = "an operator of TensorFlow" if name.startswith("Flex") else "a custom operator"
    raise UserError(
        f"the model has {name}, {origin} that is not built into TFLite: convert it with "
        "TFLITE_BUILTINS alone, from layers that these can express"
    )


def image_shape(contents: Contents) -> tuple[int, int, int]:
    """Shape of a classifier's input, (height, width, channels), with 3 channels or 1.

    Raises:
      UserError: the input is not one image, RGB or grey, or there are several outputs.
    """
    for kind, tensors in (("inputs", contents.inputs), ("outputs", contents.outputs)):
        if len(tensors) != 1:
            names = ", ".join(tensor.name for tensor in tensors) or "none"
            raise UserError(
                f"the model has {len(tensors)} {kind} ({names}): expected one image as input and "
                "one tensor of logits or probabilities as output"
            )
    if -1 in contents.inputs[0].signature[1:]:
        raise UserError(
            f"the model's input has the shape {contents.inputs[0].signature}, with sides that are "
            "not fixed: convert it for images of one size"
        )
    shape = contents.inputs[0].shape
    is_image = len(shape) == 4 and shape[0] == 1 and min(shape) >= 1
    if not is_image or shape[3] not in (1, 3):
        raise UserError(f"the model's input has the shape {shape}: expected one image, RGB or grey")
    if (longest := max(shape[1:3])) > MAX_SIDE:
        # Images of this size would be prepared before a runtime could refuse the model.
        raise UserError(f"the model's input has {longest} pixels a side: at most {MAX_SIDE}")
    return shape[1], shape[2], shape[3]


def takes_image(contents: Contents) -> bool:
    """Whether the only input is one image, and there is one output."""
    try:
        image_shape(contents)
    except UserError:
        return False
    return True


def gives_masks(contents: Contents) -> bool:
    """Whether the output has logits for each pixel of the image, (1, height, width, classes)."""
    size = image_shape(contents)[:2]
    shape = contents.outputs[0].shape
    return len(shape) == 4 and shape[:3] == (1, *size)


def check_labels(
    contents: Contents, labels: int, *, per_pixel: bool | None = None, single: bool = False
) -> None:
    """Raises UserError unless the output has a logit for each label.

    Args:
      contents: contents of a file that passes `image_shape`.
      labels: number of labels.
      per_pixel: whether there must be logits for each pixel of the image; None allows both.
      single: whether one value may decide between two labels, see `two_classes`.
    """
    shape = contents.outputs[0].shape
    if single and labels == 2 and shape[-1:] == (1,):
        labels = 1
    masks = gives_masks(contents) if per_pixel is None else per_pixel
    size = image_shape(contents)[:2]
    if shape[-1:] == (1,) and labels == 2:
        raise UserError(
            "the output is one value for two labels: export the Keras model here, with a value for "
            "each label"
        )
    if shape != ((1, *size, labels) if masks else (1, labels)):
        where = "each pixel" if masks else "the whole image"
        raise UserError(
            f"the output has the shape {shape}, but there are {labels} labels for {where}"
        )


def check_pixel_classifier(
    contents: Contents,
    classes: int,
    *,
    floats: bool = False,
    per_pixel: bool = False,
    exact: bool = True,
) -> None:
    """Raises UserError unless the file is int8 and its input is one image as pixel - 128.

    Args:
      contents: contents of the file.
      classes: number of labels for its logits.
      floats: whether layers between input and output may be in float.
      per_pixel: whether there are logits for each pixel of the image.
      exact: whether scale and zero point of the input must be those of files exported here. The
        input of others is checked by `pixel_rule.check_takes_pixels`.
    """
    check_full_int8(contents, floats=floats)
    image_shape(contents)
    (image,) = contents.inputs
    if exact and (image.scales, image.zero_points) != ((1 / 128,), (0,)):
        raise UserError(
            f"the int8 input has scale {image.scales} and zero point {image.zero_points} instead "
            "of 1/128 and 0: the model must take pixel / 128 - 1 as its float input"
        )
    check_labels(contents, classes, per_pixel=per_pixel)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


class _BoundedReader:
    """Copies numbers and names from a file, in total at most `MAX_DETAILS`.

    Each copy is counted because in a forged file many tensors can share one long vector.
    """

    def __init__(self) -> None:
        self._left = MAX_DETAILS

    def numbers(self, array: Any) -> tuple:
        """Copies a flatbuffer vector; flatbuffers returns the number 0 for an absent one."""
        if not hasattr(array, "tolist"):
            return ()
        self._count(array.size)
        return tuple(array.tolist())

    def text(self, name: bytes | None) -> str:
        """Copies a flatbuffer string."""
        self._count(len(name or b""))
        return (name or b"").decode()

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UserError(
                f"the file has more than {MAX_DETAILS} letters and numbers in names, shapes and "
                "scales, which is the limit: give a model for small devices"
            )


def _builtin(code: Any, builtins: dict[int, str]) -> str:
    # The first version of the schema stored this in one byte; older files have only that field.
    return builtins[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]


def _operator(code: Any, builtins: dict[int, str], reader: _BoundedReader) -> str:
    name = _builtin(code, builtins)
    return reader.text(code.CustomCode()) if name == "CUSTOM" else name


def _tensor(
    root: Any, tensor: Any, types: dict[int, str], producer: str | None, reader: _BoundedReader
) -> Tensor:
    quantization = tensor.Quantization()
    # Reading the data raises an error if the file is truncated.
    data = root.Buffers(tensor.Buffer()).DataAsNumpy()
    scales = reader.numbers(quantization.ScaleAsNumpy()) if quantization else ()
    if not all(0 <= scale < math.inf for scale in scales):
        raise ValueError("a scale is negative, infinite or not a number")
    return Tensor(
        name=reader.text(tensor.Name()),
        type=types[tensor.Type()],
        shape=reader.numbers(tensor.ShapeAsNumpy()),
        scales=scales,
        zero_points=reader.numbers(quantization.ZeroPointAsNumpy()) if quantization else (),
        constant=getattr(data, "size", 0) > 0,
        producer=producer,
        signature=reader.numbers(tensor.ShapeSignatureAsNumpy()),
    )

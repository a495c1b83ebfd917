"""int8 in two steps: a float file that holds every tensor's range, and the int8 file made of it.

The ordinary conversion does both at once. Apart, ranges can be changed in between and single
operators stay in float, and a file costs milliseconds rather than a conversion. With nothing
changed the file computes what the ordinary conversion's does, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from efficientnet_elite.errors import UserError

from . import convert
from .capture import captured
from .formats import INT8, Format
from .inspect import DEGENERATE_SCALE

if TYPE_CHECKING:
    import keras

Range = tuple[float, float]
# What a range that was empty for all calibration images becomes. Whatever the tensor holds is then
# rounded to zero, which it was; any width does that lets its consumers' int32 biases fit.
DEAD_RANGE: Range = (0.0, 1.0)


@dataclass(frozen=True)
class Calibrated:
    """A float network whose tensors' ranges are known.

    Attributes:
      content: of a .tflite file, with the ranges in its tensors' quantization parameters.
      ranges: least and greatest value of each activation over the calibration images, by the
        tensor's name.
      operators: the tensor that each operator computes, by name, in the order of execution.
    """

    content: bytes
    ranges: Mapping[str, Range]
    operators: tuple[str, ...]


def calibrate(model: keras.Model, images: np.ndarray) -> Calibrated:
    """Measures the ranges of all activations.

    Args:
      model: as `convert.to_tflite` takes it.
      images: (N, height, width, channels), float32 within [convert.INPUT_MIN, convert.INPUT_MAX].

    Raises:
      UserError: the converter cannot convert the model.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = convert.to_calibrated(model, images)
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    ranges = {
        name: (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for name, tensor in zip(names, graph.tensors, strict=True)
        if tensor.quantization is not None and tensor.quantization.min is not None
    }
    operators = tuple(names[output] for step in graph.operators for output in step.outputs)
    return Calibrated(content, ranges, operators)


def quantize(
    calibrated: Calibrated,
    *,
    ranges: Mapping[str, Range] | None = None,
    keep_float: Collection[str] = (),
    form: Format = INT8,
) -> bytes:
    """The int8 file that ranges make of a network.

    Args:
      calibrated: the network.
      ranges: other ranges than the measured ones, by the tensor's name; those that are not named
        stay.
      keep_float: names of the tensors whose operators stay in float, between a DEQUANTIZE and a
        QUANTIZE each.
      form: int8, with any interface.

    Returns:
      The file's content.

    Raises:
      UserError: the quantizer cannot quantize the model.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    interface = getattr(tf, form.interface)
    with captured() as chatter:
        try:
            return mlir_quantize(
                _with_ranges(calibrated.content, ranges) if ranges else calibrated.content,
                fully_quantize=True,
                input_data_type=interface,
                output_data_type=interface,
                denylisted_nodes=set(keep_float),
            )
        except Exception as error:  # the quantizer has no common base for what it raises
            reason = " ".join(f"{error} {chatter()}".split())
            raise UserError(f"TFLite cannot quantize the model: {reason}") from error


def revived(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Those of the ranges that are so narrow that their scales would be degenerate, widened."""
    return {name: DEAD_RANGE for name, both in ranges.items() if _is_dead(both)}


def _is_dead(both: Range) -> bool:
    low, high = min(both[0], 0.0), max(both[1], 0.0)
    return (high - low) / 255 < DEGENERATE_SCALE


def _with_ranges(content: bytes, ranges: Mapping[str, Range]) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    for tensor in model.subgraphs[0].tensors:
        both = ranges.get(tensor.name.decode())
        if both is not None:
            tensor.quantization.min, tensor.quantization.max = ([value] for value in both)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

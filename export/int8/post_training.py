"""Post-training quantization of a float32 file whose activation ranges are already known.

TFLite's converter calibrates and quantizes in one call, but it finds wrong ranges. Some of LiteRT's
operators, such as ADD and LOGISTIC, overwrite their input with their output if nothing else reads
the input. The converter then records the range of the output as that of the input. For example, a
branch that is added to a residual gets the range of the sum, and is therefore quantized more
coarsely than necessary. Here `calibration` finds the ranges with an interpreter that keeps all
tensors, and this module writes them into the file and quantizes it. With the converter's ranges,
the quantized files would compute exactly what the converter's files compute. After that `rounding`
and `bias_correction` choose weights and biases that lose less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import rewrite
from efficientnet_elite.export.formats import Format
from efficientnet_elite.export.runtimes.isolated import captured

from . import bias_correction, rounding

Range = tuple[float, float]  # the least and the greatest value of a tensor
# The float input is pixel / 128 - 1. With this range the int8 input has scale 1/128 and zero point
# 0, so that it is pixel - 128: an integer offset, without any rounding.
INPUT_RANGE: Range = (-1.0, 127 / 128)


@dataclass(frozen=True)
class Observed:
    """What a float32 file does with the representative data set, which int8 files shall do, too.

    Attributes:
      inputs: what `rounding.PositionSample` collected.
      logits: what `bias_correction.MeanLogits` collected.
    """

    inputs: Mapping[str, rounding.LayerInputs]
    logits: bias_correction.Reference | None


def with_ranges(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """Writes ranges of tensors into a float32 file, from which the quantizers read them.

    Args:
      model: the content of a float32 file.
      ranges: tensor's name to range; the other tensors are left unchanged.

    Returns:
      The content of the float32 file with these ranges.
    """
    from ai_edge_litert import schema_py_generated as schema

    tree = rewrite.tree_of(model)
    for tensor in tree.subgraphs[0].tensors:
        ends = ranges.get(tensor.name.decode())
        if ends is not None:
            tensor.quantization = tensor.quantization or schema.QuantizationParametersT()
            tensor.quantization.min, tensor.quantization.max = ([value] for value in ends)
    return rewrite.packed(tree)


def quantize_file(
    model: bytes,
    form: Format,
    keep_float: Collection[str] = (),
    observed: Observed | None = None,
) -> bytes:
    """Quantizes a float32 file that contains the ranges of its activations.

    Args:
      model: the content of the file, as `with_ranges` returns it.
      form: int8 or int16x8.
      keep_float: names of the output tensors of operators that stay in float32, between a
        DEQUANTIZE and a QUANTIZE; for int8 only.
      observed: for weights and biases that keep the layers' outputs; None for the quantizer's own.

    Returns:
      The content of the quantized file.

    Raises:
      UserError: the quantizer cannot quantize the model.
    """
    from tensorflow.lite.python.convert import deduplicate_readonly_buffers

    with captured() as messages:
        try:
            content = (
                _int16x8(model) if form.weights == "int16x8" else _int8(model, form, keep_float)
            )
            if observed is not None:
                content = rounding.rounded(bytes(content), model, observed.inputs)
                content = bias_correction.corrected(content, observed.logits)
            return bytes(deduplicate_readonly_buffers(content))
        except Exception as error:  # the quantizers' errors have no common base class
            reason = " ".join(f"{error} {messages()}".split())
            raise UserError(f"TFLite cannot quantize the model: {reason}") from error


def _int8(model: bytes, form: Format, keep_float: Collection[str]) -> bytes:
    """Quantizes to int8 with TFLite's MLIR quantizer, which the converter uses too."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    interface = getattr(tf, form.interface)
    return mlir_quantize(
        model,
        input_data_type=interface,
        output_data_type=interface,
        denylisted_nodes=set(keep_float),
    )


def _int16x8(model: bytes) -> bytes:
    """Quantizes with TFLite's older quantizer, the only one that supports int16."""
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    return Calibrator(model).calibrate_and_quantize(
        lambda: iter(()),  # without images it uses the ranges in the file
        input_type=tf.float32,
        output_type=tf.float32,
        allow_float=False,
        activations_type=tf.int16,
        bias_type=tf.int64,
    )

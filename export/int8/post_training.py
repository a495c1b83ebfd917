"""Post-training quantization of a float32 file, step by step: measure ranges, write them, quantize.

TFLite's converter does it all at once, and measures wrongly: LiteRT's ADD, LOGISTIC and others
compute over their input where nobody else reads it, and the converter then takes the output's range
for the input's. A branch that goes into a residual sum so gets the range of the sum, and with it
coarser steps than its own values need. Here ranges are those of an interpreter that keeps all
tensors. With the converter's ranges the files would compute what the converter's own do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from efficientnet_elite.errors import UserError
from efficientnet_elite.export.formats import Format
from efficientnet_elite.export.runtimes.isolated import captured

Range = tuple[float, float]
# The float input is pixel / 128 - 1. Its range gives the int8 input scale 1/128 and zero point 0,
# so that it is pixel - 128: a change of type, not a pass of arithmetic over the image.
INPUT_RANGE: Range = (-1.0, 127 / 128)


def with_ranges(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """A float32 file's content with ranges of tensors, by name, in place of those it had."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    for tensor in parsed.subgraphs[0].tensors:
        both = ranges.get(tensor.name.decode())
        if both is not None:
            tensor.quantization = tensor.quantization or schema.QuantizationParametersT()
            tensor.quantization.min, tensor.quantization.max = ([value] for value in both)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def quantized(model: bytes, form: Format, keep_float: Collection[str] = ()) -> bytes:
    """The quantized file that a float32 file with ranges becomes.

    Args:
      model: its content, see `with_ranges`.
      form: int8 or int16x8.
      keep_float: in int8: names of the tensors whose operators stay in float, between a DEQUANTIZE
        and a QUANTIZE each.

    Raises:
      UserError: the quantizer cannot quantize the model.
    """
    from tensorflow.lite.python.convert import deduplicate_readonly_buffers

    with captured() as chatter:
        try:
            content = (
                _int16x8(model) if form.weights == "int16x8" else _int8(model, form, keep_float)
            )
            return bytes(deduplicate_readonly_buffers(content))
        except Exception as error:  # the quantizers have no common base for what they raise
            reason = " ".join(f"{error} {chatter()}".split())
            raise UserError(f"TFLite cannot quantize the model: {reason}") from error


def _int8(model: bytes, form: Format, keep_float: Collection[str]) -> bytes:
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
    """By TFLite's older quantizer, the only one that knows 16 bit."""
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    return Calibrator(model).calibrate_and_quantize(
        lambda: iter(()),  # no images: the ranges in the file stand
        input_type=tf.float32,
        output_type=tf.float32,
        allow_float=False,
        activations_type=tf.int16,
        bias_type=tf.int64,
    )

"""Keras to TFLite: float32, full int8 and other formats, static batch of one, logits out.

The model's weights become constants of one traced function, which is saved once and converted to
each format; int8 and int16x8 are made of the float32 file (`post_training`).
`TFLiteConverter.from_keras_model` gives the same operators, but its variables cost it several times
longer. The trace fixes the batch size, so that the shape arithmetic of a model built for any batch
size folds away.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export.formats import FLOAT32, INT8, Format
from efficientnet_elite.export.runtimes.isolated import captured

from . import post_training
from .calibration import activation_ranges
from .choices import OUTPUTS

if TYPE_CHECKING:
    import keras
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def with_output(model: keras.Model, output: str) -> keras.Model:
    """A model that ends with logits or with softmax.

    Args:
      model: functional, with one output (batch, classes). Where a softmax is the activation of its
        last layer, and is to go, that layer is changed.
      output: one of `OUTPUTS`.
    """
    import keras

    if output not in OUTPUTS:
        raise ValueError(f"{output!r} is no output: {', '.join(OUTPUTS)}")
    if ends_in_softmax(model) == (output == "softmax"):
        return model
    if output == "softmax":
        probabilities = keras.layers.Softmax(name="probabilities")(model.outputs[0])
        return keras.Model(model.inputs[0], probabilities, name=model.name)
    last, source = _last(model)
    if isinstance(last, keras.Model):
        return keras.Model(model.inputs[0], with_output(last, output)(source), name=model.name)
    if hasattr(last, "kernel"):
        last.activation = keras.activations.linear
        return model
    return keras.Model(model.inputs[0], source, name=model.name)


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether the last layer is a softmax, or has it as its activation."""
    import keras

    last, _ = _last(model)
    if isinstance(last, keras.Model):
        return ends_in_softmax(last)
    activation = getattr(last, "activation", None)
    return activation is keras.activations.softmax or type(last).__name__ == "Softmax"


def _last(model: keras.Model) -> tuple[Any, Any]:
    """The last layer or operation, and the tensor that it reads."""
    last, index, _ = model.outputs[0]._keras_history
    sources = last._inbound_nodes[index].input_tensors
    return last, sources[0] if sources else None


def to_tflite(model: keras.Model, *, calibration: np.ndarray | None) -> bytes:
    """Converts a model to float32, or to int8 from input to output.

    Args:
      model: float32, one input (batch, height, width, channels) and one output (batch, classes);
        the batch size may be static or not.
      calibration: None for float32; else images (N, height, width, channels), float32 within
        `post_training.INPUT_RANGE`, whose activations set the int8 ranges.

    Returns:
      The file's content. The same model and images give the same bytes.

    Raises:
      UserError: the converter cannot convert the model; the message is the converter's own.
      ValueError: the model or the images are not as described.
    """
    if calibration is not None:
        return to_tflite_formats(model, calibration, (INT8,))[0]
    with _saved(model) as folder:
        return _convert(folder, FLOAT32)


def to_tflite_pair(model: keras.Model, calibration: np.ndarray) -> tuple[bytes, bytes]:
    """The float32 and the int8 file of a model, as `to_tflite`, for the price of one trace."""
    float_model, int8_model = to_tflite_formats(model, calibration, (FLOAT32, INT8))
    return float_model, int8_model


def to_tflite_formats(
    model: keras.Model, calibration: np.ndarray | None, formats: Sequence[Format]
) -> list[bytes]:
    """A model's files in several formats, as `to_tflite`, for the price of one trace.

    Only formats that need no calibration do without images.
    """
    if calibration is not None:
        check_images(model, calibration)
    # What needs calibration is made of the float32 file.
    converted = dict.fromkeys(FLOAT32 if form.needs_calibration else form for form in formats)
    with _saved(model) as folder:
        files = {form: _convert(folder, form) for form in converted}
    if calibration is not None and not files.keys() >= set(formats):
        ranges = activation_ranges(files[FLOAT32], calibration, ["minmax"])["minmax"]
        with_ranges = post_training.with_ranges(files[FLOAT32], ranges)
        for form in formats:
            if form.needs_calibration:
                files[form] = post_training.quantized(with_ranges, form)
    return [files[form] for form in formats]


def check_images(model: keras.Model, images: np.ndarray) -> None:
    """ValueError where calibration images are not as `to_tflite` takes them."""
    if len(images) == 0 or images.shape[1:] != model.input_shape[1:]:
        raise ValueError(f"calibration images {images.shape} do not fit {model.input_shape}")
    low, high = post_training.INPUT_RANGE
    if not (images.min() >= low and images.max() <= high):
        raise ValueError(
            f"calibration images lie in [{images.min()}, {images.max()}]: expected pixel / 128 - 1"
        )


def check_float32(model: keras.Model) -> None:
    """UserError where a layer computes in another type."""
    wrong = [layer for layer in model.layers if layer.compute_dtype != "float32"]
    if wrong:
        raise UserError(
            f"layer {wrong[0].name} computes in {wrong[0].compute_dtype}, not in float32: build "
            "the network anew without mixed precision, and give it these weights"
        )


@contextlib.contextmanager
def _saved(model: keras.Model) -> Iterator[str]:
    """A folder with the model's inference as a SavedModel without variables."""
    import keras
    import tensorflow as tf

    check_float32(model)
    constants = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    if not all(np.isfinite(value).all() for values in constants for value in values):
        raise UserError(f"{model.name}: some weights are not finite numbers: its training diverged")

    def infer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, _ = model.stateless_call(*constants, image, training=False)
        return {name: outputs}

    name = "probabilities" if ends_in_softmax(model) else "logits"
    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    with tempfile.TemporaryDirectory() as folder:
        with captured():
            traced = tf.function(infer, autograph=False).get_concrete_function(image)
            # Nobody will train it, and swish's own gradients make saving and loading slow.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(tf.Module(), folder, signatures=traced, options=options)
        yield folder


def _convert(folder: str, form: Format) -> bytes:
    """The file of a SavedModel in a format without calibration."""
    import tensorflow as tf

    with captured() as chatter:
        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            # Never SELECT_TF_OPS: what only TensorFlow's own kernels can run is no use on a device.
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if form.weights != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if form.weights == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
        except Exception as error:  # the converter has no common base for what it raises
            reason = _reason(f"{error}\n{chatter()}") or f"{type(error).__name__}: {error}"
            raise UserError(f"TFLite cannot express the model: {reason}") from error


def _reason(text: str) -> str | None:
    """The first error in the compiler's output that says something."""
    found = re.findall(r"error: (?:loc\(.*\): )?(.+)", text)
    telling = [line for line in found if not line.startswith("failed while converting")]
    return " ".join(telling[0].split()) if telling else None

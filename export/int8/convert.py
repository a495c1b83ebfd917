"""Converts Keras models to TFLite, in float32, int8 and other formats, with a static batch of one.

- The weights become constants of one traced function, which is saved once and converted to each
  format. `TFLiteConverter.from_keras_model` gives the same operators, but takes several times
  longer because of its variables. The trace fixes the batch size, so that the shape arithmetic of a
  model for any batch size becomes constants.
- int8 and int16x8 files are made from the float32 file, by `post_training`.
- `with_output` makes a model end in logits or in softmax before it is converted.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite.config import AUTO
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.formats import FLOAT32, INT8, Format
from efficientnet_elite.export.runtimes.isolated import captured

from . import post_training, ranges
from .choices import OUTPUTS

if TYPE_CHECKING:
    import keras


def to_tflite(model: keras.Model, *, calibration: np.ndarray | None, method: str = AUTO) -> bytes:
    """Converts a model to float32, or to int8 from input to output.

    Args:
      model: float32, one input (batch, height, width, channels) and one output (batch, classes);
        the batch size may be static or not.
      calibration: None for float32. For int8 the representative data set (N, height, width,
        channels), float32 within `post_training.INPUT_RANGE`; its activations set the int8 ranges.
      method: how they do so, one of `choices.CALIBRATIONS`.

    Returns:
      The content of the `.tflite` file. The same model and images give the same bytes.

    Raises:
      UserError: the converter cannot convert the model, and the message has the converter's reason;
        or the model computes in another type than float32, or has weights that are not finite.
      ValueError: the images are not as described.
    """
    if calibration is not None:
        return to_tflite_formats(model, calibration, (INT8,), method)[0]
    with _saved(model) as folder:
        return _convert(folder, FLOAT32)


def to_tflite_pair(model: keras.Model, calibration: np.ndarray) -> tuple[bytes, bytes]:
    """Converts a model to float32 and to int8 like `to_tflite`, but traces it only once."""
    float_model, int8_model = to_tflite_formats(model, calibration, (FLOAT32, INT8))
    return float_model, int8_model


def to_tflite_formats(
    model: keras.Model,
    calibration: np.ndarray | None,
    formats: Sequence[Format],
    method: str = AUTO,
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
        network = ranges.calibrate(files[FLOAT32], calibration, method, others=False)
        content = post_training.with_ranges(network.content, network.ranges)
        for form in formats:
            if form.needs_calibration:
                files[form] = post_training.quantize_file(content, form, observed=network.observed)
    return [files[form] for form in formats]


def check_images(model: keras.Model, images: np.ndarray) -> None:
    """Raises ValueError if a representative data set is not as `to_tflite` takes it."""
    if len(images) == 0 or images.shape[1:] != model.input_shape[1:]:
        raise ValueError(f"calibration images {images.shape} do not fit {model.input_shape}")
    low, high = post_training.INPUT_RANGE
    if not (images.min() >= low and images.max() <= high):
        raise ValueError(
            f"calibration images lie in [{images.min()}, {images.max()}]: expected pixel / 128 - 1"
        )


def check_float32(model: keras.Model) -> None:
    """Raises UserError if a layer computes in another type than float32."""
    wrong = [layer for layer in model.layers if layer.compute_dtype != "float32"]
    if wrong:
        raise UserError(
            f"layer {wrong[0].name} computes in {wrong[0].compute_dtype}, not in float32: build "
            "the network anew without mixed precision, and give it these weights"
        )


@contextlib.contextmanager
def _saved(model: keras.Model) -> Iterator[str]:
    """Saves a model's inference as a SavedModel without variables, in a temporary folder.

    Yields:
      The path of the folder.
    """
    import keras
    import tensorflow as tf

    check_float32(model)
    constants = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    if not all(np.isfinite(value).all() for values in constants for value in values):
        raise UserError(
            f"{model.name}: some weights are not finite numbers: its training diverged; train it "
            "again with a lower learning rate"
        )

    def infer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, _ = model.stateless_call(*constants, image, training=False)
        return {name: outputs}

    name = "probabilities" if ends_in_softmax(model) else "logits"
    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    with tempfile.TemporaryDirectory() as folder:
        with captured():
            traced = tf.function(infer, autograph=False).get_concrete_function(image)
            # It is not trained any more, and the gradients of swish make saving and loading slow.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(tf.Module(), folder, signatures=traced, options=options)
        yield folder


def _convert(folder: str, form: Format) -> bytes:
    """Converts a SavedModel to a format that needs no calibration.

    Args:
      folder: path of the SavedModel.
      form: the format.

    Returns:
      The content of the `.tflite` file.

    Raises:
      UserError: the converter cannot convert the model.
    """
    import tensorflow as tf

    with captured() as messages:
        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            # Without SELECT_TF_OPS: devices do not have TensorFlow's own kernels.
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if form.weights != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if form.weights == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
        except Exception as error:  # the converter's errors have no common base class
            reason = _reason(f"{error}\n{messages()}") or f"{type(error).__name__}: {error}"
            raise UserError(f"TFLite cannot express the model: {reason}") from error


def _reason(text: str) -> str | None:
    """The first error in the compiler's output that names a cause; None if there is none."""
    errors = re.findall(r"error: (?:loc\(.*\): )?(.+)", text)
    causes = [line for line in errors if not line.startswith("failed while converting")]
    return " ".join(causes[0].split()) if causes else None


def with_output(model: keras.Model, output: str) -> keras.Model:
    """Makes a model end in logits or in softmax.

    Args:
      model: functional, with one output (batch, classes). If its last layer has softmax as its
        activation and logits are asked for, this layer of the model itself is changed.
      output: one of `OUTPUTS`.

    Returns:
      `model` if it ends so already, otherwise a model that shares its layers.

    Raises:
      ValueError: `output` is not one of `OUTPUTS`.
    """
    import keras

    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}, not one of: {', '.join(OUTPUTS)}")
    if ends_in_softmax(model) == (output == "softmax"):
        return model
    if output == "softmax":
        probabilities = keras.layers.Softmax(name="probabilities")(model.outputs[0])
        return keras.Model(model.inputs[0], probabilities, name=model.name)
    last, last_input = _last(model)
    if isinstance(last, keras.Model):
        return keras.Model(model.inputs[0], with_output(last, output)(last_input), name=model.name)
    if hasattr(last, "kernel"):
        last.activation = keras.activations.linear
        return model
    return keras.Model(model.inputs[0], last_input, name=model.name)


def with_two_logits(model: keras.Model) -> keras.Model:
    """Makes a model with one output for two classes end in two logits.

    The first logit is 0, and the second that of the output, so that their softmax is the sigmoid.

    Args:
      model: functional; it ends in a Dense layer with one unit, without activation or with a
        sigmoid, which may also be a layer of its own.

    Raises:
      UserError: the model ends in something else.
    """
    import keras

    last, last_input = _last(model)
    if isinstance(last, keras.Model):
        return keras.Model(model.inputs[0], with_two_logits(last)(last_input), name=model.name)
    if _is_sigmoid(last) and not hasattr(last, "kernel"):
        return with_two_logits(keras.Model(model.inputs[0], last_input, name=model.name))
    linear = getattr(last, "activation", None) is keras.activations.linear
    if not isinstance(last, keras.layers.Dense) or not (linear or _is_sigmoid(last)):
        raise UserError(
            f"the model gives one value, by {type(last).__name__} {last.name!r}: two classes need "
            "a Dense layer with one unit and a sigmoid"
        )
    config = {**last.get_config(), "units": 2, "activation": "linear", "name": f"{last.name}_two"}
    for key in ("kernel_constraint", "bias_constraint", "lora_rank", "quantization_config"):
        config.pop(key, None)
    both = keras.layers.Dense.from_config(config)
    outputs = both(last_input)
    both.set_weights([np.stack([0 * w[..., 0], w[..., 0]], -1) for w in last.get_weights()])
    return keras.Model(model.inputs[0], outputs, name=model.name)


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether a model's last layer is a softmax or has softmax as its activation."""
    import keras

    last = _very_last(model)
    activation = getattr(last, "activation", None)
    return activation is keras.activations.softmax or type(last).__name__ == "Softmax"


def ends_in_sigmoid(model: keras.Model) -> bool:
    """Whether a model's last layer is a sigmoid or has it as its activation."""
    return _is_sigmoid(_very_last(model))


def _is_sigmoid(layer: Any) -> bool:
    import keras

    activation = getattr(layer, "activation", None)
    return activation is keras.activations.sigmoid or type(layer).__name__ == "Sigmoid"


def _very_last(model: keras.Model) -> Any:
    """The last layer of a model, or of the models nested at its end."""
    import keras

    last, _ = _last(model)
    return _very_last(last) if isinstance(last, keras.Model) else last


def _last(model: keras.Model) -> tuple[Any, Any]:
    """A model's last layer or operation, and the tensor that it reads."""
    last, index, _ = model.outputs[0]._keras_history
    sources = last._inbound_nodes[index].input_tensors
    return last, sources[0] if sources else None

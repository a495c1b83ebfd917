"""Makes `.tflite` files as people have them: one perfect classifier, converted in many ways.

    python -m tests.support.foreign.make tests/support/foreign

Images brighter than the grey level 127.5 on average are of class 1 ("bright"), others of class 0.
The files differ in the pixel values that they take, their types, outputs and shapes; none was made
with this project's converter, and one was described with its metadata.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from efficientnet_elite.export.packages import android_metadata
from efficientnet_elite.export.pixel_rule import PixelRule

SIDE = 32
LABELS = ["dark", "bright"]
# (pixel / 255 - mean) / deviation
RULES = {
    "01": (0.0, 1.0),
    "11": (0.5, 0.5),
    "0255": (0.0, 1 / 255),
    "imagenet": (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])),
}
STEEP = 20.0


def network(rule: str, output: str = "logits", channels: int = 3, side: int | None = SIDE):
    """The classifier for images of a rule; `output` is logits, softmax, sigmoid, two or erf."""
    mean, deviation = (np.broadcast_to(value, channels) for value in RULES[rule])
    image = keras.Input((side, side, channels))
    conv = layers.Conv2D(1, 1)
    x = layers.GlobalAveragePooling2D()(conv(image))
    dense = layers.Dense(1 if output == "sigmoid" else 2)
    logits = dense(x)
    results = {
        "logits": lambda: logits,
        "softmax": lambda: layers.Softmax()(logits),
        "sigmoid": lambda: layers.Activation("sigmoid")(logits),
        "two": lambda: [logits, layers.Activation("tanh", name="age")(x)],
        "erf": lambda: keras.ops.erf(logits),
    }
    model = keras.Model(image, results[output]())
    kernel = (deviation / channels).reshape(1, 1, channels, 1)
    conv.set_weights([kernel.astype(np.float32), np.array([mean.mean()], np.float32)])
    both = np.array([[-STEEP, STEEP]]), np.array([STEEP / 2, -STEEP / 2])
    one = np.array([[STEEP]]), np.array([-STEEP / 2])
    dense.set_weights(one if output == "sigmoid" else both)
    return model


def images(rule: str, brightest: float, channels: int = 3):
    """A representative data set of all brightnesses up to `brightest`, from 0 to 1."""
    mean, deviation = RULES[rule]
    random = np.random.default_rng(0)
    for level in np.linspace(0, brightest, 40):
        pixels = (level * random.uniform(0.9, 1, (1, SIDE, SIDE, channels))).clip(0, brightest)
        pixels[0, 0, 0], pixels[0, 0, 1] = 0, brightest
        yield [((pixels - mean) / deviation).astype(np.float32)]


def converted(model, rule: str = "01", weights: str = "", io: str = "", brightest: float = 1.0,
              fixed: bool = False, flex: bool = False) -> bytes:  # fmt: skip
    """The file that TensorFlow's converter makes."""
    if fixed or weights == "int8":  # as from a SavedModel whose signature has a batch of one
        spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
        traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
        frozen = convert_variables_to_constants_v2(traced)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    else:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if weights == "int8":
        channels = model.input_shape[-1]
        converter.representative_dataset = lambda: images(rule, brightest, channels)
        if io:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    if flex:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    return converter.convert()


def files() -> dict[str, bytes]:
    """Name to content."""
    plain = converted(network("01"))
    described = android_metadata.with_metadata(
        converted(network("01", "softmax")), name="bright", labels=LABELS,
        rule=PixelRule.normalising([0.0], [255.0]),
    )  # fmt: skip
    rescaling = keras.Input((SIDE, SIDE, 3))
    inside = keras.Model(rescaling, network("01")(layers.Rescaling(1 / 255)(rescaling)))
    return {
        "float_01": plain,
        "float_01_softmax": converted(network("01", "softmax"), fixed=True),
        "float_01_described": described,
        "float_11": converted(network("11")),
        "float_0255": converted(inside),
        "float_imagenet": converted(network("imagenet")),
        "float16_01": converted(network("01"), weights="float16"),
        "dynamic_11": converted(network("11"), weights="dynamic"),
        "int8_floats_01": converted(network("01"), weights="int8"),
        "int8_01": converted(network("01"), weights="int8", io="int8"),
        "int8_11_softmax": converted(network("11", "softmax"), "11", weights="int8", io="int8"),
        "int8_0255": converted(inside, "0255", weights="int8", io="int8", fixed=True),
        "int8_imagenet": converted(network("imagenet"), "imagenet", weights="int8", io="int8"),
        "int8_dim": converted(network("01"), weights="int8", io="int8", brightest=0.7),
        "uint8_01_softmax": converted(network("01", "softmax"), weights="int8", io="uint8"),
        "uint8_11": converted(network("11"), "11", weights="int8", io="uint8"),
        "float_01_sigmoid": converted(network("01", "sigmoid")),
        "int8_01_sigmoid": converted(network("01", "sigmoid"), weights="int8", io="int8"),
        "two_outputs": converted(network("01", "two")),
        "flex": converted(network("01", "erf"), flex=True),
        "any_side": converted(network("01", side=None)),
        "grey": converted(network("01", channels=1)),
    }


def main(folder: Path) -> None:
    """Writes all files, and labels.txt."""
    for name, content in files().items():
        (folder / f"{name}.tflite").write_bytes(content)
        print(name, len(content))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

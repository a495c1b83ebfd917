"""SavedModel folders: what is refused before anything runs, and what comes out of the others."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import from_keras, inspect, keras_file, saved_model
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.runtimes import runtime

SIDE, CLASSES = 16, 4
LABELS = tuple("abcd")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


def saved(folder: Path, function, *specs, name="serving_default") -> Path:
    """A SavedModel of a function, written by TensorFlow."""
    module = tf.Module()
    module.variable = tf.Variable(tf.ones((3, CLASSES)))
    traced = tf.function(lambda *args: {"out": function(module, *args)}, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={name: traced})
    return folder


def exported(model: keras.Model, folder: Path, batch: int | None) -> Path:
    """The SavedModel that Keras writes of a model."""
    signature = [keras.InputSpec(shape=(batch, SIDE, SIDE, 3), dtype="float32")]
    model.export(folder / "net", verbose=False, input_signature=signature)
    return folder / "net"


def image_of(*shape, dtype=tf.float32):
    return tf.TensorSpec(shape, dtype, name="image")


def means(module, image):
    return tf.matmul(tf.reduce_mean(image, [1, 2]), module.variable)


@pytest.mark.parametrize("batch", [None, 1])
def test_the_layer_gives_the_logits_of_the_model(model, pixels, tmp_path, batch):
    folder = exported(model, tmp_path, batch)
    loaded = saved_model.load(folder)
    logits = np.asarray(loaded(pixels.astype(np.float32)))
    np.testing.assert_allclose(tf.nn.softmax(logits), model(pixels), atol=1e-5)
    assert logits.max() > 1 or logits.min() < 0, "logits, no probabilities"
    assert loaded.output_shape == (None, CLASSES)


def test_a_sigmoid_becomes_two_logits(pixels, tmp_path):
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(1, activation="sigmoid")(x))
    loaded = convert.with_two_logits(saved_model.load(exported(model, tmp_path, None)))
    both = tf.nn.softmax(np.asarray(loaded(pixels.astype(np.float32))))
    np.testing.assert_allclose(both[:, 1:], model(pixels), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 1])
def test_a_saved_model_goes_the_way_of_a_keras_file(model, pixels, tmp_path, batch):
    """Its files give the logits of the Keras model that it was made of, softmax left out."""
    folder = exported(model, tmp_path, batch)
    assert keras_file.check(folder) == (SIDE, SIDE, 3)
    probabilities = np.asarray(model(pixels.astype(np.float32)))
    truth = probabilities.argmax(-1)
    images = from_keras.Images(pixels, pixels[:0], truth[:0], pixels, truth)
    asked = from_keras.Request("net", str(tmp_path / "out"), LABELS, takes="0..255")
    sidecar = from_keras.export_file(folder, asked, images)
    assert sidecar["verification"]["float_accuracy"] == 1
    assert sidecar["verification"]["int8_accuracy"] > 0.8
    assert sidecar["details"]["keras_file"] == {"name": "net", "sha256": saved_model.digest(folder)}
    content = (tmp_path / "out/net/net.float32.tflite").read_bytes()
    logits = runtime.run(content, (pixels / np.float32(128) - 1).astype(np.float32))
    np.testing.assert_allclose(tf.nn.softmax(logits), probabilities, atol=1e-4)
    contents = inspect.read((tmp_path / "out/net/net.int8.tflite").read_bytes())
    inspect.check_pixel_classifier(contents, CLASSES)
    with pytest.raises(UserError, match=r"but with SavedGraph 'graph': say with --input"):
        from_keras.export_file(
            folder, from_keras.Request("net", str(tmp_path / "other"), LABELS), images
        )


def reads_a_file(module, image):
    text = tf.io.read_file("/etc/hostname")
    return means(module, image) + tf.cast(tf.strings.length(text), tf.float32)


def calls_python(module, image):
    found = tf.numpy_function(lambda x: x, [image], tf.float32)
    return means(module, tf.reshape(found, (1, SIDE, SIDE, 3)))


def decodes(module, image):
    return means(module, image) + tf.random.normal((1, CLASSES))


@pytest.mark.parametrize(
    ("function", "operation"),
    [(reads_a_file, "ReadFile"), (calls_python, "PyFunc"), (decodes, "RandomStandardNormal")],
)
def test_graphs_that_do_more_than_compute_are_refused(tmp_path, function, operation):
    folder = saved(tmp_path / "net", function, image_of(1, SIDE, SIDE, 3))
    with pytest.raises(UserError, match=f"it has the operation {operation}, which is none"):
        keras_file.check(folder)


def test_other_signatures_are_refused(tmp_path):
    uint8 = image_of(None, SIDE, SIDE, 3, dtype=tf.uint8)
    for number, (spec, words) in enumerate(
        [
            (uint8, "its input is uint8"),
            (image_of(None, None, None, 3), "its input is float"),
            (image_of(8, SIDE, SIDE, 3), "its input is float"),
            (image_of(None, 3), "its input is float"),
        ]
    ):

        def function(module, image):
            return tf.reduce_mean(tf.cast(image, tf.float32)) * module.variable[:1]

        with pytest.raises(UserError, match=words):
            keras_file.check(saved(tmp_path / str(number), function, spec))
    two = (image_of(1, SIDE, SIDE, 3), tf.TensorSpec((1,), tf.float32, name="other"))
    folder = saved(
        tmp_path / "two", lambda module, image, other: means(module, image) + other, *two
    )
    with pytest.raises(UserError, match="2 inputs and 1 outputs"):
        keras_file.check(folder)
    folder = saved(tmp_path / "named", means, image_of(1, SIDE, SIDE, 3), name="predict")
    with pytest.raises(UserError, match="it has no signature serving_default"):
        keras_file.check(folder)


def test_damaged_folders(tmp_path):
    folder = saved(tmp_path / "net", means, image_of(None, SIDE, SIDE, 3))
    assert keras_file.check(folder) == (SIDE, SIDE, 3)
    (folder / "variables/variables.index").write_bytes(b"nothing")
    with pytest.raises(UserError, match="TensorFlow cannot load it") as caught:
        saved_model.load(folder)
    assert "\n" not in str(caught.value)
    (folder / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"saved_model.pb is damaged"):
        keras_file.check(folder)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    model = keras.Model(image, layers.Dense(10)(layers.GlobalMaxPooling2D()(x)))
    model.export(tmp_path / "net", verbose=False)
    arguments = ["export", f"--model={tmp_path / 'net'}", "--dataset=digits", "--input=-1..1"]
    assert cli.main([*arguments, "--remedies=equalize"]) == 1
    assert "a SavedModel has none: leave them out" in capsys.readouterr().err
    assert cli.main([*arguments, "--target=c", f"--out={tmp_path / 'out'}"]) == 0
    sidecar = json.loads((tmp_path / "out/net/net.json").read_text())
    assert sidecar["files"]["int8"]["bytes"] < 10_000
    assert list((tmp_path / "out/net").rglob("*.c"))

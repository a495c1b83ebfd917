"""Normalisation absorbed into the first convolution: the same function, borders included."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from efficientnet_elite.export import inspect, keras_file
from efficientnet_elite.export.int8 import absorb, convert, fronts
from efficientnet_elite.export.int8.choices import INPUTS
from efficientnet_elite.export.runtimes import runtime
from tests.support import tiny_tflite

MEAN, VARIANCE = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]


def imagenet(x):
    return layers.Normalization(mean=MEAN, variance=VARIANCE)(layers.Rescaling(1 / 255)(x))


def padded(x):
    return layers.ZeroPadding2D(((0, 1), (2, 1)))(imagenet(x))


def augmented(x):
    return imagenet(layers.RandomFlip()(x))


def unit(x):
    return layers.Rescaling(1 / 255)(x)


def symmetric(x):
    return layers.Rescaling(1 / 127.5, -1)(x)


def grey(x):
    return layers.Rescaling(1 / 64, -2)(x)


def augmented_by_a_model(x):
    """As the tutorials write it: a Sequential of augmentation alone, then preprocess_input."""
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomContrast(0.2)])
    return keras.applications.mobilenet_v2.preprocess_input(augmentation(x))


def bgr(x):
    return keras.applications.resnet50.preprocess_input(x)


def torch(x):
    return keras.applications.densenet.preprocess_input(x)


def divided(x):
    return 2.0 * (x / 255.0) - 0.25


def cropped(x):
    return layers.CenterCrop(28, 28)(unit(x))


def resized(x):
    return layers.Rescaling(1 / 255)(layers.Resizing(24, 24)(x))


def classifier(front, padding: str = "same", *, stride: int = 2, nested: bool = False):
    """A network whose output depends on every border: the features are not pooled."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = front(image)
    inner = keras.Input(x.shape[1:]) if nested else x
    y = layers.Conv2D(4, 3, strides=stride, padding=padding, use_bias=padding == "valid")(inner)
    y = layers.Activation("swish")(layers.BatchNormalization()(y))
    if nested:
        y = keras.Model(inner, y)(x)
    return keras.Model(image, layers.Dense(10)(layers.Flatten()(y)))


CASES = {
    "shifted by pixels": (grey, "same", 2, False, "kernel and bias"),
    "no padding": (imagenet, "valid", 2, False, "kernel and bias"),
    "zero at pixel 0": (unit, "same", 2, False, "padding value"),
    "zero between pixels": (symmetric, "same", 1, False, "constant channel"),
    "each channel its own": (imagenet, "same", 2, False, "constant channel"),
    "padded by a layer": (padded, "valid", 2, False, "constant channel"),
    "augmentation first": (augmented, "same", 2, False, "constant channel"),
    "augmentation in a model": (augmented_by_a_model, "same", 2, False, "constant channel"),
    "blue first": (bgr, "same", 2, False, "constant channel"),
    "as in PyTorch": (torch, "same", 2, False, "constant channel"),
    "arithmetic": (divided, "valid", 2, False, "kernel and bias"),
    "cropped": (cropped, "same", 2, False, "padding value"),
    "resized": (resized, "same", 2, False, "padding value"),
    "within a nested model": (imagenet, "same", 2, True, "constant channel"),
}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Real images, brightened so that no border is black."""
    return np.clip(tiny_tflite.digits()[0][:20].astype(int) + 37, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_stay_those_of_the_keras_model(case, pixels, tmp_path):
    front, padding, stride, nested, how = case
    model = classifier(front, padding, stride=stride, nested=nested)
    assert fronts.normalises(model)
    absorbed = absorb.absorb(model, "0..255")
    assert absorbed.how == how
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    got = np.asarray(absorbed.model(tiny_tflite.normalised(pixels), training=False))
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.ptp(expected), rtol=0)
    model.save(tmp_path / "network.keras")  # which writes tuples as lists
    assert absorb.absorb(keras_file.load(tmp_path / "network.keras"), "0..255").how == how


def test_the_padding_matters(pixels):
    """Folding as if zeros were zeros would be noticed: the test above can fail."""
    model = classifier(imagenet)
    (kernel,) = model.layers[3].get_weights()
    naive = classifier(lambda x: x, "same")
    naive.set_weights(model.get_weights()[-len(naive.get_weights()) :])
    scale = 128 / 255 / np.sqrt(VARIANCE)
    offset = (128 / 255 - np.array(MEAN)) / np.sqrt(VARIANCE)
    x = (tiny_tflite.normalised(pixels) * scale + offset).astype(np.float32)
    wrong = (tiny_tflite.normalised(pixels) * scale).astype(np.float32)
    assert kernel.shape == (3, 3, 3, 4)
    right = np.asarray(model(pixels.astype(np.float32), training=False))
    np.testing.assert_allclose(np.asarray(naive(x)), right, atol=1e-5)
    assert np.abs(np.asarray(naive(wrong)) - right).max() > 0.01 * np.ptp(right)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero at pixel 0", "each channel its own"])
def test_files_take_the_pixel_and_cost_one_operator(name, pixels):
    front, padding, stride, nested, _ = CASES[name]
    model = classifier(front, padding, stride=stride, nested=nested)
    images = tiny_tflite.normalised(pixels)
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    counts = {}
    networks = (
        absorb.absorb(model, "0..255").model,
        absorb.with_normalisation_operators(model, "0..255"),
    )
    for how, network in zip(("absorbed", "operators"), networks, strict=True):
        in_float, int8 = convert.to_tflite_pair(network, images)
        got = runtime.run(in_float, images)
        assert np.abs(got - expected).max() < 1e-5 * np.ptp(expected)
        noise = runtime.run(int8, images) - expected
        assert np.square(noise).sum() < 1e-2 * np.square(expected).sum()
        inspect.check_pixel_classifier(inspect.read(int8), 10)
        counts[how] = sum(inspect.operators(int8).values())
    plain = convert.to_tflite(classifier(lambda x: x), calibration=images)
    assert counts["absorbed"] <= sum(inspect.operators(plain).values()) + 1
    assert counts["operators"] > counts["absorbed"]


def sequential(*front: keras.Layer) -> keras.Sequential:
    stem = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")
    return keras.Sequential(
        [keras.Input((32, 32, 3)), *front, stem, layers.Flatten(), layers.Dense(10)]
    )


@pytest.mark.parametrize("kind", ["plain", "with softmax", "around a model", "within a model"])
def test_a_sequential_is_absorbed_like_its_graph(pixels, kind):
    first = layers.Dropout(0.1), layers.Rescaling(1 / 255)
    if kind == "around a model":
        model = keras.Sequential([keras.Input((32, 32, 3)), *first, classifier(lambda x: x)])
    elif kind == "within a model":
        image = keras.Input((32, 32, 3))
        model = keras.Model(image, sequential(*first)(image))
    else:
        model = sequential(*first)
        model = convert.with_output(model, "softmax") if kind == "with softmax" else model
    assert fronts.normalises(model)
    absorbed = absorb.absorb(model, "0..255")
    assert absorbed.how == "padding value"
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    got = np.asarray(absorbed.model(tiny_tflite.normalised(pixels), training=False))
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.ptp(expected), rtol=0)


def test_a_convolution_that_others_read_too_is_left_as_it_is(pixels):
    image = keras.Input((32, 32, 3))
    stem = layers.Conv2D(4, 3, padding="same")
    once = stem(layers.Rescaling(1 / 255)(image))
    twice = stem(once[..., :3])
    model = keras.Model(image, layers.Dense(10)(layers.Flatten()(twice)))
    assert absorb.absorb(model, "0..255").how == "operators"


def test_what_cannot_take_it_in_keeps_it_as_operators(pixels):
    image = keras.Input((32, 32, 3))
    x = layers.DepthwiseConv2D(3, padding="same")(imagenet(image))
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    absorbed = absorb.absorb(model, "0..255")
    assert absorbed.how == "operators"
    expected = np.asarray(model(pixels.astype(np.float32)))
    got = np.asarray(absorbed.model(tiny_tflite.normalised(pixels)))
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(("takes", "how"), [("0..1", "padding value"), ("elite", None)])
def test_a_network_without_normalisation_takes_what_is_said(pixels, takes, how):
    model = classifier(lambda x: x)
    assert not fronts.normalises(model)
    absorbed = absorb.absorb(model, takes)
    assert absorbed.how == (how or "nothing to absorb")
    scale, offset = INPUTS[takes]
    images = tiny_tflite.normalised(pixels)
    expected = np.asarray(model(images * scale + offset))
    np.testing.assert_allclose(np.asarray(absorbed.model(images)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "layer", "activation", "nested"])
def test_the_output_is_what_was_asked_for(kind):
    image = keras.Input((4,))
    if kind == "dense":
        probabilities = layers.Dense(3, activation="softmax")(image)
    elif kind == "nested":
        inner = keras.Input((4,))
        probabilities = keras.Model(inner, layers.Softmax()(layers.Dense(3)(inner)))(image)
    else:
        last = layers.Softmax() if kind == "layer" else layers.Activation("softmax")
        probabilities = last(layers.Dense(3)(image))
    model = keras.Model(image, probabilities)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = np.asarray(model(x))
    assert convert.with_output(model, "softmax") is model
    logits = convert.with_output(model, "logits")
    assert not convert.ends_in_softmax(logits)
    got = np.asarray(logits(x))
    np.testing.assert_allclose(
        np.exp(got) / np.exp(got).sum(-1, keepdims=True), expected, atol=1e-6
    )
    again = convert.with_output(logits, "softmax")
    np.testing.assert_allclose(np.asarray(again(x)), expected, atol=1e-6)
    with pytest.raises(ValueError, match="not one of: logits, softmax"):
        convert.with_output(model, "sigmoid")


def test_grey_networks_take_grey_images():
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.ReLU()(x))))
    grey = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1))
    absorbed = absorb.absorb(model, "0..255")
    assert (absorbed.how, absorbed.model.input_shape) == ("padding value", (None, 32, 32, 1))
    found = np.asarray(absorbed.model(tiny_tflite.normalised(grey)))
    np.testing.assert_allclose(found, np.asarray(model(grey.astype(np.float32))), atol=1e-4)


def test_a_dim_representative_data_set_leaves_the_input_as_it_is(pixels):
    """Padding has one scale on both sides, which must not be that of dim images."""
    for front in (unit, symmetric):
        absorbed = absorb.absorb(classifier(front), "0..255").model
        content = convert.to_tflite(absorbed, calibration=tiny_tflite.normalised(pixels // 3))
        inspect.check_pixel_classifier(inspect.read(content), 10)


def test_what_stops_the_search_for_a_normalisation_is_named():
    image = keras.Input((32, 32, 3))
    x = layers.AveragePooling2D(2, name="shrink")(layers.RandomFlip()(image))
    assert fronts.first_layer(keras.Model(image, x)) == "AveragePooling2D 'shrink'"


@pytest.mark.parametrize("kind", ["activation", "layer", "logit", "nested"])
def test_one_sigmoid_becomes_two_logits(kind):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(image)
    sigmoid = layers.Dense(1, activation="sigmoid" if kind in ("activation", "nested") else None)(x)
    if kind == "layer":
        sigmoid = layers.Activation("sigmoid")(sigmoid)
    model = keras.Model(image, sigmoid)
    if kind == "nested":
        model = keras.Sequential([keras.Input((8, 8, 3)), model])
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model(images))[:, 0]
    if kind == "logit":
        expected = 1 / (1 + np.exp(-expected))
    logits = np.asarray(convert.with_two_logits(model)(images))
    assert not logits[:, 0].any()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 1])), expected, rtol=1e-5)

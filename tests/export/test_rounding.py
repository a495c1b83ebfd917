"""Rounding of weights, on real files of every kind of layer, run by LiteRT."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from efficientnet_elite.export import inspect, rewrite
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.int8 import convert, quantizer, rounding
from efficientnet_elite.export.layers import activations
from efficientnet_elite.export.runtimes.runtime import Runner
from tests.support import tiny_tflite

SIDE = 12
FLOAT_LOGITS = Format("int8", "float32")


def images(count: int, seed: int = 0) -> np.ndarray:
    """Smooth images, so that neighbouring inputs of a filter vary together as in photographs."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, SIDE // 4, SIDE // 4, 3))
    fine = np.kron(coarse, np.ones((1, 4, 4, 1))) + random.normal(0, 4, (count, SIDE, SIDE, 3))
    return (np.clip(np.rint(fine), 0, 255) / 128 - 1).astype(np.float32)


LAYERS = {
    "conv": lambda: layers.Conv2D(6, 3, padding="same", name="linear"),
    "strided": lambda: layers.Conv2D(6, 3, strides=2, padding="same", name="linear"),
    "valid": lambda: layers.Conv2D(6, (3, 2), strides=(2, 1), padding="valid", name="linear"),
    "dilated": lambda: layers.Conv2D(6, 3, dilation_rate=2, padding="same", name="linear"),
    "pointwise": lambda: layers.Conv2D(6, 1, name="linear"),
    "pointwise, strided": lambda: layers.Conv2D(6, 1, strides=2, name="linear"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same", name="linear"),
    "depthwise, strided": lambda: layers.DepthwiseConv2D(
        5, strides=2, padding="same", name="linear"
    ),
    "dense": lambda: layers.Dense(6, name="linear"),
}
# Each takes seconds.
KINDS = [
    kind if kind in ("conv", "depthwise", "dense") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in LAYERS
]


def network(kind: str) -> keras.Model:
    """A first convolution, and one linear layer of a kind with a few very large weights."""
    random = np.random.default_rng(1)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    if kind == "dense":
        x = layers.GlobalAveragePooling2D()(x)
    x = LAYERS[kind]()(x)
    if kind != "dense":
        x = layers.Flatten()(x)
    model = keras.Model(image, x)
    for name in ("first", "linear"):
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        kernel = random.normal(size=kernel.shape)
        if name == "linear":
            kernel[..., 0, :] *= 20
        layer.set_weights([kernel, random.normal(size=bias.shape)])
    first = model.get_layer("first")
    kernel, bias = first.get_weights()
    kernel[..., 0] *= 0.01  # the large weights read what is nearly always near zero
    bias[0] = 0.01
    first.set_weights([kernel, bias])
    return model


def noise(content: bytes, expected: np.ndarray, seen: np.ndarray) -> float:
    """Mean squared error of the outputs, as a share of their variance."""
    return float(np.square(Runner(content).run(seen) - expected).mean() / expected.var())


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_on_new_images_are_closer(kind):
    model, new = network(kind), images(20, seed=9)
    calibrated = quantizer.calibrate(model, images(60))
    form = Format("int16x8")  # activations are exact, so that only the weights make noise
    expected = Runner(calibrated.content).run(new)
    nearest = noise(quantizer.quantize(calibrated.plain, form=form), expected, new)
    rounded = noise(quantizer.quantize(calibrated, form=form), expected, new)
    # Kernels of one channel have neither large weights on idle inputs nor much to make good with.
    assert rounded < (0.95 if kind.startswith("depthwise") else 0.7) * nearest


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dense"])
def test_the_sample_sees_what_the_kernel_reads(kind, monkeypatch):
    """The means give the mean output of the layer, which LiteRT computes itself."""
    monkeypatch.setattr(rounding, "_EVERY", 10**9)
    monkeypatch.setattr(rounding, "_POSITIONS", 10**9)
    content = convert.to_tflite(network(kind), calibration=None)
    seen, sample = images(5), rounding.PositionSample(content, inspect.read(content))
    outputs = []
    for image, values in zip(seen, activations(content, seen), strict=True):
        sample.add(image, values)
        outputs.append(values)
    (name,) = [n for n in sample.inputs() if "linear" in n]
    tree = rewrite.tree_of(content)
    operator = rounding._operators(inspect.read(content), tree)[name]
    kernel, bias = (rewrite.constant(tree, i, np.float32) for i in operator.step.inputs[1:])
    rows = operator.rows(kernel.reshape(operator.filter_shape))
    mean = (rows @ sample.inputs()[name].mean[..., None]).ravel() + bias
    found = np.concatenate([each[name] for each in outputs]).mean((0, 1, 2))
    np.testing.assert_allclose(mean, found, rtol=1e-4, atol=1e-4)
    assert (np.linalg.eigvalsh(sample.inputs()[name].covariance) > -1e-6).all()


def test_only_constants_change():
    seen = tiny_tflite.normalised(tiny_tflite.digits()[0][:40])
    calibrated = quantizer.calibrate(tiny_tflite.model(), seen)
    for form in (INT8, Format("int8", "uint8"), Format("int16x8")):
        plain, rounded = (quantizer.quantize(c, form=form) for c in (calibrated.plain, calibrated))
        before, after = inspect.read(plain), inspect.read(rounded)
        assert before.steps == after.steps
        assert [(t.name, t.type, t.shape) for t in before.tensors] == [
            (t.name, t.type, t.shape) for t in after.tensors
        ]
        for first, second in zip(before.tensors, after.tensors, strict=True):
            if not first.constant:
                assert first == second
            assert all(b <= a * 1.000001 for a, b in zip(first.scales, second.scales, strict=True))
        assert abs(len(rounded) - len(plain)) < 200


def test_the_same_network_and_images_give_the_same_bytes():
    model, seen = network("depthwise"), images(30)
    assert convert.to_tflite(model, calibration=seen) == convert.to_tflite(model, calibration=seen)


def test_inputs_that_never_change_do_no_harm():
    """Of one image repeated no covariance is left but that of its positions."""
    black = np.full((4, SIDE, SIDE, 3), -1, np.float32)
    calibrated = quantizer.calibrate(network("conv"), black)
    expected = Runner(calibrated.content).run(black)
    plain, rounded = (quantizer.quantize(c) for c in (calibrated.plain, calibrated))
    assert noise(rounded, expected, black) <= noise(plain, expected, black)


def test_layers_in_float_keep_their_weights():
    calibrated = quantizer.calibrate(network("conv"), images(30))
    files = [
        quantizer.quantize(c, keep_float=list(calibrated.operators), form=FLOAT_LOGITS)
        for c in (calibrated, calibrated.plain)
    ]
    new = images(3, seed=4)
    np.testing.assert_array_equal(*(Runner(content).run(new) for content in files))


def test_layers_that_are_too_large_keep_their_weights(monkeypatch):
    """All of the network but the bias of a classifier, which this one does not have."""
    monkeypatch.setattr(rounding, "_MOST_WEIGHTS", 3 * 3 * 3 - 1)
    calibrated = quantizer.calibrate(network("conv"), images(20))
    assert not calibrated.observed.inputs
    files = [quantizer.quantize(c, form=FLOAT_LOGITS) for c in (calibrated, calibrated.plain)]
    new = images(3, seed=4)
    np.testing.assert_array_equal(*(Runner(content).run(new) for content in files))


def test_weights_that_two_layers_share_stay_as_they_are():
    image = keras.Input((SIDE, SIDE, 3))
    twice = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    model = keras.Model(image, layers.Flatten()(twice(twice(image))))
    calibrated = quantizer.calibrate(model, images(20))
    files = [quantizer.quantize(c, form=FLOAT_LOGITS) for c in (calibrated, calibrated.plain)]
    new = images(3, seed=4)
    np.testing.assert_array_equal(*(Runner(content).run(new) for content in files))


def test_weights_with_one_scale_for_all_channels():
    """As older quantizers wrote dense layers: whatever the steps, all channels share them."""
    random = np.random.default_rng(2)
    weights = random.normal(size=(1, 5, 30))
    data = random.normal(size=(400, 30)) @ random.normal(size=(30, 30))
    inputs = rounding.LayerInputs(data.mean(0)[None], np.cov(data.T, bias=True)[None])
    scales = np.full((1, 5), np.abs(weights).max() / 127)
    nearest = np.rint(weights / scales[..., None]).astype(np.int8)
    integers, taken = rounding._round(weights, scales, nearest, inputs, one_scale=True)
    assert len(np.unique(taken)) == 1
    centred = data - data.mean(0)

    def loss(values):
        return np.square((values - weights[0]) @ centred.T).mean()

    assert loss(integers[0] * taken[0, :, None]) < 0.5 * loss(nearest[0] * scales[0, :, None])
    assert np.abs(integers).max() <= 127

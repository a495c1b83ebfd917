"""Remedies for int8: folding, equalisation, layers in float, and fine-tuning."""

from __future__ import annotations

from itertools import repeat

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export import layers as layer_errors
from efficientnet_elite.export.int8 import equalization, folding, mixed, qat, quantizer, remedies
from efficientnet_elite.export.runtimes import runtime
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.spec import ArchSpec
from tests.support import networks
from tests.support.uneven import SIDE, logits, spec, wide


def unevenness(model: keras.Model, name: str, images: np.ndarray) -> float:
    """Of the ranges of a tensor's channels: the widest over the geometric mean."""
    ranges = equalization.channel_ranges(model, [name], images)[name]
    return float(ranges.max() / np.exp(np.log(ranges[ranges > 0]).mean()))


def assert_same_function(model: keras.Model, other: keras.Model, images: np.ndarray) -> None:
    expected = logits(model, images)
    # Channels that differ in range by some thousands magnify what float32 rounds.
    np.testing.assert_allclose(logits(other, images), expected, atol=1e-3 * np.ptp(expected))


# -- folding and equalisation --------------------------------------------------------------------


@pytest.mark.slow
def test_folding_keeps_the_function_and_the_int8_file():
    model, images = wide(spec("swish", squeeze=3), 0.5)
    folded = folding.fold(model)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    assert_same_function(model, folded, images)
    mine, converters = (
        quantizer.quantize(quantizer.calibrate(each, images)) for each in (folded, model)
    )
    difference = runtime.run(mine, images) - runtime.run(converters, images)
    (output,) = inspect.read(mine).outputs
    assert np.abs(difference).max() <= 1.01 * output.scales[0]


def test_a_batch_normalisation_without_a_convolution_stays():
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization(name="first")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = layers.BatchNormalization(name="behind_activation")(x)
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    images = networks.noise(spec("relu"))
    networks.normalise(model, images)
    folded = folding.fold(model)
    kept = [each.name for each in folded.layers if isinstance(each, layers.BatchNormalization)]
    assert kept == ["first", "behind_activation"]
    assert_same_function(model, folded, images)


def test_models_within_a_model_and_plain_functions_are_seen_through():
    """As in a `.keras` file: a normalisation absorbed by padding, and a network as one layer."""
    inner = keras.Sequential(
        [keras.Input((SIDE, SIDE, 6)), layers.Conv2D(8, 3, name="inner"), layers.ReLU()]
    )
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.ops.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=0.5)
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, name="first")(x))
    x = layers.GlobalAveragePooling2D()(inner(layers.ReLU()(x)))
    model = keras.Model(image, layers.Dense(4, name="logits")(x))
    images = networks.noise(spec("relu"))
    networks.normalise(model, images)
    layer = model.get_layer("first")
    layer.set_weights([layer.get_weights()[0] * np.logspace(-2, 2, 6), layer.get_weights()[1]])
    networks.normalise(model, images)
    equal = equalization.equalize(model, images)
    assert_same_function(model, equal, images)
    kernels = ("first", "inner", "logits")
    before = [inner.get_layer("inner"), model.get_layer("logits")]
    changed = [equal.get_layer(name).kernel for name in kernels[1:]]
    assert all(
        np.abs(np.asarray(a) - b.kernel).max() > 0.01 for a, b in zip(changed, before, strict=True)
    )
    twin = qat.Twin(model, images)
    assert all(
        isinstance(twin.student.get_layer(name), qat.FakeQuantizedWeights) for name in kernels
    )
    alone = folding.fold(inner)
    np.testing.assert_allclose(
        alone(np.ones((1, SIDE, SIDE, 6))), inner(np.ones((1, SIDE, SIDE, 6)))
    )


def test_a_layer_used_twice_gets_one_line():
    image = keras.Input((SIDE, SIDE, 3))
    shared = layers.Conv2D(3, 1, name="shared")
    model = keras.Model(image, layers.Dense(4)(layers.Flatten()(shared(shared(image)))))
    with pytest.raises(UserError, match="layer shared is used more than once"):
        folding.fold(model)


@settings(max_examples=4)
@given(
    activation=st.sampled_from(["relu", "swish", "relu6", "hard_swish"]),
    squeeze=st.sampled_from([None, 3]),
    spread=st.floats(0, 2),
    seed=st.integers(0, 99),
)
def test_equalisation_keeps_the_function(activation, squeeze, spread, seed):
    model, images = wide(spec(activation, squeeze), spread, seed)
    before = logits(model, images)
    assert_same_function(model, equalization.equalize(model, images), images)
    np.testing.assert_array_equal(logits(model, images), before)  # it works on a copy


@pytest.mark.parametrize(
    ("activation", "tensors"),
    [
        # The linear bottlenecks of a and b share their factors with the sum behind b.
        ("swish", {"a_project_conv", "b_project_conv", "b_add"}),
        ("relu6", {"a_project_conv", "b_project_conv", "b_add"}),
        ("relu", {"stem_activation", "a_dw_activation", "b_add", "top_activation", "avg_pool"}),
    ],
)
def test_which_tensors_are_equalised(activation, tensors):
    model, images = wide(spec(activation), 2.0)
    folded, equal = folding.fold(model), equalization.equalize(model, images)
    names = [layer.name for layer in folded.layers[1:]]
    before, after = (equalization.channel_ranges(each, names, images) for each in (folded, equal))
    scaled = {name for name in names if not np.allclose(before[name], after[name], rtol=1e-3)}
    assert tensors <= scaled
    if activation != "relu":
        assert scaled == tensors
    for name in tensors & {"a_dw_activation", "b_project_conv", "top_activation"}:
        assert unevenness(equal, name, images) < unevenness(folded, name, images)


@pytest.mark.slow
def test_equalisation_undoes_a_rescaling_and_saves_int8():
    """Channels of a linear bottleneck blown up, their readers turned down: the same function."""
    model, images = wide(spec("relu6"), 0.0)
    scales = np.logspace(-1.5, 1.5, 5).astype(np.float32)
    for block in "ab":
        norm = model.get_layer(f"{block}_project_bn")
        norm.gamma.assign(norm.gamma * scales)
        norm.beta.assign(norm.beta * scales)
    for reader in ("b_expand_conv", "top_conv"):
        kernel = model.get_layer(reader).kernel
        kernel.assign(kernel / scales[:, None])
    expected = logits(model, images)

    def noise(each: keras.Model) -> float:
        content = quantizer.quantize(quantizer.calibrate(each, images, "minmax").plain)
        return float(np.square(runtime.run(content, images) - expected).mean() / expected.var())

    assert noise(equalization.equalize(model, images)) < 0.05 < 0.3 < noise(model)


def test_factors_reach_through_a_concatenation():
    """A classifier that reads several stages: each part of its inputs has factors of its own."""
    image = keras.Input((SIDE, SIDE, 3))
    first = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(image)
    second = layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(first)
    pooled = [layers.GlobalAveragePooling2D()(x) for x in (second, first)]
    logits_ = layers.Dense(3, name="predictions")(layers.Concatenate()(pooled))
    model = keras.Model(image, logits_)
    for name, scales in (("first", np.logspace(-1, 1, 4)), ("second", np.logspace(1, -1, 6))):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * scales, bias + 0.1 * scales])
    images = (np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)) / 128 - 1).astype("f")
    equal = equalization.equalize(model, images)
    assert_same_function(model, equal, images)
    for name in ("first", "second"):
        assert unevenness(equal, name, images) < 0.7 * unevenness(model, name, images)


def test_dead_channels_do_no_harm():
    model, images = wide(spec("relu"), 1.0)
    norm = model.get_layer("a_expand_bn")
    norm.gamma.assign(norm.gamma * np.array([0, 0, 1, 1, 1, 1, 1, 1]))
    norm.beta.assign(norm.beta * 0)
    assert_same_function(model, equalization.equalize(model, images), images)


# -- fine-tuning ---------------------------------------------------------------------------------


def single(kind: str, random: np.random.Generator) -> keras.Model:
    """One linear layer behind the image, with weights of uneven channels."""
    image = keras.Input((8, 8, 3))
    if kind == "dense":
        x = layers.Dense(5, name="linear")(layers.Flatten()(image))
    elif kind == "conv":
        x = layers.Flatten()(layers.Conv2D(5, 3, padding="same", name="linear")(image))
    else:
        x = layers.Flatten()(layers.DepthwiseConv2D(3, padding="same", name="linear")(image))
    model = keras.Model(image, x)
    layer = model.get_layer("linear")
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_a_rounded_layer_is_the_int8_kernel_within_a_step(kind):
    random = np.random.default_rng(0)
    model = single(kind, random)
    images = (random.integers(0, 256, (16, 8, 8, 3)) / 128 - 1).astype(np.float32)
    twin, calibrated = qat.Twin(model, images), quantizer.calibrate(model, images)
    ranges = remedies.ranges_by_tensor(calibrated, twin.read_back())
    content = quantizer.quantize(calibrated.plain, ranges=ranges)
    (output,) = inspect.read(content).outputs
    steps = (logits(twin.student, images) - runtime.run(content, images)) / output.scales[0]
    assert np.abs(steps).max() < 1.01
    assert (np.abs(steps) > 0.01).mean() < 0.05  # and nearly everywhere the very same
    off = (logits(model, images) - runtime.run(content, images)) / output.scales[0]
    assert (np.abs(off) > 0.01).mean() > 0.9  # which float is not


@pytest.mark.parametrize("activation", ["swish", "relu6"])
def test_the_twin_predicts_what_int8_does_to_a_network(activation):
    model, images = wide(spec(activation, squeeze=3), 1.0)
    expected = logits(model, images)
    twin = qat.Twin(model, images)
    calibrated = quantizer.calibrate(twin.model, images)
    ranges = twin.read_back()
    imposed = remedies.ranges_by_tensor(calibrated, ranges)
    assert len(imposed) == len(ranges)  # each has its tensor, and, not yet trained, its range
    values: dict[str, list[np.ndarray]] = {}
    for found in layer_errors.activations(calibrated.content, images):
        for name in imposed:
            values.setdefault(name, []).append(found[name])
    for name, both in imposed.items():
        every = np.ravel(values[name])
        first, last = np.percentile(every[every != 0], (0.5, 99.5))
        tolerance = 1e-2 * (both[1] - both[0])  # swish underflows to zero at other values
        np.testing.assert_allclose(both, (min(first, 0), max(last, 0)), atol=tolerance)

    harm = runtime.run(quantizer.quantize(calibrated, ranges=imposed), images) - expected
    predicted = logits(twin.student, images) - expected
    assert np.corrcoef(harm.ravel(), predicted.ravel())[0, 1] > 0.7
    assert 0.5 < predicted.std() / harm.std() < 2


def test_gradients_pass_through_rounding():
    import tensorflow as tf

    values, low, high = (tf.Variable(v) for v in ([-3.0, 0.1, 0.4, 3.0], -1.0, 1.0))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(qat.fake_quantize_activations(values, low, high))
    by_value, by_low, by_high = tape.gradient(total, [values, low, high])
    np.testing.assert_allclose(by_value, [0, 1, 1, 0], atol=1e-5)
    assert by_low != 0 != by_high
    kernel = tf.Variable([[0.3, -2.0], [1.0, 0.7]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(qat.fake_quantize_weights(kernel, -1) * [[1.0, 2.0], [3.0, 4.0]])
    gradient = tape.gradient(total, kernel).numpy()
    np.testing.assert_allclose(gradient[[0, 1], [0, 1]], [1, 4], rtol=0.02)


@pytest.mark.slow
def test_fine_tuning_lowers_the_noise_of_int8():
    block = MBConv("a", 8, expanded=None, kernel=3, squeeze=2)
    stem = ConvBlock("stem", 8, kernel=3, stride=2)
    net = ArchSpec("short", (SIDE, SIDE, 3), (stem, block, Classifier("predictions", 4)))
    model, images = wide(net, 2.0)
    expected = logits(model, images)
    stream = repeat(images)
    tuned, learned = qat.fine_tune(model, stream, images, steps=40)
    plain = quantizer.calibrate(model, images).plain
    # Ranges of all values, as before `flat`: with its ranges there is little left to win here.
    seen = list(layer_errors.activations(plain.content, images))
    every = {n: (min(v[n].min() for v in seen), max(v[n].max() for v in seen)) for n in seen[0]}
    plain = quantizer.quantize(
        plain, ranges={n: (float(a), float(b)) for n, (a, b) in every.items()}
    )
    calibrated = quantizer.calibrate(tuned, images).plain
    better = quantizer.quantize(calibrated, ranges=remedies.ranges_by_tensor(calibrated, learned))

    def divergence(content: bytes) -> float:
        """Kullback-Leibler, from the float network's probabilities."""
        p, q = (keras.ops.log_softmax(x) for x in (expected, runtime.run(content, images)))
        return float(keras.ops.mean(keras.ops.sum(keras.ops.exp(p) * (p - q), -1)))

    assert divergence(better) < 0.5 * divergence(plain)
    np.testing.assert_array_equal(logits(model, images), expected)  # it worked on a copy


# -- layers in float -----------------------------------------------------------------------------


def test_chosen_layers_stay_in_float_and_help():
    model, images = wide(spec("swish", squeeze=3), 1.5)
    plain = remedies.Quantization(model, quantizer.calibrate(model, images))
    ranked = mixed.noise_by_layer(plain.calibrated, {}, images)
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    chosen = list(mixed.float_layer_choices(ranked))
    assert [len(names) for names in chosen] == [1, 2, 4, 8, len(ranked) // 2]
    kept = remedies.Quantization(model, plain.calibrated, float_layers=chosen[-1])
    content = inspect.read(kept.checked_file())
    operators = mixed.layer_operators(plain.calibrated)
    in_float = frozenset().union(*(operators[layer] for layer in chosen[-1]))
    made = {t.name: t.type for t in content.tensors if t.producer not in (None, "QUANTIZE")}
    assert {made[name] for name in in_float if name in made} == {"FLOAT32"}
    others = set(made) & set(plain.calibrated.operators) - in_float
    assert {made[name] for name in others} == {"INT8"}
    assert [t.type for t in (*content.inputs, *content.outputs)] == ["INT8", "INT8"]
    with pytest.raises(UserError, match="not int8 throughout"):
        inspect.check_pixel_classifier(content, 4)

    expected = logits(model, images)
    error = {
        name: np.square(runtime.run(each.file(), images) - expected).mean()
        for name, each in (("plain", plain), ("mixed", kept))
    }
    assert error["mixed"] < 0.5 * error["plain"]

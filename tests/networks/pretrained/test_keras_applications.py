"""Weights of keras.applications: our network computes what Keras' own does."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.keras_applications import (
    Origin,
    from_layers,
    recognised,
)
from efficientnet_elite.networks.pretrained.keras_layers import KerasLayers
from efficientnet_elite.networks.pretrained.keras_networks import KERAS_NETWORKS
from efficientnet_elite.networks.pretrained.variables import variables
from efficientnet_elite.networks.pretrained.weights import with_our_epsilon
from tests.support.keras_networks import (
    check_same,
    from_model,
    outputs,
    pixels,
    random_application,
)

PREPROCESSING = {
    "efficientnet": keras.applications.efficientnet,
    "mobilenetv1": keras.applications.mobilenet,
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3": keras.applications.mobilenet_v3,
    "nasnet": keras.applications.nasnet,
}


def check(name: str, side: int | None, **options) -> None:
    model = random_application(name, side, **options)
    side = model.input_shape[1] or 64
    images = pixels(side)
    family = next(family for family in PREPROCESSING if name.startswith(family))
    want = np.asarray(model(PREPROCESSING[family].preprocess_input(images.copy())))
    weights = from_model(model)
    assert weights.spec.name == name
    check_same(weights, images, want)
    keras.backend.clear_session()


FAST = {
    "mobilenetv1-0.25": 96,
    "mobilenetv2-0.35": 65,
    "mobilenetv3-small": 65,
}
SLOW = {
    "efficientnet-b0": 65,  # odd maps at every stage
    "mobilenetv3-small-minimalistic": 64,
    "efficientnet-b3": 64,
    "mobilenetv1": 224,
    "mobilenetv1-0.75": 160,
    "mobilenetv1-0.5": 128,
    "mobilenetv2": 224,
    "mobilenetv2-0.5": 96,
    "mobilenetv2-0.75": 75,
    "mobilenetv2-1.3": 96,
    "mobilenetv2-1.4": 96,
    "mobilenetv3-large": 224,
    "mobilenetv3-large-0.5": 96,
    "mobilenetv3-large-0.75": 75,
    "mobilenetv3-large-1.25": 64,
    "mobilenetv3-small-0.5": 64,
    "mobilenetv3-small-0.75": 64,
    "mobilenetv3-small-1.25": 64,
    "mobilenetv3-large-minimalistic": 65,
    "nasnet-a": 75,
}


@pytest.mark.parametrize("name", FAST)
def test_same_outputs(name):
    check(name, FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_same_outputs_for_more(name):
    check(name, SLOW[name])


def layers_like(name: str) -> KerasLayers:
    """Layers of the sizes that a network's have in Keras, without memory for them."""
    network = KERAS_NETWORKS[name]
    places = network.layers(network.spec)
    weights: dict[str, list[np.ndarray]] = {}
    for layer, shapes in variables(network.spec).items():
        arrays = [np.broadcast_to(np.float32(0), shape) for shape in shapes.values()]
        source, first = places[layer]
        present = weights.setdefault(source, [])
        present[first:first] = arrays
    return KerasLayers(weights)


@pytest.mark.parametrize("name", KERAS_NETWORKS)
def test_networks_are_recognised_by_names_and_sizes(name):
    assert recognised(layers_like(name)) is KERAS_NETWORKS[name]


def test_other_epsilons_change_gamma_only():
    random = np.random.default_rng(0)
    layer = keras.layers.BatchNormalization(epsilon=1e-5)
    ours = keras.layers.BatchNormalization(epsilon=1e-3)
    x = random.normal(size=(4, 7)).astype(np.float32)
    for each in (layer, ours):
        each.build(x.shape)
    gamma, beta, mean = random.normal(size=(3, 7))
    variance = random.uniform(1e-4, 1, 7).astype(np.float32)
    layer.set_weights([gamma, beta, mean, variance])
    ours.set_weights([with_our_epsilon(gamma, variance, 1e-5), beta, mean, variance])
    np.testing.assert_allclose(ours(x), layer(x), rtol=1e-4, atol=1e-5)
    assert with_our_epsilon(gamma, variance, 1e-3) is gamma


def test_without_the_classifier_the_features_are_exact_and_the_head_is_new():
    model = random_application("mobilenetv1-0.25", 64, include_top=False)
    weights = from_model(model, "mine")
    assert (weights.name, weights.spec.classes, weights.licence) == ("mine", 1000, "unknown")
    images = pixels(64)
    got = outputs(weights, images, include_top=False)
    np.testing.assert_allclose(got, model(images / 127.5 - 1), atol=1e-4)
    initial = build(weights.spec).get_layer("predictions").kernel
    np.testing.assert_array_equal(weights.arrays["predictions/kernel"], initial)


def test_a_classifier_on_top_of_a_network_is_left_out():
    inner = random_application("mobilenetv1-0.25", 64, include_top=False)
    layers = keras.layers
    outer = keras.Sequential(
        [keras.Input((64, 64, 3)), layers.Rescaling(1 / 127.5, -1), inner,
         layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )  # fmt: skip
    weights = from_model(outer)
    assert weights.scale == pytest.approx((1 / 127.5,) * 3)
    assert weights.arrays["block13_pw_conv/kernel"].shape == (1, 1, 256, 256)


def test_where_keras_cuts_maps_off():
    with pytest.raises(UserError, match=r"at 72 x 72 pixels: there .* a map of 9 x 9") as error:
        from_model(random_application("mobilenetv1-0.25", 72))
    assert "\n" not in str(error.value)


def without_input_size(name: str) -> KerasLayers:
    weights = layers_like(name).weights
    image = {"class_name": "InputLayer", "batch_shape": [None, None, None, 3]}
    return KerasLayers(weights, {"image": image, **{key: {"class_name": ""} for key in weights}})


def test_models_without_an_input_size_pad_as_if_maps_were_even():
    origin = Origin("a", "the file", "")
    assert from_layers(without_input_size("mobilenetv3-small"), origin).spec.resolution == 224
    with pytest.raises(UserError, match=r"at 224 x 224 pixels: there .* a map of 111 x 111"):
        from_layers(without_input_size("nasnet-a"), origin)


def test_what_this_project_does_not_have_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)], name="other")
    with pytest.raises(UserError, match=r"is of no network that can be read \(other\)"):
        from_model(model)
    wide = keras.applications.MobileNet((64, 64, 3), alpha=0.3, weights=None, include_top=False)
    with pytest.raises(UserError, match=r"of no network that can be read \(mobilenet_0\.30_64\)"):
        from_model(wide)


def test_layers_inside_a_network_are_refused():
    layers = layers_like("mobilenetv1-0.25")
    order = [*layers.weights, "adapter"]
    inside = [*order[:5], "adapter", *order[5:-1]]
    weights = {**layers.weights, "adapter": [np.zeros(3)]}

    def check(names: list[str]) -> None:
        configs = {name: {"class_name": "Dense"} for name in names}
        from_layers(KerasLayers(weights, configs), Origin("a", "the file", ""))

    check(order)
    with pytest.raises(UserError, match="is MobileNet with another layer, adapter"):
        check(inside)

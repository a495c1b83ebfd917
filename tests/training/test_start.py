"""What a network takes from pretrained weights before its first step."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.matching import is_same_network
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.training import start
from efficientnet_elite.training.statistics import (
    adapt_statistics,
    batch_norm_layers,
    frozen_statistics,
)
from tests.support.tiny_pretrained import SAME, SMALLER, SOURCE, network


@pytest.fixture(scope="module")
def digits():
    return data_lib.load(DataConfig(), max_side=24, progress=False)


@pytest.fixture(scope="module")
def images(digits):
    return data_lib.calibration_images(digits, resolution=16, base_resolution=16, count=96, seed=1)[
        0
    ]


def features(model, images, layer="avg_pool"):
    return keras.Model(model.inputs, model.get_layer(layer).output)(images, training=False).numpy()


def test_names_of_no_weights():
    assert start.load(None, SAME) is None
    assert start.load("none", SAME) is None
    with pytest.raises(UserError, match="name a source, a file, or none"):
        start.load("auto", SAME)
    with pytest.raises(UserError, match="no-such-source"):
        start.load("no-such-source", SAME)


def test_the_same_network_keeps_all_but_the_classifier(digits, images):
    """It computes the same features, although its statistics are those of the digits now."""
    assert is_same_network(SOURCE.spec, SAME.with_drop_rates(0))
    selection = select(SOURCE, SAME)
    assert selection.nodes["top_conv"] == "top_conv"
    model = build(SAME)
    start.begin(model, selection, digits, base_resolution=16, seed=0)
    want = features(start.source_model(SOURCE, 16), images)
    np.testing.assert_allclose(features(model, images), want, rtol=1e-3, atol=1e-4)
    variances = np.array(model.get_layer("top_bn").moving_variance)
    assert not np.allclose(variances, SOURCE.arrays["top_bn/moving_variance"], rtol=0.1)
    assert model.get_layer("predictions").kernel.shape[-1] == 10


def test_networks_that_differ():
    assert not is_same_network(SOURCE.spec, SMALLER)
    assert not is_same_network(SOURCE.spec, network("wide", 16, classes=10, deep=True))
    shallow = network("shallow", 8, classes=10)
    assert not is_same_network(SOURCE.spec, shallow)
    swish = replace(SAME, blocks=(replace(SAME.blocks[0], activation="swish"), *SAME.blocks[1:]))
    assert not is_same_network(SOURCE.spec, swish)


def test_networks_without_a_classifier_of_vectors_are_recognised():
    one, other = (spec_by_name("squeezenet-1.1", classes=n) for n in (3, 5))
    assert is_same_network(one, other)


def test_a_selected_network_is_repaired(digits, images):
    selection = select(SOURCE, SMALLER)
    assert len(selection.channels["top_activation"]) == 24
    begun = build(SMALLER)
    start.begin(begun, selection, digits, base_resolution=16, seed=0)
    only_selected = build(SMALLER)
    start.assign(only_selected, select(SOURCE, SMALLER).arrays)
    source = start.source_model(SOURCE, 16)
    want = features(source, images)[:, selection.channels["top_activation"]]

    def distance(model):
        return float(((features(model, images) - want) ** 2).mean())

    assert distance(begun) < 0.5 * distance(only_selected)


def test_the_head_is_fitted(digits):
    model = build(SAME)
    start.begin(model, select(SOURCE, SAME), digits, base_resolution=16, seed=0)
    batches = data_lib.eval_batches(
        digits, "test", resolution=16, batch_size=100, base_resolution=16
    )
    right = [(np.argmax(model(x, training=False), -1) == y.numpy()) for x, y in batches]
    assert np.concatenate(right).mean() > 0.75


def test_a_network_that_cannot_begin_there():
    with pytest.raises(UserError, match="cannot start from"):
        select(SOURCE, spec_by_name("squeezenet-1.1", classes=10))


def test_statistics_of_a_batch_after_their_adaptation(images):
    """In training, the model then computes about what it computes in inference."""
    model = start.source_model(SOURCE, 16)
    before = model(images, training=False).numpy()

    def gap():
        model.trainable = True  # so that training uses the statistics of the batch
        with_batch = keras.Model(model.inputs, model.get_layer("avg_pool").output)(
            images, training=True
        ).numpy()
        return float(np.abs(with_batch - features(model, images)).mean())

    values = [np.array(v) for v in model.variables]
    gap_before = gap()
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    adapt_statistics(model, [images[:48], images[48:]])
    np.testing.assert_allclose(model(images, training=False), before, rtol=1e-3, atol=1e-3)
    assert gap() < 0.1 * gap_before


def test_frozen_statistics(images):
    model = build(SMALLER.with_drop_rates(0))
    trainable = [v.path for v in model.trainable_variables]
    statistics = [np.array(v) for v in model.non_trainable_variables]
    with frozen_statistics(batch_norm_layers(model)):
        inside = model(images, training=True)
    np.testing.assert_array_equal(inside, model(images, training=False))
    for variable, value in zip(model.non_trainable_variables, statistics, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert [v.path for v in model.trainable_variables] == trainable
    with frozen_statistics([]):
        outside = model(images, training=True)
    assert np.abs(outside - inside).max() > 1e-3


def test_the_sources_own_network_learns_gently_and_alone():
    recipe = TrainConfig(learning_rate=0.01, distill="both")
    own = start.recipe_for(recipe, select(SOURCE, SAME))
    assert (own.distill, own.learning_rate) == ("logits", pytest.approx(0.004))
    assert start.recipe_for(recipe, select(SOURCE, SMALLER)) is recipe

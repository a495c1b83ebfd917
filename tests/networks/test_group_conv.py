"""Grouped convolutions that are computed as several plain convolutions for training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.layers import unsplit_groups
from efficientnet_elite.search.candidates import pool_candidates

SPEC = next(
    c.spec
    for c in pool_candidates("shufflenet-g3", base_resolution=32, classes=5)
    if c.spec.resolution == 32
)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, *SPEC.input_shape)).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> tuple[keras.Model, keras.Model]:
    """One network with grouped convolutions, and with these split as for training."""
    return build(SPEC, seed=1), build(SPEC, seed=1, split_groups=True)


def count_compiled(model: keras.Model, *, training: bool) -> int:
    """Number of functions of the traced model that XLA compiles."""
    traced = tf.function(lambda x: model(x, training=training)).get_concrete_function(IMAGES)
    called = [traced.graph, *(f.graph for f in traced.graph._functions.values())]
    return sum(
        "_XlaMustCompile" in op.node_def.attr and op.get_attr("_XlaMustCompile")
        for graph in called
        for op in graph.get_operations()
    )


def test_the_same_weights_give_the_same_outputs(pair):
    whole, split = pair
    assert [v.shape for v in whole.variables] == [v.shape for v in split.variables]
    for one, other in zip(whole.variables, split.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for training in (False, True):
        outputs = [np.asarray(model(IMAGES, training=training)) for model in pair]
        np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_xla_compiles_only_convolutions_that_are_not_split(pair):
    whole, split = pair
    assert count_compiled(whole, training=True) > 10
    assert count_compiled(split, training=True) == 0
    with unsplit_groups(split):
        assert count_compiled(split, training=False) > 10
    assert count_compiled(split, training=False) == 0

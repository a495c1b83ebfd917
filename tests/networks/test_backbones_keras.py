"""Keras models of every family, compared with their specs and with keras.applications."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.networks.blocks import REGISTRY
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_candidates
from tests.support.block_networks import NETWORKS
from tests.support.counting import check_counts, macs_of_layers, weighted


def smallest(family: str) -> ArchSpec:
    """The cheapest network of the pool of a family."""
    pool = FAMILIES[family].pool(64)
    name, _ = min(pool, key=lambda item: item[1].width * item[1].depth * item[1].resolution)
    return spec_by_name(name, base_resolution=64, classes=5)


# Of the other families the slow tests build the smallest networks, too.
OFTEN = {"mobilenetv1", "mobilenetv3-small"}


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in OFTEN else pytest.mark.slow) for f in FAMILIES],
)
def test_keras_counts_what_the_spec_counts(family):
    check_counts(smallest(family))


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    ["elite", "squeezenet-1.0", "squeezenet-1.1", "condensenet-cifar", "condensenext-cifar"],
)
def test_training_begins_without_a_preference(family):
    """The first loss is near the logarithm of the number of classes, with every classifier."""
    spec = training_form(smallest(family))
    images = np.random.default_rng(0).uniform(-1, 1, (16, *spec.input_shape)).astype(np.float32)
    logits = build(spec)(images, training=True).numpy()
    loss = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    assert loss.mean() == pytest.approx(np.log(5), abs=0.2)
    keras.backend.clear_session()


# A runtime for microcontrollers may have no kernels of other operators.
OPERATORS = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    "GATHER", "HARD_SWISH", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "PRELU", "RESHAPE",
    "STRIDED_SLICE", "SUM", "TRANSPOSE",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("mobile", "shuffle") else pytest.mark.slow)
        for n in NETWORKS
    ],
)
def test_every_kind_of_block_in_keras_and_int8(name):
    spec = ArchSpec(name, (32, 32, 3), NETWORKS[name])
    assert ArchSpec.from_json(spec.to_json()) == spec
    model = build(spec)
    assert model.count_params() == spec.params
    assert macs_of_layers(model) == spec.macs
    images = np.random.default_rng(0).uniform(-1, 0.99, (8, 32, 32, 3)).astype(np.float32)
    assert np.isfinite(model(images, training=True).numpy()).all()
    blob = to_tflite(model, calibration=images)
    inspect.check_full_int8(inspect.read(blob))
    assert inspect.operators(blob).keys() <= OPERATORS


def test_these_networks_have_every_block_of_the_families():
    tested = {type(block).__name__ for blocks in NETWORKS.values() for block in blocks}
    used = {
        type(block).__name__
        for family in FAMILIES
        for block in pool_candidates(family)[0].spec.blocks
    }
    assert used - tested <= {"Cell", "ActivationBlock"}
    assert used | tested <= REGISTRY.keys()


APPLICATIONS = {
    "mobilenetv1-0.25": lambda: keras.applications.MobileNet((128, 128, 3), alpha=0.25, **BARE),
    "mobilenetv3-small": lambda: keras.applications.MobileNetV3Small((103, 103, 3), **RAW),
}
SLOW_APPLICATIONS = {
    "mobilenetv2-0.35": lambda: keras.applications.MobileNetV2((103, 103, 3), alpha=0.35, **BARE),
    "mobilenetv1": lambda: keras.applications.MobileNet(**BARE),
    "mobilenetv2": lambda: keras.applications.MobileNetV2(**BARE),
    "mobilenetv3-large": lambda: keras.applications.MobileNetV3Large((224, 224, 3), **RAW),
    "mobilenetv3-large-minimalistic": lambda: keras.applications.MobileNetV3Large(
        (103, 103, 3), minimalistic=True, **RAW
    ),
    "mobilenetv3-small-minimalistic": lambda: keras.applications.MobileNetV3Small(
        (103, 103, 3), minimalistic=True, **RAW
    ),
}
BARE = {"weights": None, "classifier_activation": None}
RAW = {**BARE, "include_preprocessing": False}


def check_outputs(name: str, reference: keras.Model) -> None:
    """Copies random weights of a model of keras.applications into ours and compares the logits."""
    ours = build(spec_by_name(name).resized(reference.input_shape[1:]))
    random = np.random.default_rng(0)
    for theirs, mine in zip(weighted(reference), weighted(ours), strict=True):
        values = theirs.get_weights()
        if isinstance(theirs, layers.BatchNormalization):
            bounds = ((0.7, 1.3), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))
            values = [random.uniform(*b, v.shape) for b, v in zip(bounds, values, strict=True)]
            theirs.set_weights(values)
            assert theirs.epsilon == mine.epsilon
        # Their 1x1 convolution after the pooling is a fully connected layer here.
        mine.set_weights([v.reshape(w.shape) for v, w in zip(values, mine.weights, strict=True)])
    images = random.uniform(-1, 1, (2, *reference.input_shape[1:])).astype(np.float32)
    want = np.asarray(reference(images)).reshape(2, -1)
    assert np.ptp(want) > 0.05
    assert np.abs(np.asarray(ours(images)) - want).max() < 1e-4
    keras.backend.clear_session()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_same_outputs_as_keras_applications(name):
    check_outputs(name, APPLICATIONS[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_APPLICATIONS)
def test_same_outputs_as_keras_applications_for_more(name):
    check_outputs(name, SLOW_APPLICATIONS[name]())

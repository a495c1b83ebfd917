"""Keras models of every family, compared with their specs and with keras.applications."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.networks.blocks import (
    EESP,
    REGISTRY,
    Classifier,
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    ConvBlock,
    ConvClassifier,
    EESPDown,
    Fire,
    GhostBottleneck,
    MBConv,
    Norm,
    PeleeStem,
    PlainConv,
    Pool,
    SeparableConv,
    ShuffleUnit,
    TwoWayDense,
)
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_candidates
from tests.support.counting import check_counts, macs_of_layers, weighted


def smallest(family: str) -> ArchSpec:
    """The cheapest network of the pool of a family."""
    pool = FAMILIES[family].pool(64)
    name, _ = min(pool, key=lambda item: item[1].width * item[1].depth * item[1].resolution)
    return spec_by_name(name, base_resolution=64, classes=5)


# Families that differ from another one only in their numbers, or that have other tests.
SELDOM = {
    "elite", "hf", "efficientnet", "tinynet", "mobilenetv2", "mobilenetv3-large",
    "mobilenetv3-large-minimalistic", "mobilenetv3-small-minimalistic", "mnasnet-a1", "mnasnet-b1",
    "shufflenet-g1", "shufflenet-g2", "shufflenet-g4", "shufflenet-g8", "squeezenet-1.0",
    "condensenet-g4", "condensenet-g8", "condensenet-cifar", "condensenext", "condensenext-cifar",
    "nasnet-a", "amoebanet-a", "amoebanet-b", "amoebanet-c", "pnasnet-5", "darts-v2", "darts-v1",
    "proxylessnas-mobile", "fbnet-c",
}  # fmt: skip


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=pytest.mark.slow if f in SELDOM else ()) for f in FAMILIES],
)
def test_keras_counts_what_the_spec_counts(family):
    check_counts(smallest(family))


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


# Networks of the blocks that no other test builds.
NETWORKS = {
    "mobile": (
        ConvBlock("stem", 16, 3, 2, "relu6"),
        SeparableConv("separable", 16),
        MBConv(
            "gated", 16, 32, 3, squeeze=8, activation="hard_swish", gate="hard_sigmoid",
            squeeze_activation="relu", attention=3,
        ),
        Classifier("predictions", 5, 0.1, hidden=12, activation="hard_swish"),
    ),
    "ghost": (
        ConvBlock("stem", 16, 3, 2, "relu"),
        GhostBottleneck("same", 16, 32, 3, 1, 4),
        GhostBottleneck("down", 24, 48, 5, 2),
        Classifier("predictions", 5, 0.1),
    ),
    "shuffle": (
        ConvBlock("stem", 12, 3, 2, "relu"),
        ShuffleUnit("down", 48, 3, 2, first_groups=1),
        ShuffleUnit("same", 48, 3),
        Classifier("predictions", 5, bias=False),
    ),
    "squeeze": (
        ConvBlock("stem", 16, 3, 2, "relu", "valid", batch_norm=False),
        Pool("odd", "max", 3, padding="ceil"),
        Fire("fire", 8, 16),
        Pool("even", "max", 2, padding="ceil"),
        ConvClassifier("predictions", 5, 0.1),
    ),
    "pelee": (
        PeleeStem("stem", 16),
        TwoWayDense("dense", 8, 16),
        ConvBlock("transition", 32, activation="relu"),
        Pool("pool", "average", 2, padding="valid"),
        Classifier("predictions", 5),
    ),
    "condense": (
        PlainConv("stem", 16, 2),
        CondenseLayer("net", 8, 4, 4),
        CondenseNextLayer("next", 8),
        Norm("top"),
        CondensedClassifier("predictions", 5),
    ),
    "esp": (
        ConvBlock("stem", 16, 3, 2, "prelu"),
        EESPDown("down", 32, (1, 2, 3, 4)),
        EESP("same", 32, (1, 2, 3, 4)),
        EESPDown("blind", 48, (1, 1, 2, 3), image=False),
        SeparableConv("top", 32, activation="prelu", groups=4),
        Classifier("predictions", 5),
    ),
}  # fmt: skip

# A runtime for microcontrollers may have no kernels of other operators.
OPERATORS = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    "GATHER", "HARD_SWISH", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "PRELU", "RESHAPE",
    "STRIDED_SLICE", "SUM", "TRANSPOSE",
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
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

"""CondenseNet and CondenseNeXt: exact counts, learned groups, training, deployed form, int8."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.networks import condense, ops
from efficientnet_elite.networks.blocks import (
    Block,
    Classifier,
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    Norm,
    PlainConv,
    Pool,
)
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.layers import FoldChannels, LearnedConv
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.report import table5_rows
from efficientnet_elite.training.loading import load_averaged
from efficientnet_elite.training.trainer import Trainer
from tests.support.command import elite
from tests.support.networks import int8_correlation

# (side in pixels, classes), then parameters (moving statistics included) and multiply-accumulates
# of the deployed network and of its training form: those of the authors' code.
COUNTS = {
    "condensenet-g4": ((224, 1000), (4837400, 516640576), (11986136, 1267904128)),
    "condensenet-g8": ((224, 1000), (2998872, 261545792), (11167064, 1137847936)),
    "condensenet-cifar": ((32, 10), (548154, 62377888), (1483546, 173858624)),
    "condensenext-cifar": ((32, 10), (410250, 66768704), (11370234, 1362943808)),
}


def published(name: str) -> ArchSpec:
    side, classes = COUNTS[name][0]
    return spec_by_name(name, classes=classes).resized((side, side, 3))


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    spec = published(name)
    _, deployed, training = COUNTS[name]
    assert (spec.params, spec.macs) == deployed
    learning = training_form(spec)
    assert (learning.params, learning.macs) == training


def test_condensenext_on_imagenet():
    spec = spec_by_name("condensenext")
    assert table5_rows.trainable_params(spec) == 4110584
    assert round(spec.macs / 1e6, 2) == 386.36


def test_condensenexts_published_figures_leave_the_learned_convolutions_out():
    """The published 0.18 M parameters and 26 M MACs come from a counter that skips these layers."""
    spec = published("condensenext-cifar")
    counted = [n for n in spec.graph.nodes if not isinstance(n.op, ops.DepthwiseConv)]
    assert sum(node.params for node in counted) == 193530
    assert sum(node.macs for node in counted) == 25222976


# -- which channels remain -------------------------------------------------------------------------


def tiny(kind: str) -> ArchSpec:
    layers: tuple[Block, ...]
    if kind == "condensenet":
        layers = tuple(CondenseLayer(f"dense{n}", 8, 4, 4) for n in (1, 2))
        top: tuple[Block, ...] = (Norm("top"), CondensedClassifier("predictions", 10))
    else:
        layers = tuple(CondenseNextLayer(f"dense{n}", 8) for n in (1, 2))
        top = (Norm("top", "relu6"), Classifier("predictions", 10))
    blocks = (PlainConv("stem", 16, 2), layers[0], Pool("pool", "average", 2), layers[1], *top)
    return ArchSpec(kind, (16, 16, 3), blocks)


KINDS = ("condensenet", "condensenext")


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_every_group_keeps_its_strongest_channels(data):
    channels, groups = data.draw(st.integers(1, 12)), data.draw(st.sampled_from((1, 2, 4)))
    connections = data.draw(st.integers(groups, groups * channels))
    stages = data.draw(st.integers(1, 4))
    op = ops.LearnedConv(2 * groups, connections, stages, groups=groups)
    layer = LearnedConv(op)
    layer.build((None, 1, 1, channels))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    kernel = random.normal(size=(1, 1, channels, 2 * groups)).astype(np.float32)
    layer.kernel.assign(kernel)
    layer.drop_channels(stages)
    by_group = layer.channels_by_group()
    assert sum(map(len, by_group)) == connections
    assert tuple(map(len, by_group)) == op.channels_left(channels, stages)
    for group, remaining in enumerate(by_group):
        norms = np.abs(kernel[0, 0, :, group::groups]).sum(-1)
        assert set(remaining) == set(np.argsort(norms)[channels - len(remaining) :])


def test_stages_are_evenly_spaced_in_the_first_half():
    """Condensation 4 drops a quarter of the channels after 1/6, 1/3 and 1/2 of the training."""
    model = build(training_form(tiny("condensenet")))
    (first, *_, classifier) = condense.learned_layers(model)
    connections = []
    for step in range(12):
        condense.drop_due_channels([first, classifier], step, 12)
        connections.append([int(np.sum(layer.mask)) for layer in (first, classifier)])
    # 16 channels to 4 groups; 32 features.
    assert connections == [[64, 32]] * 2 + [[48, 32]] * 2 + [[32, 32]] * 2 + [[16, 16]] * 6


def test_what_was_dropped_stays_dropped():
    """A later stage chooses among the channels left, even if dropped weights have grown larger."""
    layer = LearnedConv(ops.LearnedConv(2, connections=1, stages=2))
    layer.build((None, 1, 1, 3))
    layer.kernel.assign(np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1) * np.ones((1, 1, 3, 2)))
    layer.drop_channels(1)
    assert layer.channels_by_group() == [[1, 2]]
    layer.kernel.assign(np.array([9.0, 2.0, 1.0]).reshape(1, 1, 3, 1) * np.ones((1, 1, 3, 2)))
    layer.drop_channels(2)
    assert layer.channels_by_group() == [[1]]
    x = np.array([5.0, 7.0, 11.0], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(np.ravel(layer(x)), [14, 14])


def test_group_lasso_against_its_formula():
    layer = LearnedConv(ops.LearnedConv(4, connections=4, stages=1, groups=2))
    layer.build((None, 1, 1, 3))
    kernel = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    layer.kernel.assign(kernel)
    norms = [np.linalg.norm(kernel[0, 0, :, group::2], axis=-1) for group in (0, 1)]
    assert float(layer.group_lasso()) == pytest.approx(np.sum(norms), rel=1e-5)
    layer.drop_channels(1)
    with tf.GradientTape() as tape:
        value = layer.group_lasso()
    gradient = tape.gradient(value, layer.kernel.value).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[0, 0, 0] == 0).all()  # dropped by both groups


@given(st.integers(1, 4), st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_folded_channels(filters, channels):
    x = np.random.default_rng(0).normal(size=(2, 3, 2, channels)).astype(np.float32)
    expected = np.stack([x[..., n::filters].sum(-1) for n in range(filters)], -1)
    np.testing.assert_allclose(FoldChannels(filters)(x), expected, atol=1e-6)


# -- deployment ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_deployed_and_trained_compute_the_same(kind, tmp_path):
    spec = tiny(kind)
    model = build(training_form(spec))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    layers = condense.learned_layers(model)
    condense.drop_due_channels(layers, 4, 10)
    with pytest.raises(UserError, match=f"{kind} still drops connections"):
        condense.deployed_form(model, spec)
    condense.drop_due_channels(layers, 5, 10)
    target, deployed = condense.deployed_form(model, spec)
    assert target.count_params() == deployed.params == spec.params
    assert deployed.macs == spec.macs
    assert ArchSpec.from_json(deployed.to_json()) == deployed
    images = random.uniform(-1, 0.99, (8, 16, 16, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(target(images), expected, atol=1e-5)
    for built in (model, target):
        built.save(tmp_path / "saved.keras")
        again = keras.saving.load_model(tmp_path / "saved.keras")
        np.testing.assert_allclose(again(images), expected, atol=1e-5)
    operators = inspect.operators(to_tflite(target, calibration=images))
    learned = len(layers)
    assert operators["GATHER"] == learned
    assert ("TRANSPOSE" in operators) == (kind == "condensenet")
    assert operators.get("SUM", 0) == (learned if kind == "condensenext" else 0)
    assert int8_correlation(target, images) > 0.98


def test_other_networks_are_their_own_training_form():
    spec = spec_by_name("elite9", base_resolution=32)
    assert training_form(spec) == spec
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert condense.deployed_form(model, spec) == (model, spec)


# -- training --------------------------------------------------------------------------------------

CONFIG = TrainConfig(
    epochs=3, batch_size=64, learning_rate=0.02, warmup_epochs=0.5, ema=0.9, batch_norm_momentum=0.9
)


@pytest.fixture(scope="module")
def digits():
    tf.config.experimental.enable_op_determinism()
    return data_lib.load(DataConfig(), max_side=24, progress=False)


@pytest.mark.slow
def test_training_condenses_resumes_and_deploys(digits, tmp_path):
    *net, _, _ = tiny("condensenet").blocks
    net[-1] = CondenseNextLayer("dense2", 8)
    blocks = (*net, Norm("top"), CondensedClassifier("predictions", 10))
    spec = ArchSpec("both", (16, 16, 3), blocks)

    def trainer(name: str) -> Trainer:
        path = tmp_path / f"{name}.npz"
        return Trainer(spec, CONFIG, digits, base_resolution=16, seed=1, checkpoint=path)

    straight = trainer("straight")
    straight.run(3, lambda epoch: None)
    assert straight.history[-1].train_loss < straight.history[0].train_loss

    first = trainer("halted")
    first.run(1, lambda epoch: None)
    masks = [np.asarray(layer.mask) for layer in condense.learned_layers(first.model)]
    assert not masks[0].all()
    with pytest.raises(UserError, match="still drops connections"):
        load_averaged(first.checkpoint)
    resumed = trainer("halted")
    again = [np.asarray(layer.mask) for layer in condense.learned_layers(resumed.model)]
    assert all(np.array_equal(a, b) for a, b in zip(masks, again, strict=True))
    resumed.run(3, lambda epoch: None)
    assert [(e.validation_accuracy, e.train_loss) for e in resumed.history] == [
        (e.validation_accuracy, e.train_loss) for e in straight.history
    ]

    model, deployed, epochs = load_averaged(straight.checkpoint)
    assert epochs == 3
    assert replace(deployed, blocks=spec.blocks) == spec
    assert model.count_params() == spec.params
    images = np.random.default_rng(0).uniform(-1, 0.99, (8, 16, 16, 3)).astype(np.float32)
    with straight.averaged_weights():
        expected = np.asarray(straight.model(images))
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.ptp(expected))


@pytest.mark.slow
def test_a_search_over_the_pool(tmp_path):
    """The smallest candidate: trained, converted and exported as int8 by the command."""
    done = elite(
        "search", "--config=quick", "--pool=condensenet-g4", "--base_resolution=32",
        "--max_macs_m=2.6", "--groups=1", "--max_candidates=1", "--epochs=2", "--round_epochs=1",
        "--batch_size=128", f"--workdir={tmp_path}",
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.rglob("*.int8.tflite")
    assert "GATHER" in inspect.operators(file.read_bytes())

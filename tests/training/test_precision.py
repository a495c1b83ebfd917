"""Precision of the training step, determinism, and what a machine decides of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training import precision
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.precision import LossScale, in_precision
from efficientnet_elite.training.trainer import Trainer
from tests.support.block_networks import NETWORKS
from tests.support.tiny_training import SPEC

CONFIG = TrainConfig(
    epochs=2, batch_size=256, learning_rate=0.02, warmup_epochs=1.0, batch_norm_momentum=0.9
)


@pytest.fixture(scope="module")
def trainer():
    digits = data_lib.load(DataConfig(), max_side=24, progress=False)

    def make(path, **settings):
        config = replace(CONFIG, **settings)
        return Trainer(SPEC, config, digits, base_resolution=16, seed=3, checkpoint=path)

    return make


def ignore(_):
    pass


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_model_computes_in_mixed_precision_and_comes_back(name):
    model = build(SPEC)
    images = tf.random.stateless_normal((4, 16, 16, 3), [1, 2])
    before = model(images)
    with in_precision(model, name):
        mixed = model(images)
        assert mixed.dtype == name
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(model(images), tf.float32) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    assert {v.dtype for v in model.variables if "float" in v.dtype} == {"float32"}
    # Numbers of 8 bits (bfloat16) or 11: not the same, and close.
    error = np.abs(mixed.numpy().astype(np.float32) - before).max() / np.abs(before).max()
    assert 1e-5 < error < 0.05
    np.testing.assert_array_equal(model(images), before)


@pytest.mark.slow
def test_every_kind_of_block_has_gradients_in_bfloat16():
    """With the losses of float32, to about 8 bits."""
    images = tf.random.stateless_uniform((8, 32, 32, 3), [1, 2], -1, 1)
    for name, blocks in NETWORKS.items():
        spec = training_form(ArchSpec(name, (32, 32, 3), blocks).with_drop_rates(0.0))
        losses = []
        for precision_name in ("float32", "bfloat16"):
            model = build(spec, split_groups=True)
            with in_precision(model, precision_name), tf.GradientTape() as tape:
                logits = tf.cast(model(images, training=True), tf.float32)
                loss = tf.reduce_mean(logits**2)
            gradients = tape.gradient(loss, model.trainable_variables)
            assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)
            losses.append(float(loss))
        assert 0 < abs(losses[1] / losses[0] - 1) < 0.15, name


@pytest.mark.slow
def test_checkpoints_are_continued_in_another_precision(trainer, tmp_path):
    """What is evaluated is computed in float32, so the same weights have the same accuracy."""
    path = tmp_path / "tiny.npz"
    losses = {}
    for name, later in (("float32", "bfloat16"), ("float16", "float32")):
        first = trainer(tmp_path / f"{name}.npz", precision=name)
        first.run(1, ignore)
        losses[name] = first.history[0].train_loss
        path.write_bytes(first.checkpoint.read_bytes())
        other = trainer(path, precision=later)
        assert other.accuracy("validation") == first.history[0].validation_accuracy
        other.run(2, ignore)
        assert abs(other.history[1].train_loss - losses[name]) < 0.1
        saved = Checkpoint.load(first.checkpoint)
        assert {a.dtype for a in saved.parts["average"]} == {np.dtype(np.float32)}
        assert (saved.loss_scale is not None) == (name == "float16")
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["float16"] != losses["float32"]


def test_a_scaled_loss_follows_keras():
    """It halves, and the step is left out, where gradients overflow; it doubles in time."""
    scale, steps = LossScale(), []
    apply = tf.function(
        lambda gradient: scale.apply([gradient], lambda: tf.py_function(steps.append, [1], [])),
        autograph=False,
    )
    assert scale.state == (2.0**15, 0)
    assert float(scale.unscaled([scale.scaled(tf.constant(3.0))])[0]) == 3
    good, bad = tf.ones(2), tf.constant([1.0, np.inf])
    for gradient, expected in ((good, (2.0**15, 1)), (bad, (2.0**14, 0)), (good, (2.0**14, 1))):
        apply(gradient)
        assert scale.state == expected
    assert len(steps) == 2
    scale.state = (8.0, 1998)
    apply(good)
    assert scale.state == (8.0, 1999)
    apply(good)
    assert scale.state == (16.0, 0)


def test_the_scale_is_part_of_the_checkpoint(tmp_path):
    state = Checkpoint(SPEC.to_json(), [], {}, loss_scale=(4096.0, 17))
    state.save(tmp_path / "a.npz")
    assert Checkpoint.load(tmp_path / "a.npz").loss_scale == (4096.0, 17)


@pytest.mark.parametrize(
    ("capabilities", "chosen", "lines"),
    [
        ([], ("float32", True), []),
        ([(6, 1)], ("float32", False), ["--deterministic"]),
        ([(9, 0)], ("float16", False), ["--precision=float32", "--deterministic"]),
        ([(9, 0), (6, 1)], ("float32", False), ["--deterministic"]),
    ],
)
def test_what_a_machine_decides(monkeypatch, capabilities, chosen, lines):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu}
    )
    asked = TrainConfig()
    train = precision.decided(asked)
    assert (train.precision, train.deterministic) == chosen
    said = precision.remarks(asked, train)
    assert len(said) == len(lines)
    assert all(flag in line for flag, line in zip(lines, said, strict=True))
    asked = TrainConfig(precision="bfloat16", deterministic=True)
    assert precision.decided(asked) == asked
    assert not precision.remarks(asked, asked)


def test_what_was_begun_before_there_was_a_choice():
    recorded = SearchConfig.from_dict({"group_by": ["macs"], "train": {"epochs": 3}})
    assert (recorded.train.precision, recorded.train.deterministic) == ("float32", True)
    asked = TrainConfig().as_begun(recorded.train)
    assert (asked.precision, asked.deterministic) == ("float32", True)
    asked = TrainConfig(precision="float16", deterministic=False)
    assert asked.as_begun(recorded.train) == asked

"""MixUp and CutMix: shares of pixels and labels, exact continuation, refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.training import mixing, start, trainer
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.tasks import Classification
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_pretrained import SMALLER, SOURCE
from tests.support.tiny_training import SPEC

METHODS = ("mixup", "cutmix", "mixup+cutmix")
BATCH, SIDE = 64, 16


@pytest.fixture(scope="module")
def digits():
    tf.config.experimental.enable_op_determinism()
    return data_lib.load(DataConfig(), max_side=24, progress=False)


def mixed(method, images, labels, step, seed=3):
    """As in a training: a graph that is given the number of the step."""
    graph = tf.function(lambda i: mixing.mixed(method, images, labels, BATCH, seed=seed, step=i))
    return [[tensor.numpy() for tensor in graph(tf.constant(i, tf.int64))] for i in step]


def own_shares(method, steps=range(20)):
    """Which share of its own each pixel and label keeps: (steps, batch, side, side), (s, batch)."""
    # Image i is everywhere i, so that its share of pixel values follows from the mixture.
    numbers = tf.range(BATCH, dtype=tf.float32)
    images = tf.tile(numbers[:, None, None, None], (1, SIDE, SIDE, 3))
    results = mixed(method, images, tf.range(BATCH), steps)
    before = np.roll(np.arange(BATCH), 1)[:, None, None]
    pixels = np.stack([images[..., 0] for images, _ in results])
    shares = (pixels - before) / (np.arange(BATCH)[:, None, None] - before)
    labels = np.stack([labels for _, labels in results])
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
    assert ((labels > 0).sum(-1) <= 2).all()
    return shares, labels[:, np.arange(BATCH), np.arange(BATCH)]


@pytest.mark.parametrize("method", METHODS)
def test_a_label_has_the_share_that_its_image_has(method):
    pixels, labels = own_shares(method)
    np.testing.assert_allclose(pixels.mean((2, 3)), labels, atol=2e-5)
    assert len(np.unique(labels.round(4))) > 50


def test_mixup_is_a_weighted_mean_with_the_papers_distribution():
    pixels, labels = own_shares("mixup")
    assert np.ptp(pixels, axis=(2, 3)).max() < 1e-4
    # Of the beta distribution with both parameters 0.2: mean 1 / 2, variance 1 / (4 * 1.4).
    assert labels.mean() == pytest.approx(0.5, abs=0.04)
    assert labels.var() == pytest.approx(1 / 5.6, abs=0.02)


def test_cutmix_takes_one_rectangle():
    pixels, labels = own_shares("cutmix")
    is_own = pixels.round(3) == 1
    assert (is_own | (pixels.round(3) == 0)).all()
    lost = ~is_own
    rows, columns = lost.any(3), lost.any(2)
    np.testing.assert_array_equal(lost, rows[..., :, None] & columns[..., None, :])
    for lines in (rows, columns):  # without gaps
        assert (np.abs(np.diff(lines.astype(int), axis=-1)).sum(-1) <= 2).all()
    assert 0.6 < labels.mean() < 0.75  # more than half: rectangles end at the edges


def test_both_take_turns():
    pixels, _ = own_shares("mixup+cutmix")
    is_even = np.ptp(pixels, axis=(2, 3)) < 1e-4
    cut = pixels[~is_even].round(3)
    assert ((cut == 0) | (cut == 1)).all()
    assert 0.35 < (~is_even).mean() < 0.55  # some rectangles cover all or nothing


@pytest.mark.parametrize("method", METHODS)
def test_mixtures_depend_on_seed_and_step_alone(method):
    images = tf.random.stateless_uniform((BATCH + 8, SIDE, SIDE, 3), [0, 1])
    labels = tf.range(BATCH)
    first = mixed(method, images, labels, [0, 1, 2])
    again = mixed(method, images, labels, [2])  # another graph, at another step
    other = mixed(method, images, labels, [2], seed=4)
    for a, b, c in zip(first[2], again[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert not np.array_equal(first[1][0], first[2][0])
    # Unlabelled images stay as they are.
    np.testing.assert_array_equal(first[0][0][BATCH:], images[BATCH:])


def test_the_loss_of_shares_is_the_mean_of_the_losses():
    logits = tf.random.stateless_normal((BATCH, 10), [0, 1])
    labels, others = tf.range(BATCH) % 10, tf.range(BATCH) % 7
    loss = Classification(10).loss
    weighted = Classification(10, np.arange(10, dtype=np.float32)).loss
    whole = tf.one_hot(labels, 10)
    assert float(weighted(logits, whole, 0.1)) == pytest.approx(
        float(weighted(logits, labels, 0.1))
    )
    shares = 0.3 * tf.one_hot(labels, 10) + 0.7 * tf.one_hot(others, 10)
    for smoothing in (0.0, 0.1):
        expected = 0.3 * loss(logits, labels, smoothing) + 0.7 * loss(logits, others, smoothing)
        np.testing.assert_allclose(loss(logits, shares, smoothing), expected, rtol=1e-5)


CONFIG = TrainConfig(epochs=2, batch_size=200, warmup_epochs=0, mix="mixup+cutmix")


def test_a_continued_training_is_the_same(digits, tmp_path):
    def begin(path):
        return Trainer(SPEC, CONFIG, digits, base_resolution=16, seed=3, checkpoint=path)

    paused = tmp_path / "paused"
    straight = begin(tmp_path / "straight")
    straight.run(1, lambda result: shutil.copy(straight.checkpoint, paused))
    straight.run(2, lambda result: None)
    begin(paused).run(2, lambda result: None)
    a, b = (Checkpoint.load(path) for path in (straight.checkpoint, paused))
    assert a.history[1]["train_loss"] == b.history[1]["train_loss"]
    for mine, other in zip(a.parts["weights"], b.parts["weights"], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_teacher_sees_the_mixed_images(digits, tmp_path, monkeypatch):
    """Its targets are those of the images that the student's graph is given."""
    seen = {}

    class Watched:
        def __init__(self, *args, **kwargs):
            self._real = real(*args, **kwargs)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def targets(self, images):
            seen["teacher"] = images
            return self._real.targets(images)

        def outputs(self, images, training):
            seen["student"] = images
            return self._real.outputs(images, training)

    real = trainer.Distillation
    monkeypatch.setattr(trainer, "Distillation", Watched)
    monkeypatch.setattr(start, "load", lambda name, spec: SOURCE)
    config = replace(CONFIG, pretrained="x", distill="features", batch_size=100)
    Trainer(SMALLER, config, digits, base_resolution=16, seed=3, checkpoint=tmp_path / "x")
    assert seen["teacher"] is seen["student"]
    assert "Placeholder" not in seen["teacher"].op.type  # not the images as they came


def test_what_cannot_be_mixed(digits, tmp_path):
    with pytest.raises(UserError, match="mix='cut': use none or mixup or cutmix"):
        TrainConfig(mix="cut")
    with pytest.raises(UserError, match="use a batch size of 2 or more"):
        mixing.check_settings(replace(CONFIG, batch_size=1), digits)
    with pytest.raises(UserError, match="masks have one for each pixel: use --mix=none"):
        mixing.check_settings(CONFIG, replace(digits, masks=True))
    mixing.check_settings(replace(CONFIG, mix="none"), replace(digits, masks=True))

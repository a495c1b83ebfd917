"""Gradient accumulation: the parts of a batch together are the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.training.learning_rate import learning_rate
from efficientnet_elite.training.statistics import batch_norm_layers
from efficientnet_elite.training.step import TrainingStep
from efficientnet_elite.training.tasks import Classification
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_training import tiny

BATCH = 24
CONFIG = TrainConfig(epochs=2, batch_size=BATCH, weight_decay=0.01, ema=0.9, precision="float32")


def trained(steps, **settings):
    """The state of a network with frozen batch normalisation after some steps, and the losses."""
    config = replace(CONFIG, **settings)
    model = build(tiny(drop=0.0), seed=1)
    step = TrainingStep(
        model,
        Classification(10, np.linspace(0.5, 1.5, 10, dtype=np.float32)),
        config,
        seed=2,
        frozen_norms=tuple(batch_norm_layers(model)),
    )
    step.trace()
    losses = []
    for number in range(steps):
        images = tf.random.stateless_uniform((BATCH, 16, 16, 3), [3, number], -1, 1)
        labels = tf.random.stateless_uniform((BATCH,), [4, number], 0, 10, tf.int32)
        losses.append(float(step(images, labels, 0.02, step=number, steps=10)))
    return {part: [np.array(v) for v in vs] for part, vs in step.variables.items()}, losses


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "gradient_clip": 0.5, "mix": "mixup"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"precision": "float16"}, marks=pytest.mark.slow),
    ],
)
def test_parts_are_the_whole_batch(settings):
    """Weights, averages and the optimizer's state, after three steps."""
    whole, losses = trained(3, **settings)
    parts, losses_of_parts = trained(3, accumulate=4, **settings)
    # In float16 each gradient has 11 bits.
    tolerance = 2e-3 if settings.get("precision") == "float16" else 1e-5
    np.testing.assert_allclose(losses_of_parts, losses, rtol=tolerance)
    for part, arrays in whole.items():
        for one, other in zip(parts[part], arrays, strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_the_rate_counts_steps_of_the_optimizer(tmp_path):
    digits = data_lib.load(DataConfig(), max_side=24, progress=False)
    config = replace(CONFIG, batch_size=400, accumulate=2, checkpoint_minutes=0)
    path = tmp_path / "tiny.npz"
    trainer = Trainer(tiny(drop=0.1), config, digits, base_resolution=16, seed=3, checkpoint=path)
    rates, graph = [], trainer._step.graph

    def counted(images, labels, rate, *others):
        assert images.shape == (400, 16, 16, 3)
        rates.append(float(rate))
        return graph(images, labels, rate, *others)

    trainer._step.graph = counted
    trainer.run(1, lambda epoch: None)
    steps = digits.sizes["train"] // 400
    expected = [learning_rate(config, step, steps) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_batch_without_equal_parts():
    with pytest.raises(UserError, match=r"a batch of 100 images has no 3 equal parts: .* multiple"):
        TrainConfig(batch_size=100, accumulate=3)

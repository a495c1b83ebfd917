"""Optimizers: against Keras on a small problem, and clipping. RMSProp: see test_training."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.training.optimizers import AdamW, RMSProp, clipped, optimizer_for

RATES = (0.01, 0.03, 0.02, 0.005)


def model():
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Conv2D(4, 3, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3),
    ]
    network = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    for variable in network.trainable_variables:  # no zeros, which would not decay
        variable.assign(variable + 0.5)
    return network


def gradients(network, step):
    images = tf.random.stateless_normal((5, 6, 6, 2), [1, step])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(images, training=True) ** 2)
    return tape.gradient(loss, network.trainable_variables)


def test_adamw_is_that_of_keras_with_decay_of_kernels():
    ours, theirs = model(), model()
    config = TrainConfig(optimizer="adamw", weight_decay=0.1)
    optimizer = optimizer_for(config, ours.trainable_variables)
    assert isinstance(optimizer, AdamW)
    apply = tf.function(optimizer.apply, autograph=False)
    reference = keras.optimizers.AdamW(weight_decay=0.1, epsilon=1e-8)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for step, rate in enumerate(RATES):
        apply(gradients(ours, step), tf.constant(rate), tf.constant(step, tf.int64))
        reference.learning_rate = rate
        reference.apply_gradients(
            zip(gradients(theirs, step), theirs.trainable_variables, strict=True)
        )
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_sgd_is_that_of_keras_with_decay_of_kernels():
    ours, theirs = model(), model()
    config = TrainConfig(optimizer="sgd", weight_decay=0.1)
    optimizer = optimizer_for(config, ours.trainable_variables)
    apply = tf.function(optimizer.apply, autograph=False)
    # One rate for all steps: the velocity of Keras holds the rate, ours is multiplied by it.
    rate = RATES[0]
    reference = keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=True)
    for step in range(len(RATES)):
        apply(gradients(ours, step), tf.constant(rate), tf.constant(step, tf.int64))
        penalized = [
            gradient + 0.1 * variable.value if variable.name == "kernel" else gradient
            for gradient, variable in zip(
                gradients(theirs, step), theirs.trainable_variables, strict=True
            )
        ]
        reference.apply_gradients(zip(penalized, theirs.trainable_variables, strict=True))
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_adamw_continues_from_its_variables():
    """The number of the step is no state of its own."""
    straight, interrupted = model(), model()
    config = TrainConfig(optimizer="adamw")
    first = AdamW(straight.trainable_variables, config)
    before = AdamW(interrupted.trainable_variables, config)
    for network, optimizer in ((straight, first), (interrupted, before)):
        for step in range(2):
            optimizer.apply(gradients(network, step), 0.01, tf.constant(step, tf.int64))
    after = AdamW(interrupted.trainable_variables, config)
    for variable, value in zip(after.variables, before.variables, strict=True):
        variable.assign(value)
    for network, optimizer in ((straight, first), (interrupted, after)):
        optimizer.apply(gradients(network, 2), 0.01, tf.constant(2, tf.int64))
    for one, other in zip(straight.variables, interrupted.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_default_is_rmsprop():
    network = model()
    optimizer = optimizer_for(TrainConfig(), network.trainable_variables)
    assert isinstance(optimizer, RMSProp)
    count = len(network.trainable_variables)
    squares, momenta = optimizer.variables[:count], optimizer.variables[count:]
    assert all(np.all(np.array(v) == 1) for v in squares)
    assert all(np.all(np.array(v) == 0) for v in momenta)


def test_clipping_by_the_norm_of_all_gradients():
    large = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    assert clipped(large, None) is large
    for got, want in zip(clipped(large, 1.0), ([0.6, 0.0], [[0.8]]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    for got, want in zip(clipped(large, 6.0), large, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)

"""Initial weights that do not depend on the backend of Keras.

Keras draws random numbers by its backend. So that a network begins with the same weights wherever
it is trained, those of TensorFlow are drawn with every backend.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import keras
import tensorflow as tf

_LARGEST_SEED = 2**31 - 2  # what Keras takes the remainder by before it seeds TensorFlow
_DEVIATION = 0.87962566103423978  # of a normal distribution that is cut off at two deviations


def draw_as_tensorflow(model: keras.Model) -> None:
    """Gives the kernels of a new model the weights that they have with TensorFlow.

    Args:
      model: of `networks.build.build`. In a user's own model, kernels without `VarianceScaling`
        keep the weights that the backend of this process has drawn.
    """
    for layer in model.layers:
        # The initializer's name in convolutions and dense layers, depthwise ones, and our own.
        names = ("kernel_initializer", "depthwise_initializer", "initializer")
        scaling = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
        if isinstance(scaling, keras.initializers.VarianceScaling) and scaling.seed is not None:
            layer.kernel.assign(_drawn(scaling, layer.kernel.shape))


def _drawn(scaling: Any, shape: tuple[int, ...]) -> Any:
    """What `keras.initializers.VarianceScaling` gives with TensorFlow."""
    window = prod(shape[:-2])
    fan = {"fan_in": window * shape[-2], "fan_out": window * shape[-1]}[scaling.mode]
    scale = scaling.scale / max(1.0, fan)
    seed = [scaling.seed % _LARGEST_SEED, 0]
    if scaling.distribution == "uniform":
        limit = sqrt(3 * scale)
        drawn = tf.random.stateless_uniform(shape, seed, -limit, limit)
    else:
        drawn = tf.random.stateless_truncated_normal(shape, seed, 0.0, sqrt(scale) / _DEVIATION)
    return drawn.numpy()

"""A pool of small Keras networks of which one loses in int8 what it wins in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def networks(resolution: int, classes: int) -> dict[str, Callable[[], Any]]:
    """Three networks; ``wide`` learns best, but int8 has no steps left for most of its channels."""
    make = partial(network, resolution, classes)
    return {
        "narrow": partial(make, filters=4),
        "medium": partial(make, filters=8),
        "wide": partial(make, filters=24, outlier=1e4),
    }


def network(resolution: int, classes: int, *, filters: int, outlier: float = 1.0) -> Any:
    """Two convolutions; between them one channel is enlarged, and reduced again."""
    import keras
    from keras import layers

    factors = [outlier] + [1.0] * (filters - 1)
    image = x = keras.Input((resolution, resolution, 3))
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Rescaling(factors)(x)
    x = layers.ReLU()(x)  # so that the two factors do not cancel in the converter
    x = layers.Rescaling([1 / factor for factor in factors])(x)
    x = layers.Conv2D(2 * filters, 3, strides=2, padding="same")(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(classes)(x))

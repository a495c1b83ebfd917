"""Grouped convolutions that can be trained on CPUs.

Backend-neutral Keras 3. This module must not know of blocks or training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import layers


@keras.saving.register_keras_serializable("efficientnet_elite")
class GroupConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with ``groups``, as a plain convolution for each of them.

    TensorFlow's CPU kernels have no gradients of grouped convolutions. Keras compiles them with
    XLA, which takes many times as long as the plain ones together. Weights are the same.
    """

    split = True

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution: (batch, h, w, c) with (k, k, c / groups, filters)."""
        convolve = super().convolution_op
        if not self.split:
            return convolve(inputs, kernel)
        parts = zip(
            keras.ops.split(inputs, self.groups, axis=-1),
            keras.ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return keras.ops.concatenate([convolve(*part) for part in parts], axis=-1)


def trainable(layer: keras.Layer) -> keras.Layer:
    """The layer, not built yet; where it is a grouped convolution, as `GroupConv2D`."""
    if type(layer) is layers.Conv2D and layer.groups > 1:
        return GroupConv2D.from_config(layer.get_config())
    return layer


@contextmanager
def whole(model: keras.Model) -> Iterator[None]:
    """What is traced in this context has grouped convolutions, as devices have."""
    grouped = [layer for layer in model.layers if isinstance(layer, GroupConv2D)]
    for layer in grouped:
        layer.split = False
    try:
        yield
    finally:
        for layer in grouped:
            layer.split = True

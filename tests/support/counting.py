"""What Keras says of the size of a model, to compare with specs and other models."""

from __future__ import annotations

from math import prod

import keras
from keras import layers

from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec


def macs_of_layers(model: keras.Model) -> int:
    """Multiply-accumulates by what Keras itself says of every layer's kernel and output."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Dense | layers.Conv2D | layers.DepthwiseConv2D):
            kernel = layer.kernel
            # A depthwise kernel (h, w, channels, 1) meets each channel once; another one's last
            # axis are the outputs.
            positions = prod(layer.output.shape[1:-1])
            total += positions * prod(kernel.shape)
        elif not isinstance(layer, layers.PReLU):  # (1, 1, channels) slopes
            assert not any(len(v.shape) > 1 for v in layer.weights), layer
    return total


def weighted(model: keras.Model) -> list[keras.Layer]:
    kinds = layers.Conv2D | layers.DepthwiseConv2D | layers.Dense | layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def check_counts(spec: ArchSpec) -> None:
    model = build(spec)
    assert model.count_params() == spec.params
    assert macs_of_layers(model) == spec.macs
    assert model.output_shape == (None, spec.classes)
    keras.backend.clear_session()

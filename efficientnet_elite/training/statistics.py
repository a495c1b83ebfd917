"""The statistics of batch normalisation: how pretrained ones are adapted to images, and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.training.backend import as_arrays, compiled


def batch_norm_layers(model: keras.Model) -> list[Any]:
    """The layers of batch normalisation of a model."""
    return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


@contextmanager
def frozen_statistics(layers: Iterable[Any]) -> Iterator[None]:
    """Context in which batch normalisation uses its moving statistics in training, too.

    Scale and shift stay trainable: only calls of the model inside the context are affected.

    Args:
      layers: of batch normalisation.
    """
    layers = list(layers)
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def adapt_statistics(model: keras.Model, batches: Iterable[Any]) -> None:
    """Replaces the moving statistics of batch normalisation by those of the given images.

    Scale and shift of each layer change with them, so that the model computes the same as before in
    inference. In training, which normalises by the statistics of a batch, it then computes about
    the same, too. That is not so if images or their size differ from those of the pretraining.

    Args:
      model: the model.
      batches: images, float32 (n, height, width, channels), all batches of the same size.
    """
    layers = batch_norm_layers(model)
    if not layers:
        return
    inputs = keras.Model(model.inputs, [layer.input for layer in layers])

    def moments(images: Any) -> Any:
        maps = inputs(images, training=False)
        maps = maps if isinstance(maps, list | tuple) else [maps]
        axes = [list(range(len(x.shape) - 1)) for x in maps]
        means = [keras.ops.mean(x, a) for x, a in zip(maps, axes, strict=True)]
        squares = [keras.ops.mean(x * x, a) for x, a in zip(maps, axes, strict=True)]
        return keras.ops.concatenate(means, 0), keras.ops.concatenate(squares, 0)

    compute = compiled(moments, inputs)
    per_batch = np.array([as_arrays(compute(x)) for x in batches], np.float64)
    means, squares = per_batch.mean(0)
    ends = np.cumsum([layer.moving_mean.shape[0] for layer in layers])[:-1]
    parts = zip(layers, np.split(means, ends), np.split(squares, ends), strict=True)
    for layer, mean, square in parts:
        _set_statistics(layer, mean, np.maximum(square - mean * mean, 0))


def _set_statistics(layer: Any, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
    """Sets moving statistics and corrects gamma and beta, so that the function stays the same."""
    old_mean, old_variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
    slope = np.array(layer.gamma) / np.sqrt(old_variance + layer.epsilon)
    layer.gamma.assign(slope * np.sqrt(variance + layer.epsilon))
    layer.beta.assign(np.array(layer.beta) + slope * (mean - old_mean))
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)

"""Keras layers of CondenseNet and CondenseNeXt: what Keras itself does not have.

Backend-neutral Keras 3. This module must not know of blocks or training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import layers

from efficientnet_elite.networks import ops


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


_PACKAGE = "efficientnet_elite"
# Under the root of the group lasso, whose gradient would be infinite at zero.
_TINY = 1e-12


@keras.saving.register_keras_serializable(_PACKAGE)
class Select(layers.Layer):
    """The channels of the given numbers: (batch, ..., c) to (batch, ..., len(indices)).

    The numbers are part of the architecture, not weights.
    """

    def __init__(self, indices: Sequence[int], **options: Any):
        super().__init__(**options)
        self.indices = tuple(indices)

    def call(self, inputs: Any) -> Any:
        """The selected channels."""
        return keras.ops.take(inputs, np.asarray(self.indices, np.int32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "indices": self.indices}


@keras.saving.register_keras_serializable(_PACKAGE)
class FoldChannels(layers.Layer):
    """Sums channels that are ``filters`` apart: (batch, h, w, c) to (batch, h, w, filters)."""

    def __init__(self, filters: int, **options: Any):
        super().__init__(**options)
        self.filters = filters

    def call(self, inputs: Any) -> Any:
        """The sums; four axes at most, which all runtimes have."""
        _, height, width, channels = inputs.shape
        missing = -channels % self.filters
        if missing:
            inputs = keras.ops.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, missing)))
        terms = (channels + missing) // self.filters
        terms = keras.ops.reshape(inputs, (-1, height * width, terms, self.filters))
        return keras.ops.reshape(keras.ops.sum(terms, axis=2), (-1, height, width, self.filters))

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(_PACKAGE)
class LearnedConv(layers.Layer):
    """Learned group convolution in training: (batch, h, w, c) to (batch, h, w, filters).

    Attributes:
      op: what it learns.
      kernel: (k, k, c, filters), dense; what has been dropped is masked, not zeroed.
      mask: (c, groups) of truth values: which channels each group of filters still has.
    """

    def __init__(self, op: ops.LearnedConv, kernel_initializer: Any = None, **options: Any):
        super().__init__(**options)
        self.op = op
        self._initializer = keras.initializers.get(kernel_initializer or "glorot_uniform")
        self._stage = 0

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the variables."""
        size, channels = self.op.kernel, int(input_shape[-1] or 0)
        shape = (size, size, channels, self.op.filters)
        self.kernel = self.add_weight(shape=shape, initializer=self._initializer, name="kernel")
        self.bias = None
        if self.op.bias:
            self.bias = self.add_weight(shape=(self.op.filters,), initializer="zeros", name="bias")
        self.mask = self.add_weight(
            shape=(channels, self.op.groups),
            initializer="ones",
            dtype="bool",
            trainable=False,
            name="mask",
        )

    def call(self, inputs: Any) -> Any:
        """The convolution with what is left of the kernel."""
        kernel = keras.ops.reshape(self._masked(), self.kernel.shape)
        y = keras.ops.conv(inputs, kernel, 1, "same", data_format="channels_last")
        return y if self.bias is None else y + self.bias

    def _masked(self) -> Any:
        """The kernel as (k, k, c, filters of a group, groups), zero where dropped."""
        *window, filters = self.kernel.shape
        by_group = (*window, filters // self.op.groups, self.op.groups)
        mask = keras.ops.cast(self.mask, self.kernel.dtype)[:, None, :]
        return keras.ops.reshape(self.kernel, by_group) * mask

    def group_lasso(self) -> Any:
        """Sum over channels and groups of the norm of what connects them (the paper's Eq. 1)."""
        squares = keras.ops.sum(keras.ops.square(self._masked()), axis=(0, 1, 3))
        return keras.ops.sum(keras.ops.sqrt(squares + _TINY))

    def condense(self, stage: int) -> None:
        """Drops what a stage wants dropped: each group's channels of the least L1 norm.

        Continues with what is left; asked for a stage again, it changes nothing.
        """
        if stage == self._stage:
            return
        weights = np.abs(keras.ops.convert_to_numpy(self._masked())).sum((0, 1, 3))
        mask = keras.ops.convert_to_numpy(self.mask)
        ranks = np.where(mask, weights, -1.0).argsort(0, kind="stable").argsort(0, kind="stable")
        channels = len(mask)
        left = np.array(self.op.left(channels, stage))
        self.mask.assign(mask & (ranks >= channels - left))
        self._stage = stage

    def kept(self) -> list[list[int]]:
        """Numbers of the channels that each group of filters still has."""
        return [np.flatnonzero(group).tolist() for group in keras.ops.convert_to_numpy(self.mask).T]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "op": asdict(self.op)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearnedConv:
        """See `keras.Layer.from_config`."""
        return cls(**{**config, "op": ops.LearnedConv(**config["op"])})

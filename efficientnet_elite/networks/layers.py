"""Keras layers that Keras itself does not have. They work with every backend of Keras 3.

- `GroupConv2D`: a grouped convolution that trains fast on CPUs, and the functions that put it into
  a network for training and export the network without it;
- `Bilinear`: bilinear resizing, of segmentation networks;
- `Select`, `FoldChannels` and `LearnedConv`: the layers of CondenseNet (arXiv 1711.09224) and
  CondenseNeXt (arXiv 2112.00698).
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

_PACKAGE = "efficientnet_elite"
# Added under the square root of the group lasso, because its gradient is infinite at zero.
_EPSILON = 1e-12


@keras.saving.register_keras_serializable(_PACKAGE)
class GroupConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` that computes a plain convolution for each of its ``groups``.

    TensorFlow's CPU kernels have no gradients of grouped convolutions. Keras therefore compiles
    them with XLA, which takes many times as long as the plain convolutions together. The weights
    are those of `keras.layers.Conv2D`.

    Attributes:
      split: whether the convolution is split; if not, it is computed as in `keras.layers.Conv2D`.
    """

    split = True

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves (batch, h, w, c) inputs with a (k, k, c / groups, filters) kernel."""
        convolve = super().convolution_op
        if not self.split:
            return convolve(inputs, kernel)
        parts = zip(
            keras.ops.split(inputs, self.groups, axis=-1),
            keras.ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return keras.ops.concatenate([convolve(*part) for part in parts], axis=-1)


def with_split_groups(layer: keras.Layer) -> keras.Layer:
    """A `GroupConv2D` in place of a grouped convolution that is not built yet.

    Any other layer is returned as it is.
    """
    if type(layer) is layers.Conv2D and layer.groups > 1:
        return GroupConv2D.from_config(layer.get_config())
    return layer


@contextmanager
def unsplit_groups(model: keras.Model) -> Iterator[None]:
    """Context in which a model computes grouped convolutions as such, as devices do.

    A model that is traced for export has to be traced in this context.
    """
    grouped = [layer for layer in model.layers if isinstance(layer, GroupConv2D)]
    for layer in grouped:
        layer.split = False
    try:
        yield
    finally:
        for layer in grouped:
            layer.split = True


@keras.saving.register_keras_serializable(_PACKAGE)
class Bilinear(layers.Layer):
    """Bilinear resizing of (batch, h, w, c) to (batch, height, width, c).

    `keras.layers.Resizing` is not used, because the ``training`` argument of its call is true by
    default. In a model that is called without this argument, the batch normalisation after it
    would then use the statistics of the batch.
    """

    def __init__(self, height: int, width: int, **options: Any):
        super().__init__(**options)
        self.height, self.width = height, width

    def call(self, inputs: Any) -> Any:
        """The resized feature maps."""
        return keras.ops.image.resize(inputs, (self.height, self.width), interpolation="bilinear")

    def get_config(self) -> dict[str, Any]:
        """See `keras.Layer.get_config`."""
        return {**super().get_config(), "height": self.height, "width": self.width}


@keras.saving.register_keras_serializable(_PACKAGE)
class Select(layers.Layer):
    """Takes channels by their indices: (batch, ..., c) to (batch, ..., len(indices)).

    The indices belong to the architecture and are saved in the config; they are no weights.
    """

    def __init__(self, indices: Sequence[int], **options: Any):
        super().__init__(**options)
        self.indices = tuple(indices)

    def call(self, inputs: Any) -> Any:
        """The selected channels."""
        return keras.ops.take(inputs, np.asarray(self.indices, np.int32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """See `keras.Layer.get_config`."""
        return {**super().get_config(), "indices": self.indices}


@keras.saving.register_keras_serializable(_PACKAGE)
class FoldChannels(layers.Layer):
    """Sums channels that are ``filters`` apart: (batch, h, w, c) to (batch, h, w, filters)."""

    def __init__(self, filters: int, **options: Any):
        super().__init__(**options)
        self.filters = filters

    def call(self, inputs: Any) -> Any:
        """The sums, computed with tensors of at most four axes, which all runtimes support."""
        _, height, width, channels = inputs.shape
        padding = -channels % self.filters
        if padding:
            inputs = keras.ops.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, padding)))
        count = (channels + padding) // self.filters
        terms = keras.ops.reshape(inputs, (-1, height * width, count, self.filters))
        return keras.ops.reshape(keras.ops.sum(terms, axis=2), (-1, height, width, self.filters))

    def get_config(self) -> dict[str, Any]:
        """See `keras.Layer.get_config`."""
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(_PACKAGE)
class LearnedConv(layers.Layer):
    """Learned group convolution (arXiv 1711.09224, section 3), as it is in training.

    It maps (batch, h, w, c) to (batch, h, w, filters).

    Attributes:
      op: the operation: filters, groups, stages and final number of connections.
      kernel: dense weights, (k, k, c, filters). Weights of dropped channels stay in it; the mask
        takes their place in the convolution.
      mask: boolean (c, groups): whether a group of filters still reads an input channel.
    """

    def __init__(self, op: ops.LearnedConv, kernel_initializer: Any = None, **options: Any):
        super().__init__(**options)
        self.op = op
        self.initializer = keras.initializers.get(kernel_initializer or "glorot_uniform")
        self._stage = 0

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the variables for inputs of (batch, h, w, c)."""
        size, channels = self.op.kernel, int(input_shape[-1] or 0)
        shape = (size, size, channels, self.op.filters)
        self.kernel = self.add_weight(shape=shape, initializer=self.initializer, name="kernel")
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
        """Convolves with the weights of the channels that have not been dropped."""
        kernel = keras.ops.reshape(self._masked(), self.kernel.shape)
        y = keras.ops.conv(inputs, kernel, 1, "same", data_format="channels_last")
        return y if self.bias is None else y + self.bias

    def _masked(self) -> Any:
        """The kernel as (k, k, c, filters / groups, groups), with zeros for dropped channels."""
        *window, filters = self.kernel.shape
        by_group = (*window, filters // self.op.groups, self.op.groups)
        mask = keras.ops.cast(self.mask, self.kernel.dtype)[:, None, :]
        return keras.ops.reshape(self.kernel, by_group) * mask

    def group_lasso(self) -> Any:
        """The group lasso of arXiv 1711.09224, section 3 (a scalar).

        It is the sum, over input channels and groups of filters, of the L2 norm of the weights that
        connect the channel to the group.
        """
        squares = keras.ops.sum(keras.ops.square(self._masked()), axis=(0, 1, 3))
        return keras.ops.sum(keras.ops.sqrt(squares + _EPSILON))

    def drop_channels(self, stage: int) -> None:
        """Drops the input channels that are to be gone after a stage.

        Each group of filters drops those of its remaining channels whose weights have the smallest
        L1 norms. A stage that was reached before changes nothing.

        Args:
          stage: from 0, where nothing is dropped, to ``op.stages``.
        """
        if stage == self._stage:
            return
        norms = np.abs(keras.ops.convert_to_numpy(self._masked())).sum((0, 1, 3))
        mask = keras.ops.convert_to_numpy(self.mask)
        ranks = np.where(mask, norms, -1.0).argsort(0, kind="stable").argsort(0, kind="stable")
        channels = len(mask)
        channels_left = np.array(self.op.channels_left(channels, stage))
        self.mask.assign(mask & (ranks >= channels - channels_left))
        self._stage = stage

    def channels_by_group(self) -> list[list[int]]:
        """Indices of the input channels that each group of filters still reads."""
        return [np.flatnonzero(group).tolist() for group in keras.ops.convert_to_numpy(self.mask).T]

    def get_config(self) -> dict[str, Any]:
        """See `keras.Layer.get_config`."""
        return {**super().get_config(), "op": asdict(self.op)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearnedConv:
        """See `keras.Layer.from_config`."""
        return cls(**{**config, "op": ops.LearnedConv(**config["op"])})

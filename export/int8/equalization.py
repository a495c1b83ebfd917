"""Cross-layer equalization for int8 (Nagel et al. 2019, arXiv 1906.04721, section 4.1).

An activation tensor has one int8 scale for all its channels. Where one channel is a thousand times
wider than the others, the others have almost no steps left. Suppose that the layer that makes the
tensor and all layers that read it are linear. Then each channel can be divided by a factor in the
first and multiplied by it in the others: the network still computes the same function.

The tensors for which this holds are found in any functional model:

- Factors pass unchanged through positively homogeneous layers: ReLU, PReLU, pooling, dropout,
  padding. All inputs and the output of a residual addition share their factors.
- Factors begin and end at convolutions, depthwise convolutions and dense layers. These may also
  read a concatenation; then each part of it has factors of its own.
- Factors cannot pass swish, hard-swish, sigmoid or ReLU6 (its clip at 6 would have to differ by
  channel, which TFLite cannot express), nor the image or the logits.

So networks with ReLU are equalized throughout. In networks with swish or ReLU6 only the linear
bottlenecks and the residual sums over them are.

Two things differ from Nagel et al., because TFLite's weights have one scale per output channel:

- The range of the *activation*, measured on the representative data set, is balanced against the
  range of the weights that read it.
- The weights of depthwise convolutions do not count: each channel has its own scale anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from .folding import OUTPUT_AXIS, Wiring, fold, layer_outputs

# Layers with f(s x) = s f(x) for s > 0 in each channel.
_HOMOGENEOUS = (
    layers.AveragePooling2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.MaxPooling2D,
    layers.PReLU,
    layers.ReLU,
    layers.ZeroPadding2D,
)
_HOMOGENEOUS_FUNCTIONS = (keras.activations.linear, keras.activations.relu)
# Limits factors where a channel is almost never used or the weights that read it are almost zero.
_MAX_FACTOR = 1e4
_TINY = 1e-12
# Layers in which one output channel reads several input channels, so that the weights of these
# inputs share a scale.
_MIXING = (layers.Conv2D, layers.Dense)


def equalize(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Copies a model, folds its batch normalisation and makes the ranges of its channels similar.

    Args:
      model: a functional float32 classifier; it is not changed.
      images: the representative data set (N, height, width, channels), float32; the ranges of
        activations are measured on it.

    Returns:
      A model with weights of its own that computes the same function up to rounding in float32.

    Raises:
      UserError: the model is not functional, or uses a layer more than once.
    """
    folded = fold(model)
    groups = _groups(folded)
    ranges = channel_ranges(folded, [name for group in groups for name in group.tensors], images)
    for group in groups:
        factors = _factors([ranges[name] for name in group.tensors], group.readers)
        for maker in group.makers:
            _scale_outputs(maker, 1 / factors)
        for reader in group.readers:
            _scale_inputs(reader, factors)
    return folded


def channel_ranges(
    model: keras.Model, names: list[str], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures the range of each channel of some layers' outputs.

    Args:
      model: a functional model.
      names: names of the layers.
      images: (N, height, width, channels) float32.

    Returns:
      The greatest magnitude of each channel over all images, (channels,), by the layer's name.
    """
    ranges: dict[str, np.ndarray] = {}
    for batch in layer_outputs(model, names, images) if names else ():
        for name, values in batch.items():
            maxima = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            ranges[name] = np.maximum(ranges.get(name, 0), maxima)
    return ranges


@dataclass(frozen=True)
class _Reader:
    """A linear layer, and where the channels that it reads begin among all of its inputs."""

    layer: keras.Layer
    first: int = 0


class _Group:
    """Tensors that must have the same factor for each channel.

    Attributes:
      tensors: the tensors, each as the name of the layer that computes it.
      makers: the linear layers that make these tensors; they are divided by the factors.
      readers: the linear layers that read them; they are multiplied by the factors.
      fixed: whether the tensors cannot be scaled, because a layer that factors cannot pass makes or
        reads one of them.
    """

    def __init__(self, tensor: str):
        self.tensors = [tensor]
        self.makers: list[keras.Layer] = []
        self.readers: list[_Reader] = []
        self.fixed = False

    def merge(self, other: _Group) -> None:
        """Takes all tensors and layers of another group."""
        self.tensors += other.tensors
        self.makers += other.makers
        self.readers += other.readers
        self.fixed |= other.fixed


def _groups(model: keras.Model) -> list[_Group]:
    """All groups of tensors with channels that can be scaled."""
    wiring = Wiring(model)
    group_of = {each.name: _Group(each.name) for each in model.operations}

    def join(first: str, second: str) -> None:
        group, other = group_of[first], group_of[second]
        if group is not other:
            group.merge(other)
            group_of.update(dict.fromkeys(other.tensors, group))

    def fix(*names: str) -> None:
        for name in names:
            group_of[name].fixed = True

    for layer in model.operations:
        sources = [source.name for source in wiring.producers[layer.name]]
        if _homogeneous(layer):
            for source in sources:
                join(layer.name, source)
        elif _linear(layer):
            group_of[layer.name].makers.append(layer)
            group_of[sources[0]].readers.append(_Reader(layer))
            if _has_split_kernel(layer):
                fix(sources[0])
        elif _concatenates_channels(layer) and all(
            _linear(reader) and not _has_split_kernel(reader)
            for reader in wiring.consumers[layer.name]
        ):
            first = 0
            for source, tensor in zip(sources, layer.input, strict=True):
                for reader in wiring.consumers[layer.name]:
                    group_of[source].readers.append(_Reader(reader, first))
                first += tensor.shape[-1]
            fix(layer.name)  # it has no factors of its own: those of its parts reach the readers
        elif isinstance(layer, layers.Multiply) and (indices := _map_and_gate(layer)):
            feature_map, gate = (sources[index] for index in indices)
            join(layer.name, feature_map)
            fix(gate)
        else:
            fix(layer.name, *sources)
        if not wiring.consumers[layer.name]:
            fix(layer.name)
    unique = {id(group): group for group in group_of.values()}
    return [group for group in unique.values() if not group.fixed]


def _homogeneous(layer: keras.Layer) -> bool:
    """Whether factors pass through a layer unchanged."""
    if isinstance(layer, layers.Add):
        return len({tensor.shape[-1] for tensor in layer.input}) == 1
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and layer.threshold == 0
    if isinstance(layer, layers.Activation):
        return layer.activation in _HOMOGENEOUS_FUNCTIONS
    return isinstance(layer, _HOMOGENEOUS)


def _linear(layer: keras.Layer) -> bool:
    """Whether scaling a layer's weights scales its outputs by the same factors."""
    return (
        type(layer) in OUTPUT_AXIS
        and layer.activation in _HOMOGENEOUS_FUNCTIONS
        and getattr(layer, "depth_multiplier", 1) == 1
    )


def _has_split_kernel(layer: keras.Layer) -> bool:
    """Whether no axis of a layer's kernel has all input channels, as of grouped convolutions."""
    return getattr(layer, "groups", 1) > 1 and not isinstance(layer, layers.DepthwiseConv2D)


def _concatenates_channels(layer: keras.Layer) -> bool:
    """Whether a layer puts the channels of its inputs one behind the other."""
    return isinstance(layer, layers.Concatenate) and layer.axis in (-1, len(layer.output.shape) - 1)


def _map_and_gate(layer: keras.Layer) -> tuple[int, int] | None:
    """Indices of a squeeze-excite product's inputs: the feature map and its (1, 1, channels) gate.

    None where the inputs are not one of each.
    """
    areas = [int(np.prod(tensor.shape[1:-1])) for tensor in layer.input]
    if len(areas) != 2 or min(areas) > 1 or max(areas) == 1:
        return None
    return areas.index(max(areas)), areas.index(1)


def _factors(activations: list[np.ndarray], readers: list[_Reader]) -> np.ndarray:
    """The factors of one group, (channels,).

    They make the range of each channel and the range of the weights that read it equal, both as
    shares of the widest channel's (Nagel et al. 2019, section 4.1).

    Args:
      activations: ranges of the channels of each tensor, (channels,) each.
      readers: the linear layers that read the tensors.
    """
    activation = np.max([ranges / max(ranges.max(), _TINY) for ranges in activations], 0)
    channels = len(activation)
    weights = [
        _input_ranges(reader.layer)[reader.first : reader.first + channels]
        for reader in readers
        if type(reader.layer) in _MIXING
    ]
    weight = np.max(weights, 0) if weights else np.ones_like(activation)
    usable = (activation > _TINY) & (weight > _TINY)
    # If all readers are depthwise, the ranges of the weights cost nothing, and the activation's
    # channels are made equally wide.
    ratio = np.where(usable, activation / np.maximum(weight, _TINY), 1.0)
    factors = np.sqrt(ratio) if weights else ratio
    if usable.any():
        factors /= np.exp(np.log(factors[usable]).mean())
    return np.where(usable, np.clip(factors, 1 / _MAX_FACTOR, _MAX_FACTOR), 1.0)


def _input_ranges(layer: keras.Layer) -> np.ndarray:
    """The range of the weights of each input channel, (input channels,).

    It is the greatest magnitude of these weights, each as a share of the greatest weight of its
    output channel, with which it shares a scale.
    """
    kernel = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    return (kernel / np.maximum(kernel.max((0, 1)), _TINY)).max((0, 2))


def _scale_outputs(layer: keras.Layer, factors: np.ndarray) -> None:
    """Multiplies a layer's output channels by factors (channels,)."""
    kernel, *bias = layer.get_weights()
    shaped = factors.reshape([-1] + [1] * (-1 - OUTPUT_AXIS[type(layer)]))
    layer.set_weights([kernel * shaped, *(values * factors for values in bias)])


def _scale_inputs(reader: _Reader, factors: np.ndarray) -> None:
    """Multiplies the weights that read each input channel by factors (channels,)."""
    kernel, *bias = reader.layer.get_weights()
    inputs = kernel.shape[-2]  # of all kernels this axis is the inputs'
    all_factors = np.ones((inputs, 1))
    all_factors[reader.first : reader.first + len(factors), 0] = factors
    reader.layer.set_weights([kernel * all_factors, *bias])

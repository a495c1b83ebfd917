"""Cross-layer range equalisation (Nagel et al. 2019, arXiv 1906.04721, section 4.1) for int8.

A tensor has one int8 scale for all its channels: where one channel is a thousand times wider than
the others, those are left with no steps at all. If what makes the tensor is linear and whatever
reads it is too, each channel can be divided by a factor of its own where it is made and multiplied
by it where it is read, without any change of the network's function.

Where that is so is found for any functional model. Channel factors pass through positively
homogeneous layers (ReLU, PReLU, pooling, dropout, padding), and all inputs and the output of a
residual addition share theirs. They begin and end at convolutions, depthwise ones and dense
layers. They cannot pass swish, hard-swish, sigmoid or ReLU6 (whose clip at 6 would have to differ
by channel, which TFLite's cannot), nor the image or the logits. So networks with ReLU are
equalised throughout; of those with swish or ReLU6 only the linear bottlenecks and the sums over
them.

Two departures from Nagel et al. TFLite's weights have a scale a channel of output, so it is the
*activation's* range, measured on calibration images, that is played off against the range of the
weights that read it; and a depthwise convolution's weights, with a scale a channel, do not mind.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from .folding import OUTPUT_AXIS, Wiring, fold, outputs

# f(s x) = s f(x) for s > 0, channel by channel.
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
# Channels that are almost never used, or weights that are almost zero, are not scaled further.
_GREATEST_FACTOR = 1e4
_TINY = 1e-12
# Readers whose outputs each mix several inputs, so that these share a scale.
_MIXING = (layers.Conv2D, layers.Dense)


def equalize(model: keras.Model, images: np.ndarray) -> keras.Model:
    """A copy of a model, batch normalisation folded, with channels of like ranges.

    Args:
      model: a functional classifier, float32; unchanged.
      images: (N, height, width, channels) float32, to measure activations with.

    Returns:
      A model with weights of its own and the same function but for rounding.

    Raises:
      UserError: the model is not functional, or a layer of it is used more than once.
    """
    folded = fold(model)
    groups = _groups(folded)
    ranges = channel_ranges(folded, [name for group in groups for name in group.tensors], images)
    for group in groups:
        readers = [folded.get_layer(name) for name in group.readers]
        factors = _factors([ranges[name] for name in group.tensors], readers)
        for name in group.makers:
            _scale_outputs(folded.get_layer(name), 1 / factors)
        for layer in readers:
            _scale_inputs(layer, factors)
    return folded


def channel_ranges(
    model: keras.Model, names: list[str], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Greatest magnitude of each channel of layers' outputs over images, (channels,) each."""
    greatest: dict[str, np.ndarray] = {}
    for found in outputs(model, names, images) if names else ():
        for name, values in found.items():
            channels = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            greatest[name] = np.maximum(greatest.get(name, 0), channels)
    return greatest


class _Group:
    """Tensors that must share their channels' factors.

    Attributes:
      tensors: by the layers that compute them.
      makers: linear layers whose outputs they are.
      readers: linear layers that read them.
      fixed: whether something makes or reads them that no factor passes.
    """

    def __init__(self, tensor: str):
        self.tensors = [tensor]
        self.makers: list[str] = []
        self.readers: list[str] = []
        self.fixed = False

    def absorb(self, other: _Group) -> None:
        self.tensors += other.tensors
        self.makers += other.makers
        self.readers += other.readers
        self.fixed |= other.fixed


def _groups(model: keras.Model) -> list[_Group]:
    """All groups of tensors whose channels can be scaled."""
    wiring = Wiring(model)
    group_of = {each.name: _Group(each.name) for each in model.operations}

    def join(first: str, second: str) -> None:
        kept, gone = group_of[first], group_of[second]
        if kept is not gone:
            kept.absorb(gone)
            group_of.update(dict.fromkeys(gone.tensors, kept))

    def fix(*names: str) -> None:
        for name in names:
            group_of[name].fixed = True

    for layer in model.operations:
        sources = [source.name for source in wiring.producers[layer.name]]
        if _homogeneous(layer):
            for source in sources:
                join(layer.name, source)
        elif _linear(layer):
            group_of[layer.name].makers.append(layer.name)
            group_of[sources[0]].readers.append(layer.name)
            if getattr(layer, "groups", 1) > 1 and not isinstance(layer, layers.DepthwiseConv2D):
                fix(sources[0])  # its kernel has no axis of all inputs
        elif isinstance(layer, layers.Multiply) and (pair := _gated(layer)):
            gated, gate = (sources[index] for index in pair)
            join(layer.name, gated)
            fix(gate)
        else:
            fix(layer.name, *sources)
        if not wiring.consumers[layer.name]:
            fix(layer.name)
    unique = {id(group): group for group in group_of.values()}
    return [group for group in unique.values() if not group.fixed]


def _homogeneous(layer: keras.Layer) -> bool:
    if isinstance(layer, layers.Add):
        return len({tensor.shape[-1] for tensor in layer.input}) == 1
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and layer.threshold == 0
    if isinstance(layer, layers.Activation):
        return layer.activation in _HOMOGENEOUS_FUNCTIONS
    return isinstance(layer, _HOMOGENEOUS)


def _linear(layer: keras.Layer) -> bool:
    """Whether a layer's outputs can be scaled by its weights."""
    return (
        type(layer) in OUTPUT_AXIS
        and layer.activation in _HOMOGENEOUS_FUNCTIONS
        and getattr(layer, "depth_multiplier", 1) == 1
    )


def _gated(layer: keras.Layer) -> tuple[int, int] | None:
    """Which input of a product is the map and which the gate (1, 1, channels); None if unclear."""
    areas = [int(np.prod(tensor.shape[1:-1])) for tensor in layer.input]
    if len(areas) != 2 or min(areas) > 1 or max(areas) == 1:
        return None
    return areas.index(max(areas)), areas.index(1)


def _factors(activations: list[np.ndarray], readers: list[keras.Layer]) -> np.ndarray:
    """Each channel's factor: it makes the ranges of activation and weights equal."""
    activation = np.max([found / max(found.max(), _TINY) for found in activations], 0)
    weights = [_input_ranges(layer) for layer in readers if type(layer) in _MIXING]
    weight = np.max(weights, 0) if weights else np.ones_like(activation)
    usable = (activation > _TINY) & (weight > _TINY)
    # With depthwise readers alone the weights' ranges cost nothing: only the activation's counts.
    ratio = np.where(usable, activation / np.maximum(weight, _TINY), 1.0)
    factors = np.sqrt(ratio) if weights else ratio
    if usable.any():
        factors /= np.exp(np.log(factors[usable]).mean())
    return np.where(usable, np.clip(factors, 1 / _GREATEST_FACTOR, _GREATEST_FACTOR), 1.0)


def _input_ranges(layer: keras.Layer) -> np.ndarray:
    """Greatest weight of each input, as a share of the range of the output that it goes to."""
    kernel = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    return (kernel / np.maximum(kernel.max((0, 1)), _TINY)).max((0, 2))


def _scale_outputs(layer: keras.Layer, factors: np.ndarray) -> None:
    kernel, *bias = layer.get_weights()
    shaped = factors.reshape([-1] + [1] * (-1 - OUTPUT_AXIS[type(layer)]))
    layer.set_weights([kernel * shaped, *(values * factors for values in bias)])


def _scale_inputs(layer: keras.Layer, factors: np.ndarray) -> None:
    kernel, *bias = layer.get_weights()  # all kernels have their inputs on the last axis but one
    layer.set_weights([kernel * factors.reshape(-1, 1), *bias])

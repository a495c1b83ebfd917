"""Normalisation of images absorbed into a network's first convolution, exactly.

Whatever a network does to pixels first, channel by channel (x = scale * q + offset, where q is
pixel / 128 - 1), its first convolution can do at no cost: kernels are scaled, and the offsets go
into the bias. Only the border is in the way: padding adds zeros to x, which are not zeros of q.

- No padding, or q = 0 where x = 0: nothing else is needed.
- x = 0 at the same whole pixel value in all channels: the image is padded with that value.
- Otherwise the image gets a fourth channel of a constant, which carries the offsets through the
  convolution: where padding adds zeros, it adds them there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .choices import INPUTS

if TYPE_CHECKING:
    import keras

_CONSTANT = -1.0  # of the fourth channel: exact in int8, where it is -128


@dataclass(frozen=True)
class Absorbed:
    """A network that takes pixel / 128 - 1.

    Attributes:
      model: the same function of the pixels.
      how: ``nothing to absorb``; ``kernel and bias``; ``padding value``; ``constant channel``; or
        ``operators``, where the first layer is no convolution that could take the normalisation.
    """

    model: keras.Model
    how: str


def normalises(model: keras.Model) -> bool:
    """Whether a network begins with layers that normalise pixels."""
    import keras

    model = _functional(model)
    tensor = model.inputs[0]
    while (node := _only_reader(model, tensor)) is not None and _is_augmentation(node.operation):
        (tensor,) = node.output_tensors
    if node is None:
        return False
    if isinstance(node.operation, keras.Model):
        return normalises(node.operation)
    return _affine(node.operation) is not None


def absorb(model: keras.Model, takes: str) -> Absorbed:
    """The network for images q = pixel / 128 - 1.

    Args:
      model: functional, one input (batch, height, width, 3), built, float32; unchanged.
      takes: what it was built for, one of `INPUTS`; layers that normalise further are absorbed too.
    """
    scale, offset = (np.full(3, value) for value in INPUTS[takes])
    return _absorb(model, scale, offset)


def attached(model: keras.Model, takes: str) -> keras.Model:
    """The network for such images with all normalisation as operators of its own."""
    return _attached(model, *(np.full(3, value) for value in INPUTS[takes]))


def _absorb(
    model: keras.Model, scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> Absorbed:
    import keras
    from keras import layers

    model = _functional(model)
    tensor, padding = model.inputs[0], None
    whole = scale, offset
    while (node := _only_reader(model, tensor)) is not None:
        layer = node.operation
        (result,) = node.output_tensors
        affine = _affine(layer) if padding is None else None
        if affine is not None:
            scale, offset = affine[0] * scale, affine[0] * offset + affine[1]
            tensor = result
        elif isinstance(layer, layers.ZeroPadding2D) and padding is None:
            padding, tensor = layer.padding, result
        elif isinstance(layer, keras.Model) and padding is None:
            inner = _absorb(layer, scale, offset)
            if inner.how == "operators":
                break  # they are no fewer inside
            return Absorbed(_spliced(model, result, inner.model), inner.how)
        elif _takes_in(layer, padding) and sum(n.operation is layer for n in _nodes(model)) == 1:
            first, how = _convolution(layer, tensor.shape[1:3], padding, scale, offset)
            return Absorbed(_spliced(model, result, first), how)
        else:
            break
    if np.array_equal(whole, ([1.0] * 3, [0.0] * 3)) and not normalises(model):
        return Absorbed(model, "nothing to absorb")
    return Absorbed(_attached(model, *whole), "operators")


def _convolution(
    layer: keras.layers.Conv2D,
    size: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]] | None,
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> tuple[Any, str]:
    """A function from q to what the convolution makes of the padded x, and how it is done."""
    import keras

    kernel, *bias = (np.asarray(weights, np.float64) for weights in layer.get_weights())
    if padding is None and layer.padding == "same":
        padding = _same(size, layer)
    if padding is not None and not np.any(padding):
        padding = None
    zeros = -offset / scale  # the q of each channel where x is zero
    through = kernel * scale[:, None]
    offsets = np.einsum("hwio,i->hwo", kernel, offset)
    pads: list[list[int]] | None = None
    value = 0.0
    if np.array_equal(offset, np.zeros(3)):
        how = "nothing to absorb" if np.array_equal(scale, np.ones(3)) else "kernel and bias"
        pads = [list(pair) for pair in padding or ()]
    elif padding is None:
        how = "kernel and bias"
    elif np.ptp(zeros) < 1e-9 and _is_pixel(zeros[0]):
        how, value = "padding value", float(np.rint(zeros[0] * 128) / 128)
        pads = [list(pair) for pair in padding]
    else:
        how = "constant channel"
        through = np.concatenate([through, offsets[:, :, None] / _CONSTANT], axis=2)
        offsets = np.zeros_like(offsets)
        pads = [list(pair) for pair in padding]
    config = {
        **layer.get_config(),
        "padding": "valid",
        "use_bias": True,
        "kernel_constraint": None,
    }
    first = type(layer).from_config(config)
    total = offsets.sum((0, 1)) + (bias[0] if bias else 0.0)

    def apply(image: Any) -> Any:
        if how == "constant channel":
            image = keras.ops.pad(
                image, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=_CONSTANT
            )
        if pads:
            image = keras.ops.pad(image, [[0, 0], *pads, [0, 0]], constant_values=value)
        features = first(image)
        first.set_weights([through.astype(np.float32), total.astype(np.float32)])
        return features

    return apply, how


def _spliced(model: keras.Model, tensor: Any, first: Any) -> keras.Model:
    """The model with `first`, a function of the image, in place of all that leads to `tensor`."""
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    features = first(image)
    if tensor is not model.outputs[0]:
        features = keras.Model(tensor, model.outputs[0])(features)
    return keras.Model(image, features, name=model.name)


def _attached(
    model: keras.Model, scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> keras.Model:
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    x = image * scale.astype(np.float32) + offset.astype(np.float32)
    return keras.Model(image, model(x), name=model.name)


def _functional(model: keras.Model) -> keras.Model:
    """The model's graph: a Sequential keeps it beside its list of layers."""
    return getattr(model, "_functional", None) or model


def _nodes(model: keras.Model) -> list[Any]:
    return [node for depth in model._nodes_by_depth.values() for node in depth]


def _only_reader(model: keras.Model, tensor: Any) -> Any:
    """The node that reads a tensor, where it is the only one and reads nothing else."""
    nodes = [
        node for node in _nodes(model) if any(source is tensor for source in node.input_tensors)
    ]
    if len(nodes) != 1 or len(nodes[0].input_tensors) != 1 or len(nodes[0].output_tensors) != 1:
        return None
    return nodes[0]


def _affine(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What a layer does to each of three channels, x * scale + offset, where that is all."""
    import keras
    from keras import layers

    if isinstance(layer, layers.Rescaling):
        values = [np.asarray(value, np.float64) for value in (layer.scale, layer.offset)]
    elif isinstance(layer, layers.Normalization):
        mean, variance = (
            keras.ops.convert_to_numpy(value).astype(np.float64)
            for value in (layer.mean, layer.variance)
        )
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
        scale, offset = 1 / deviation, -mean / deviation
        values = [deviation, mean] if layer.invert else [scale, offset]
    elif _is_augmentation(layer):
        values = [np.ones(1), np.zeros(1)]
    else:
        return None
    if any(value.size not in (1, 3) for value in values):
        return None
    scale, offset = (np.broadcast_to(value.ravel(), 3) for value in values)
    return scale, offset


def _is_augmentation(layer: Any) -> bool:
    """Whether a layer does something to images in training alone."""
    from keras import layers

    shifts = layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom
    noise = layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout
    return isinstance(layer, (*shifts, *noise, layers.RandomBrightness, layers.RandomContrast))


def _takes_in(layer: Any, padding: Any) -> bool:
    """Whether a layer is a convolution whose padding, with that before it, is all of one kind."""
    from keras import layers

    return (
        type(layer) is layers.Conv2D
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and (padding is None or layer.padding == "valid")
    )


def _same(size: tuple[int, int], layer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """What SAME padding adds: as much as the last window lacks, the smaller half first."""
    pairs = []
    for length, kernel, stride, dilation in zip(
        size, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = (kernel - 1) * dilation + 1
        lacking = max((-(-length // stride) - 1) * stride + reach - length, 0)
        pairs.append((lacking // 2, lacking - lacking // 2))
    return pairs[0], pairs[1]


def _is_pixel(q: float) -> bool:
    step = q * 128
    return abs(step - round(step)) < 1e-6 and -128 <= round(step) <= 127

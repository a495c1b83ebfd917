"""Folds a network's own image normalisation into its first convolution, without loss.

Some networks begin by normalising pixels, channel by channel: x = scale * q + offset, where
q = pixel / 128 - 1 is what an exported file takes. The first convolution can do this at no cost:
its kernel is multiplied by the scale, and the offsets go into its bias. The difficulty is the
border of the image, because padding adds zeros to x, and zero in x is usually not zero in q:

- Without padding, or if q = 0 where x = 0, nothing else is needed.
- If x = 0 at the same whole pixel value in all channels, the image is padded with that value.
- Otherwise the image gets a fourth channel, which is constant and adds the offsets in the
  convolution. Padding adds zeros to this channel too, and with them no offsets, which is what is
  wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .choices import INPUTS

if TYPE_CHECKING:
    import keras

_CONSTANT = -1.0  # value of the fourth channel; it is exact in int8, where it is -128


@dataclass(frozen=True)
class Absorbed:
    """A network that takes pixel / 128 - 1.

    Attributes:
      model: the network; it computes the same function of the pixels as the original one.
      how: what became of the normalisation: ``nothing to absorb``; ``kernel and bias``; ``padding
        value``; ``constant channel``; or ``operators`` if it stays a layer of its own, because it
        is not followed by a convolution that can take it in.
    """

    model: keras.Model
    how: str


def normalises(model: keras.Model) -> bool:
    """Whether a network begins with layers that normalise pixels; augmentation is skipped."""
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
    """Makes a network for images q = pixel / 128 - 1 from one for other images.

    Args:
      model: functional or Sequential, one input (batch, height, width, 3), built, float32; it is
        not changed.
      takes: the images that it was built for, one of `INPUTS`. Layers at its beginning that
        normalise further are absorbed too.

    Returns:
      The network, and what became of the normalisation.
    """
    scale, offset = (np.full(3, value) for value in INPUTS[takes])
    return _absorb(model, scale, offset)


def with_normalisation_operators(model: keras.Model, takes: str) -> keras.Model:
    """Makes a network for images q = pixel / 128 - 1 in which the normalisation stays operators.

    It is the network that `absorb` is compared with; arguments as for `absorb`.
    """
    return _with_operators(model, *(np.full(3, value) for value in INPUTS[takes]))


def _absorb(
    model: keras.Model, scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> Absorbed:
    import keras
    from keras import layers

    model = _functional(model)
    tensor, padding = model.inputs[0], None
    input_scale, input_offset = scale, offset
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
                break  # operators inside the nested model would save nothing
            return Absorbed(_with_front(model, result, inner.model), inner.how)
        elif _can_take_in(layer, padding) and sum(n.operation is layer for n in _nodes(model)) == 1:
            first, how = _convolution(layer, tensor.shape[1:3], padding, scale, offset)
            return Absorbed(_with_front(model, result, first), how)
        else:
            break
    identity = np.array_equal(input_scale, np.ones(3)) and np.array_equal(input_offset, np.zeros(3))
    if identity and not normalises(model):
        return Absorbed(model, "nothing to absorb")
    return Absorbed(_with_operators(model, input_scale, input_offset), "operators")


def _convolution(
    layer: keras.layers.Conv2D,
    size: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]] | None,
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> tuple[Any, str]:
    """The first convolution with the normalisation x = scale * q + offset folded into it.

    Args:
      layer: the convolution, which reads the padded x.
      size: height and width of x.
      padding: rows (top, bottom) and columns (left, right) that a layer before it adds, if any.
      scale, offset: (3,) each.

    Returns:
      A function from q to the output of the convolution, and what it does, see `Absorbed.how`.
    """
    import keras

    kernel, *bias = (np.asarray(weights, np.float64) for weights in layer.get_weights())
    if padding is None and layer.padding == "same":
        padding = _same_padding(size, layer)
    if padding is not None and not np.any(padding):
        padding = None
    q_of_zero = -offset / scale  # in each channel, the q at which x is zero
    scaled_kernel = kernel * scale[:, None]
    # What the offsets add to the outputs, by the position in the kernel.
    offsets = np.einsum("hwio,i->hwo", kernel, offset)
    pads: list[list[int]] | None = None
    pad_value = 0.0
    if np.array_equal(offset, np.zeros(3)):
        how = "nothing to absorb" if np.array_equal(scale, np.ones(3)) else "kernel and bias"
        pads = [list(pair) for pair in padding or ()]
    elif padding is None:
        how = "kernel and bias"
    elif np.ptp(q_of_zero) < 1e-9 and _is_pixel(q_of_zero[0]):
        how, pad_value = "padding value", float(np.rint(q_of_zero[0] * 128) / 128)
        pads = [list(pair) for pair in padding]
    else:
        how = "constant channel"
        scaled_kernel = np.concatenate([scaled_kernel, offsets[:, :, None] / _CONSTANT], axis=2)
        offsets = np.zeros_like(offsets)
        pads = [list(pair) for pair in padding]
    config = {
        **layer.get_config(),
        "padding": "valid",
        "use_bias": True,
        "kernel_constraint": None,
    }
    first = type(layer).from_config(config)
    new_bias = offsets.sum((0, 1)) + (bias[0] if bias else 0.0)

    def apply(image: Any) -> Any:
        if how == "constant channel":
            image = keras.ops.pad(
                image, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=_CONSTANT
            )
        if pads:
            image = keras.ops.pad(image, [[0, 0], *pads, [0, 0]], constant_values=pad_value)
        features = first(image)
        first.set_weights([scaled_kernel.astype(np.float32), new_bias.astype(np.float32)])
        return features

    return apply, how


def _with_front(model: keras.Model, tensor: Any, first: Any) -> keras.Model:
    """The model with `first`, a function of the image, in place of all layers up to `tensor`."""
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    features = first(image)
    if tensor is not model.outputs[0]:
        features = keras.Model(tensor, model.outputs[0])(features)
    return keras.Model(image, features, name=model.name)


def _with_operators(
    model: keras.Model, scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> keras.Model:
    """The model behind a multiplication and an addition that make x of q."""
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    x = image * scale.astype(np.float32) + offset.astype(np.float32)
    return keras.Model(image, model(x), name=model.name)


def _functional(model: keras.Model) -> keras.Model:
    """The functional model behind a model: a Sequential has it in an attribute of its own."""
    return getattr(model, "_functional", None) or model


def _nodes(model: keras.Model) -> list[Any]:
    """All calls of layers in a functional model."""
    return [node for depth in model._nodes_by_depth.values() for node in depth]


def _only_reader(model: keras.Model, tensor: Any) -> Any:
    """The one node that reads a tensor.

    None if several nodes read it, or if the node has other inputs or several outputs.
    """
    nodes = [
        node for node in _nodes(model) if any(source is tensor for source in node.input_tensors)
    ]
    if len(nodes) != 1 or len(nodes[0].input_tensors) != 1 or len(nodes[0].output_tensors) != 1:
        return None
    return nodes[0]


def _affine(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The scale and offset (3,) of a layer that computes x * scale + offset in each channel.

    None for a layer that does anything else at inference.
    """
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
    """Whether a layer changes images in training only."""
    from keras import layers

    shifts = layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom
    noise = layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout
    return isinstance(layer, (*shifts, *noise, layers.RandomBrightness, layers.RandomContrast))


def _can_take_in(layer: Any, padding: Any) -> bool:
    """Whether a layer is a convolution that can take in a normalisation.

    If a layer before it pads the image (`padding` is not None), it must not pad as well.
    """
    from keras import layers

    return (
        type(layer) is layers.Conv2D
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and (padding is None or layer.padding == "valid")
    )


def _same_padding(size: tuple[int, int], layer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows (top, bottom) and columns (left, right) that SAME padding adds to an image.

    Together they are what the last window lacks; the smaller half comes first.
    """
    pairs = []
    for length, kernel, stride, dilation in zip(
        size, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        window = (kernel - 1) * dilation + 1
        lacking = max((-(-length // stride) - 1) * stride + window - length, 0)
        pairs.append((lacking // 2, lacking - lacking // 2))
    return pairs[0], pairs[1]


def _is_pixel(q: float) -> bool:
    """Whether q = pixel / 128 - 1 of a whole pixel value from 0 to 255."""
    step = q * 128
    return abs(step - round(step)) < 1e-6 and -128 <= round(step) <= 127

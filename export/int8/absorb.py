"""Folds a network's own image normalisation into its first convolution, without loss.

Some networks begin by normalising pixels: x = matrix @ q + offset, where q = pixel / 128 - 1 is
what an exported file takes. The matrix is diagonal where each channel is scaled; it also swaps
channels (BGR). The first convolution can do this at no cost: its kernel
is multiplied by the matrix, and the offsets go into its bias. The difficulty is the border of the
image, because padding adds zeros to x, and zero in x is usually not zero in q:

- Without padding, or if q = 0 where x = 0, nothing else is needed.
- If x = 0 at the same whole pixel value in all channels, the image is padded with that value.
- Otherwise the image gets one more channel, which is constant and adds the offsets in the
  convolution. Padding adds zeros to this channel too, and with them no offsets, which is what is
  wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .fronts import Affine, functional, input_of, nodes, normalises, only_reader, step

if TYPE_CHECKING:
    import keras

_CONSTANT = -1.0  # value of that channel; it is exact in int8, where it is -128


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


def absorb(model: keras.Model, takes: str) -> Absorbed:
    """Makes a network for images q = pixel / 128 - 1 from one for other images.

    Args:
      model: functional or Sequential, one input (batch, height, width, 3 or 1), built, float32; it
        is not changed.
      takes: the images that it was built for, one of `INPUTS`. Layers at its beginning that
        normalise further are absorbed too.

    Returns:
      The network, which takes as many channels, and what became of the normalisation.
    """
    return _absorb(model, input_of(model, takes))


def with_normalisation_operators(model: keras.Model, takes: str) -> keras.Model:
    """Makes a network for images q = pixel / 128 - 1 in which the normalisation stays operators.

    It is the network that `absorb` is compared with; arguments as for `absorb`.
    """
    return _with_operators(model, input_of(model, takes))


def _absorb(model: keras.Model, affine: Affine) -> Absorbed:
    import keras
    from keras import layers

    model = functional(model)
    tensor, padding, moves = model.inputs[0], None, []
    before = affine
    while True:
        if padding is None and (taken := step(model, tensor)) is not None:
            found, result = taken
            if found is None:
                moves.append(only_reader(model, tensor).operation)
            else:
                affine = affine.then(found)
            tensor = result
            continue
        if (node := only_reader(model, tensor)) is None:
            break
        layer = node.operation
        (result,) = node.output_tensors
        if isinstance(layer, layers.ZeroPadding2D) and padding is None:
            padding, tensor = layer.padding, result
        elif isinstance(layer, keras.Model) and padding is None:
            inner = _absorb(layer, affine)
            if inner.how == "operators":
                break  # operators inside the nested model would save nothing
            return Absorbed(_with_front(model, result, moves, inner.model), inner.how)
        elif _can_take_in(layer, padding) and sum(n.operation is layer for n in nodes(model)) == 1:
            first, how = _convolution(layer, tensor.shape[1:3], padding, affine)
            return Absorbed(_with_front(model, result, moves, first), how)
        else:
            break
    if before.is_identity and not normalises(model):
        return Absorbed(model, "nothing to absorb")
    return Absorbed(_with_operators(model, before), "operators")


def _convolution(
    layer: keras.layers.Conv2D,
    size: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]] | None,
    affine: Affine,
) -> tuple[Any, str]:
    """The first convolution with the normalisation x = matrix @ q + offset folded into it.

    Args:
      layer: the convolution, which reads the padded x.
      size: height and width of x.
      padding: rows (top, bottom) and columns (left, right) that a layer before it adds, if any.
      affine: the normalisation.

    Returns:
      A function from q to the output of the convolution, and what it does, see `Absorbed.how`.
    """
    import keras

    nothing, offset = affine.is_identity, affine.offset
    if nothing and padding is None:
        return layer, "nothing to absorb"
    kernel, *bias = (np.asarray(weights, np.float64) for weights in layer.get_weights())
    if padding is None and layer.padding == "same":
        padding = _same_padding(size, layer)
    if padding is not None and not np.any(padding):
        padding = None
    # In each channel of x, the grey q at which it is zero.
    sums = affine.matrix.sum(1)
    q_of_zero = -offset / np.where(sums, sums, np.nan)
    scaled_kernel = np.einsum("hwco,ci->hwio", kernel, affine.matrix)
    # What the offsets add to the outputs, by the position in the kernel.
    offsets = np.einsum("hwio,i->hwo", kernel, offset)
    pads: list[list[int]] | None = None
    pad_value = 0.0
    if not offset.any():
        how = "nothing to absorb" if nothing else "kernel and bias"
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


def _with_front(model: keras.Model, tensor: Any, moves: list[Any], first: Any) -> keras.Model:
    """The model with `first`, a function of the image, in place of all layers up to `tensor`.

    The layers in `moves`, which crop or resize the image, stay before it.
    """
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    moved = image
    for layer in moves:
        moved = type(layer).from_config(layer.get_config())(moved)
    features = first(moved)
    if tensor is not model.outputs[0]:
        features = keras.Model(tensor, model.outputs[0])(features)
    return keras.Model(image, features, name=model.name)


def _with_operators(model: keras.Model, affine: Affine) -> keras.Model:
    """The model behind operators that make x of q."""
    import keras

    image = keras.Input(model.input_shape[1:], name="image")
    if not (affine.matrix - np.diag(np.diag(affine.matrix))).any():
        x = image * np.diag(affine.matrix).astype(np.float32) + affine.offset.astype(np.float32)
    else:
        mixed = keras.layers.Conv2D(len(affine.matrix), 1, name="channels")
        x = mixed(image)
        weights = affine.matrix.T[None, None], affine.offset
        mixed.set_weights([array.astype(np.float32) for array in weights])
    return keras.Model(image, model(x), name=model.name)


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

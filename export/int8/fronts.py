"""How a network begins: the layers that normalise, augment, crop or resize its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError

from .choices import INPUTS

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Affine:
    """x = matrix @ q + offset, for each pixel.

    Attributes:
      matrix: (channels of x, channels of q).
      offset: (channels of x,).
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def then(self, other: Affine) -> Affine:
        """This one, and the other after it."""
        return Affine(other.matrix @ self.matrix, other.matrix @ self.offset + other.offset)

    def values(self, q: NDArray[np.float32]) -> NDArray[np.float32]:
        """x, float32 (N, height, width, channels), of q, an array like it."""
        return (q.astype(np.float64) @ self.matrix.T + self.offset).astype(np.float32)

    @property
    def is_identity(self) -> bool:
        """Whether it leaves all channels as they are."""
        return np.array_equal(self.matrix, np.eye(len(self.matrix))) and not self.offset.any()


def first_layer(model: keras.Model) -> str:
    """The first layer that does not normalise, for messages: its class and name."""
    model = functional(model)
    tensor = model.inputs[0]
    while (taken := step(model, tensor)) is not None:
        _, tensor = taken
    node = only_reader(model, tensor)
    if node is None:
        return "several layers that read the image"
    if hasattr(node.operation, "layers"):
        return first_layer(node.operation)
    return f"{type(node.operation).__name__} {node.operation.name!r}"


def normalises(model: keras.Model) -> bool:
    """Whether a network begins with layers that normalise pixels; augmentation is skipped."""
    import keras

    model = functional(model)
    tensor = model.inputs[0]
    while (taken := step(model, tensor)) is not None:
        affine, tensor = taken
        if affine is not None and not affine.is_identity:
            return True
    node = only_reader(model, tensor)
    return (
        node is not None and isinstance(node.operation, keras.Model) and normalises(node.operation)
    )


def input_of(model: keras.Model, takes: str) -> Affine:
    """What a network that was built for some images takes for q, an image of its channels.

    Args:
      model: one input (batch, height, width, channels) with one channel (grey) or three.
      takes: the images, one of `INPUTS`.

    Raises:
      UserError: the images are not the same in all channels, but the network has one alone.
    """
    scale, offset = (np.broadcast_to(value, 3).astype(np.float64) for value in INPUTS[takes])
    channels = model.input_shape[-1]
    if channels == 1 and (np.ptp(scale) or np.ptp(offset)):
        raise UserError(f"--input={takes} is for three channels, but the network takes one")
    return Affine(np.diag(scale[:channels]), offset[:channels])


def functional(model: keras.Model) -> keras.Model:
    """The functional model behind a model: a Sequential has it in an attribute of its own."""
    return getattr(model, "_functional", None) or model


def nodes(model: keras.Model) -> list[Any]:
    """All calls of layers in a functional model."""
    return [node for depth in model._nodes_by_depth.values() for node in depth]


def only_reader(model: keras.Model, tensor: Any) -> Any:
    """The one node that reads a tensor.

    None if several nodes read it, or if the node has other inputs or several outputs.
    """
    readers = [
        node for node in nodes(model) if any(source is tensor for source in node.input_tensors)
    ]
    if len(readers) != 1:
        return None
    (node,) = readers
    return node if len(node.input_tensors) == len(node.output_tensors) == 1 else None


def step(model: keras.Model, tensor: Any) -> tuple[Affine | None, Any] | None:
    """What is done to an image first: an affine function of its channels, or (None) a move.

    Moves crop or resize the image, which gives the same before and after an affine function.

    Returns:
      The function and the resulting tensor; None where something else reads the image.
    """
    import keras
    from keras import layers

    if (swapped := _swapped(model, tensor)) is not None:
        return swapped
    node = only_reader(model, tensor)
    if node is None or tensor is model.outputs[0]:
        return None
    layer = node.operation
    (result,) = node.output_tensors
    if isinstance(layer, keras.Model):
        affine = _whole(layer)
    elif isinstance(layer, (layers.CenterCrop, layers.Resizing)) and _is_linear(layer):
        return None, result
    else:
        affine = _affine(layer, node, tensor.shape[-1])
    return None if affine is None else (affine, result)


def _is_linear(layer: Any) -> bool:
    """Whether a layer that crops or resizes commutes with affine functions and adds no border."""
    return getattr(layer, "interpolation", "bilinear") in ("bilinear", "nearest") and not getattr(
        layer, "pad_to_aspect_ratio", False
    )


def _whole(model: keras.Model) -> Affine | None:
    """The function of a nested model that consists of nothing but affine layers."""
    model = functional(model)
    tensor, channels = model.inputs[0], model.inputs[0].shape[-1]
    whole = Affine(np.eye(channels), np.zeros(channels))
    while tensor is not model.outputs[0]:
        taken = step(model, tensor)
        if taken is None or taken[0] is None:
            return None
        whole, tensor = whole.then(taken[0]), taken[1]
    return whole


def _swapped(model: keras.Model, tensor: Any) -> tuple[Affine, Any] | None:
    """Channels in another order, as ``stack([x[..., i] for i in (2, 1, 0)], -1)`` makes them."""
    readers = [n for n in nodes(model) if any(source is tensor for source in n.input_tensors)]
    channels = tensor.shape[-1]
    if len(readers) != channels or channels < 2:
        return None
    order: dict[int, int] = {}  # by the id of a channel's tensor
    for node in readers:
        if type(node.operation).__name__ != "GetItem" or len(node.arguments.args) < 2:
            return None
        key = node.arguments.args[1]
        if not isinstance(key, tuple | list):  # files have lists for tuples
            return None
        *others, index = key
        if others not in ([Ellipsis], [slice(None)] * 3) or not isinstance(index, int):
            return None
        order[id(node.output_tensors[0])] = index
    stacks = [n for n in nodes(model) if {*map(id, n.input_tensors)} & order.keys()]
    if len(stacks) != 1 or type(stacks[0].operation).__name__ != "Stack":
        return None
    (stack,) = stacks
    places = [order.get(id(source), -1) for source in stack.input_tensors]
    if stack.operation.axis not in (-1, 3) or sorted(places) != [*range(channels)]:
        return None
    return Affine(np.eye(channels)[places], np.zeros(channels)), stack.output_tensors[0]


def _affine(layer: Any, node: Any, channels: int) -> Affine | None:
    """The function of a layer or operation that scales and shifts each channel.

    None for a layer that does anything else at inference.
    """
    import keras
    from keras import layers

    scale: Any = 1.0
    offset: Any = 0.0
    if isinstance(layer, layers.Rescaling):
        scale, offset = layer.scale, layer.offset
    elif isinstance(layer, layers.Normalization):
        mean, variance = (
            keras.ops.convert_to_numpy(value).astype(np.float64)
            for value in (layer.mean, layer.variance)
        )
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
        scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    elif type(layer).__name__ in _ARITHMETIC and type(layer).__module__ == "keras.src.ops.numpy":
        if (found := _arithmetic(type(layer).__name__, node)) is None:
            return None
        scale, offset = found
    elif not _is_augmentation(layer):
        return None
    values = [np.asarray(value, np.float64) for value in (scale, offset)]
    if any(value.size not in (1, channels) for value in values):
        return None
    scale, offset = (np.broadcast_to(value.ravel(), channels) for value in values)
    return Affine(np.diag(scale), np.asarray(offset))


_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide"}


def _arithmetic(name: str, node: Any) -> tuple[Any, Any] | None:
    """Scale and offset of an operation on the image and a constant; None for other operations."""
    import keras

    arguments = node.arguments.args
    if len(arguments) != 2 or node.arguments.kwargs:
        return None
    if isinstance(arguments[1], keras.KerasTensor):
        if name not in ("Add", "Multiply"):
            return None
        arguments = arguments[::-1]
    if isinstance(arguments[1], keras.KerasTensor):
        return None
    try:
        constant = np.asarray(keras.ops.convert_to_numpy(arguments[1]), np.float64)
    except (TypeError, ValueError):
        return None
    if constant.size > 1 and constant.size != constant.shape[-1]:  # not one for each channel
        return None
    if name in ("Add", "Subtract"):
        return 1.0, constant if name == "Add" else -constant
    if not constant.all():
        return None
    return (constant if name == "Multiply" else 1 / constant), 0.0


def _is_augmentation(layer: Any) -> bool:
    """Whether a layer changes images in training only."""
    from keras import layers

    noise = layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout
    others = layers.Identity, layers.ActivityRegularization, layers.AlphaDropout
    return isinstance(layer, (*noise, *others)) or (
        type(layer).__name__ in _AUGMENTATIONS and type(layer).__module__.startswith("keras.src.")
    )


# Keras' layers that give the image itself at inference. RandomCrop does not: it crops or resizes.
_AUGMENTATIONS = {
    *("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomBrightness"),
    *("RandomContrast", "RandomShear", "RandomColorJitter", "RandomColorDegeneration", "RandomHue"),
    *("RandomSaturation", "RandomGrayscale", "RandomSharpness", "RandomErasing", "RandomInvert"),
    *("RandomPosterization", "RandomGaussianBlur", "RandomPerspective", "RandomElasticTransform"),
    *("MixUp", "CutMix", "RandAugment", "AugMix"),
}

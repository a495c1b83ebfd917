"""Pretrained weights for other inputs: another range of values, greyscale, more channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.pretrained.weights import Channels, PretrainedWeights
from efficientnet_elite.networks.spec import PIXEL_OFFSET, PIXEL_SCALE

_RGB = 3
# The input range of this project's networks, for the three channels.
SCALE: Channels = (PIXEL_SCALE, PIXEL_SCALE, PIXEL_SCALE)
OFFSET: Channels = (PIXEL_OFFSET, PIXEL_OFFSET, PIXEL_OFFSET)


def with_input_range(weights: PretrainedWeights) -> PretrainedWeights:
    """Weights that give the same outputs for this project's input range, pixel / 128 - 1.

    The scale of each channel is multiplied into the kernels that read the image. What the offsets
    add to a filter's output is a constant: it goes into the bias or, without one, into the moving
    mean of the batch normalisation that follows. The outputs are exactly the same except where a
    kernel reads zero padding: there, the padding is the value 0 of the new range, which is the grey
    level 128, instead of the value 0 of the range that the weights were trained with.

    Args:
      weights: of any scale and offset.

    Returns:
      The same network with other arrays, or ``weights`` itself if it takes this range already.

    Raises:
      UserError: the network reads its image with something else than convolutions, or a
        convolution without bias is not followed by batch normalisation.
    """
    factor = np.array(weights.scale, np.float64) / PIXEL_SCALE
    shift = np.array(weights.offset, np.float64) - factor * PIXEL_OFFSET
    if np.allclose(factor, 1, rtol=0, atol=1e-7) and np.allclose(shift, 0, rtol=0, atol=1e-7):
        return weights
    arrays = dict(weights.arrays)
    for index, node in _readers_of_image(weights):
        kernel = arrays[f"{node.name}/kernel"].astype(np.float64)
        constant = (kernel * _by_channel(shift, kernel)).sum(axis=(0, 1, 2))
        arrays[f"{node.name}/kernel"] = _float32(kernel * _by_channel(factor, kernel))
        variable, sign = _place_of_constant(weights, index, node)
        arrays[variable] = _float32(arrays[variable] + sign * constant)
    return replace(weights, arrays=arrays, scale=SCALE, offset=OFFSET)


def adapt_input(weights: PretrainedWeights, channels: int) -> PretrainedWeights:
    """Weights of the same network for images of another number of channels.

    One channel (greyscale): the kernels that read the image are summed over its channels, so that
    the network computes for a grey image what it computed for the three equal channels. Other
    numbers of channels: the channels of the kernels are repeated in turn (red, green, blue, red,
    ...) and multiplied by 3 / channels, which keeps the size of the outputs.

    Args:
      weights: of a network for three channels.
      channels: of the images, at least 1.

    Returns:
      Weights for this project's input range (see `with_input_range`), because the sum of channels
      needs one scale and offset for all of them; ``weights`` itself if it has these channels.

    Raises:
      UserError: the network does not read three channels, or see `with_input_range`.
    """
    height, width, current = weights.spec.input_shape
    if channels == current:
        return weights
    if current != _RGB or channels < 1:
        raise UserError(
            f"{weights.name} takes images of {current} channels and cannot be changed to "
            f"{channels}: only weights for {_RGB} channels can, to at least 1"
        )
    weights = with_input_range(weights)
    arrays = dict(weights.arrays)
    for _, node in _readers_of_image(weights):
        kernel = arrays[f"{node.name}/kernel"]
        if channels == 1:
            changed = kernel.sum(axis=2, keepdims=True)
        else:
            changed = kernel[:, :, np.arange(channels) % _RGB] * (_RGB / channels)
        arrays[f"{node.name}/kernel"] = _float32(changed)
    return replace(weights, spec=weights.spec.resized((height, width, channels)), arrays=arrays)


def _readers_of_image(weights: PretrainedWeights) -> list[tuple[int, Node]]:
    """The convolutions that read the image, with their indices in the graph."""
    nodes = weights.spec.graph.nodes
    readers = [(index, node) for index, node in enumerate(nodes) if -1 in node.inputs]
    for _, node in readers:
        if not isinstance(node.op, ops.Conv) or node.op.groups != 1:
            raise UserError(
                f"the input of {weights.name} cannot be adapted: its layer {node.name} reads the "
                "image and is no convolution over all channels"
            )
    return readers


def _place_of_constant(weights: PretrainedWeights, index: int, node: Node) -> tuple[str, int]:
    """The variable that takes what is added to a convolution's output, and the sign it gets."""
    assert isinstance(node.op, ops.Conv)
    if node.op.bias:
        return f"{node.name}/bias", 1
    followers = _readers_of(weights.spec.graph, index)
    if len(followers) == 1 and isinstance(followers[0].op, ops.BatchNorm):
        return f"{followers[0].name}/moving_mean", -1
    raise UserError(
        f"the input range of {weights.name} cannot be adapted: its layer {node.name} has neither "
        "a bias nor batch normalisation after it"
    )


def _readers_of(graph: Graph, index: int) -> list[Node]:
    return [node for node in graph.nodes if index in node.inputs]


def _by_channel(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of the channels red, green and blue in the shape of a kernel (h, w, channels, 1)."""
    if kernel.shape[2] == len(values):
        return values[:, None]
    if len(set(values)) > 1:
        raise UserError(
            f"weights for {kernel.shape[2]} channels need one scale and offset for all of them"
        )
    return values[:1, None]


def _float32(array: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)

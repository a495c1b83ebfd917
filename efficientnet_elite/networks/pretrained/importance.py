"""How much each channel of a pretrained network contributes to the layers that read it.

Nothing is computed on images. Batch normalisation says how its output is distributed: with mean
beta and standard deviation gamma. From there, mean and variance are carried through the network by
the usual approximations (independent channels, normal distributions before activations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.pretrained.channels import PASSING, Layouts, Piece
from efficientnet_elite.networks.pretrained.weights import EPSILON

Array = NDArray[np.float32]
Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_IMAGE_VARIANCE = 0.25  # of pixels in the input range of the networks
# Points that a normal distribution is sampled at: the middles of 64 parts of equal probability.
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])[:, None]


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def _hard_sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(x + 3, 0, 6) / 6


# Activations that are not listed count as ReLU.
_FUNCTIONS: Mapping[str, Function] = {
    "swish": lambda x: x * _sigmoid(x),
    "silu": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": np.tanh,
    "linear": lambda x: x,
}


def activation(kind: str) -> Function:
    """An activation by its Keras name, for arrays; ReLU for a name that is not known."""
    return _FUNCTIONS.get(kind, lambda x: np.maximum(x, 0))


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel of a tensor, over images and positions; (channels,)."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


class MomentsOfSource:
    """Moments of the tensors of a target if it had all channels of its source.

    Attributes:
      outputs: of each node of the target, None where it has no counterpart; the last entry is that
        of the image.
    """

    def __init__(
        self, graph: Graph, channels: int, matches: Mapping[str, str], arrays: Mapping[str, Array]
    ):
        self._matches, self._arrays = matches, arrays
        image = Moments(np.zeros(channels), np.full(channels, _IMAGE_VARIANCE))
        self.outputs: list[Moments | None] = [None] * len(graph.nodes) + [image]
        for index, node in enumerate(graph.nodes):
            inputs = [self.outputs[i] for i in node.inputs]
            self.outputs[index] = self._output(node, inputs)

    def _array(self, node: Node, variable: str) -> NDArray[np.float64] | None:
        array = self._arrays.get(f"{self._matches.get(node.name)}/{variable}")
        return None if array is None else array.astype(np.float64)

    def _output(self, node: Node, inputs: list[Moments | None]) -> Moments | None:
        known = [moments for moments in inputs if moments is not None]
        if not known:
            return None
        first = known[0]
        if isinstance(node.op, ops.Activation):
            samples = activation(node.op.kind)(first.mean + np.sqrt(first.variance) * _NORMAL)
            return Moments(samples.mean(0), samples.var(0))
        if isinstance(node.op, ops.GlobalAveragePool) and node.op.keepdims:
            # Gates are taken at their mean.
            return Moments(first.mean, np.zeros_like(first.variance))
        if isinstance(node.op, PASSING):
            return first
        if isinstance(node.op, ops.Concat) and len(known) == len(inputs):
            return Moments(
                np.concatenate([moments.mean for moments in known]),
                np.concatenate([moments.variance for moments in known]),
            )
        if isinstance(node.op, ops.Add):
            if node.name not in self._matches:
                return first
            return Moments(
                sum((moments.mean for moments in known[1:]), first.mean),
                sum((moments.variance for moments in known[1:]), first.variance),
            )
        if isinstance(node.op, ops.Multiply):
            gate = known[1].mean if len(known) > 1 else 1.0
            return Moments(first.mean * gate, first.variance * gate**2)
        return self._weighted(node, first)

    def _weighted(self, node: Node, x: Moments) -> Moments | None:
        if isinstance(node.op, ops.BatchNorm):
            gamma, beta = self._array(node, "gamma"), self._array(node, "beta")
            variance = self._array(node, "moving_variance")
            if gamma is None or beta is None or variance is None:
                return None
            # A channel whose input is constant is constant, whatever its gamma.
            return Moments(beta, gamma**2 * variance / (variance + EPSILON))
        kernel = self._array(node, "kernel")
        if kernel is None or isinstance(node.op, ops.Reshape):
            return None
        if isinstance(node.op, ops.DepthwiseConv):
            kernel = kernel[..., 0]
            return Moments(x.mean * kernel.sum((0, 1)), x.variance * np.square(kernel).sum((0, 1)))
        kernel = kernel.reshape(-1, *kernel.shape[-2:])
        if kernel.shape[1] != x.mean.size:  # a grouped convolution, of which all channels are kept
            return Moments(np.zeros(kernel.shape[-1]), np.ones(kernel.shape[-1]))
        mean = x.mean @ kernel.sum(0)
        bias = self._array(node, "bias")
        if bias is not None:
            mean = mean + bias
        return Moments(mean, x.variance @ np.square(kernel).sum(0))


def importance(
    graph: Graph,
    layouts: Layouts,
    matches: Mapping[str, str],
    arrays: Mapping[str, Array],
    scales: Mapping[str, NDArray[np.float64]],
    channels: int,
) -> dict[Piece, NDArray[np.float64]]:
    """How much each channel of the source contributes to the layers that read it.

    For a channel, this is the variance of its activation times the sum of the squared weights that
    read it, each scaled by the batch normalisation after it. Dead channels get zero. Where nothing
    reads a channel by weights, it is the variance alone.

    Args:
      graph: of the target.
      layouts: see `channels.find_layouts`.
      matches: see `matching.match_nodes`; here the classifier has its counterpart too.
      arrays: of the source, by variable path.
      scales: of each output channel of a convolution of the source, what batch normalisation
        multiplies it with; by the name of the convolution.
      channels: of the source's image.

    Returns:
      (channels,) for each piece that consists of nothing else.
    """
    moments = MomentsOfSource(graph, channels, matches, arrays).outputs
    read: dict[Piece, NDArray[np.float64]] = {}
    variances: dict[Piece, NDArray[np.float64]] = {}
    for index, node in enumerate(graph.nodes):
        _collect(variances, layouts.of(index), moments[index], 1.0)
        source = matches.get(node.name)
        kernel = arrays.get(f"{source}/kernel")
        if kernel is None or not isinstance(node.op, ops.Conv | ops.Dense):
            continue
        if isinstance(node.op, ops.Conv) and node.op.groups > 1:
            continue  # all of its channels are kept
        weights = np.square(kernel.astype(np.float64).reshape(-1, *kernel.shape[-2:])).sum(0)
        strength = weights @ np.square(scales.get(str(source), np.ones(weights.shape[1])))
        _collect(read, layouts.of(node.inputs[0]), moments[node.inputs[0]], strength)
    return variances | {piece: values for piece, values in read.items() if values.any()}


def _collect(
    sums: dict[Piece, NDArray[np.float64]],
    layout: tuple[Piece, ...] | None,
    moments: Moments | None,
    strength: NDArray[np.float64] | float,
) -> None:
    """Adds variance times strength of each channel of a tensor to the sums of its pieces."""
    if layout is None or moments is None:
        return
    values = moments.variance * strength
    if values.size != sum(piece.source for piece in layout):
        return
    start = 0
    for piece in layout:
        part = values[start : start + piece.source]
        sums[piece] = sums.get(piece, 0.0) + part
        start += piece.source

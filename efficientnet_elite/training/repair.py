"""Makes a network that took channels from a larger one compute again what that one computes.

Selecting channels changes all pre-activations, because the channels that were left out are missing
from the sums. `repair` refits the weights that read the remaining channels, layer by layer, on a
few hundred images; no labels are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.pretrained.selection import Selection
from efficientnet_elite.training.backend import as_arrays, compiled
from efficientnet_elite.training.walk import BATCH, Floats, Positions, Walk

Doubles = NDArray[np.float64]

_RIDGE = 1e-3  # strength of the pull towards the selected weights, times the mean squared input
_AFFINE_RIDGE = 1e-4  # the same for the factors of depthwise convolutions
_SAMPLES_PER_INPUT = 2  # fewer samples than this do not determine the weights


@dataclass(frozen=True)
class _Fit:
    """A layer of the target that is fitted, with the batch normalisation after it.

    Attributes:
      layer: index of the convolution in the target's graph.
      norm: index of its batch normalisation.
      goal: index of the node in the source's graph of which it has to give the output.
      channels: channels of the goal, for each of those of the layer.
      skips: indices of the target's nodes that are added to the output before it is compared.
      resized: whether its kernel is depthwise and has another size than the source's.
    """

    layer: int
    norm: int
    goal: int
    channels: tuple[int, ...]
    skips: tuple[int, ...] = ()
    resized: bool = False


def repair(
    model: keras.Model,
    source_model: keras.Model,
    selection: Selection,
    images: Floats,
    seed: int = 0,
) -> None:
    """Refits a network to the pre-activations of the network that its channels were taken from.

    In the order of the layers, the kernel of each convolution with a counterpart is fitted by least
    squares (ridge regression towards the selected weights) to what batch normalisation after the
    counterpart outputs. The last convolution before an addition is fitted to the sum less what the
    target itself adds to it. Depthwise convolutions keep their kernels and get the best scale and
    offset of each channel; those with kernels of another size than the source's are fitted as the
    others are. Where a stem of larger stride makes maps half as large as the source's, the goal is
    the mean of each four positions. Batch normalisation gets the statistics measured on the images;
    where it has no counterpart, that is all.

    Args:
      model: Keras model of `selection.spec` with the selected weights. It is changed.
      source_model: Keras model of `selection.source.spec`, at the input size of ``images``.
      selection: what the model took from the source.
      images: (n, height, width, channels) in the input range of both models; about 300 suffice.
      seed: of the positions in feature maps that are looked at, 64 for each image.
    """
    graph = selection.spec.graph
    fits = _find_fits(selection)
    positions = Positions(len(images), seed)
    shrinking = {fit: _shrinking(model, source_model, selection, fit) for fit in fits}
    fits = [fit for fit in fits if shrinking[fit]]
    goals = _sample_goals(source_model, selection, shrinking, images, positions)
    _Repair(model, graph, images, positions).run({fit.norm: fit for fit in fits}, goals)


def _find_fits(selection: Selection) -> list[_Fit]:
    """The convolutions of the target that can be fitted, in their order."""
    graph, origin = selection.spec.graph, selection.source.spec.graph
    indices = {node.name: index for index, node in enumerate(origin.nodes)}
    fits = []
    for norm, node in enumerate(graph.nodes):
        if not isinstance(node.op, ops.BatchNorm) or node.name not in selection.nodes:
            continue
        layer = node.inputs[0]
        if layer < 0 or graph.nodes[layer].name not in selection.nodes:
            continue
        if not isinstance(graph.nodes[layer].op, ops.Conv | ops.DepthwiseConv):
            continue
        counterpart = indices[selection.nodes[node.name]]
        goal, _ = _sum_after(origin, counterpart)
        _, skips = _sum_after(graph, norm)
        source_layer = origin.nodes[indices[selection.nodes[graph.nodes[layer].name]]]
        resized = _is_resized(source_layer, graph.nodes[layer])
        channels = tuple(map(int, selection.channels[node.name]))
        fits.append(_Fit(layer, norm, goal, channels, skips, resized))
    return fits


def _is_resized(source: Node, target: Node) -> bool:
    """Whether two depthwise convolutions have kernels of different sizes."""
    if not isinstance(source.op, ops.DepthwiseConv) or not isinstance(target.op, ops.DepthwiseConv):
        return False
    return source.op.kernel != target.op.kernel and target.op.dilation == 1


def _sum_after(graph: Graph, norm: int) -> tuple[int, tuple[int, ...]]:
    """The addition that ends a residual block with a batch normalisation, and what else it adds.

    If there is none, the batch normalisation itself and nothing else.
    """
    end = norm
    while True:
        readers = [index for index, node in enumerate(graph.nodes) if end in node.inputs]
        if len(readers) != 1:
            return norm, ()
        reader = graph.nodes[readers[0]]
        if isinstance(reader.op, ops.Add):
            skips = tuple(index for index in reader.inputs if index != end)
            return (readers[0], skips) if max(skips, default=norm) < norm else (norm, ())
        if not isinstance(reader.op, ops.DropPath | ops.Dropout):
            return norm, ()
        end = readers[0]


def _shrinking(
    model: keras.Model, source_model: keras.Model, selection: Selection, fit: _Fit
) -> int | None:
    """How many times larger the feature map of a layer's goal is, 1 or 2; None if it is neither."""
    name = selection.spec.graph.nodes[fit.norm].name
    goal = selection.source.spec.graph.nodes[fit.goal].name
    shapes = (m.get_layer(n).output.shape for m, n in ((model, name), (source_model, goal)))
    one, other = (shape[1:-1] for shape in shapes)
    if len(one) != 2:
        return None
    return next((n for n in (1, 2) if one == tuple(-(-side // n) for side in other)), None)


def _sample_goals(
    source_model: keras.Model,
    selection: Selection,
    shrinking: Mapping[_Fit, int | None],
    images: Floats,
    positions: Positions,
) -> dict[int, Floats]:
    """The source's outputs at the sampled positions, for each batch normalisation that is fitted.

    Args:
      source_model, selection, images: see `repair`.
      shrinking: of the layers, see `_shrinking`; those with None are left out.
      positions: the sampled ones.

    Returns:
      (images * positions, channels of the target) by the index of the batch normalisation.
    """
    fits = [fit for fit, times in shrinking.items() if times]
    if not fits:  # Keras builds no model without outputs
        return {}
    names = [selection.source.spec.graph.nodes[fit.goal].name for fit in fits]
    outputs = [source_model.get_layer(name).output for name in names]
    goals = keras.Model(source_model.input, outputs)
    forward = compiled(lambda images: goals(images, training=False), goals)
    samples: list[list[Floats]] = [[] for _ in fits]
    for first in range(0, len(images), BATCH):
        maps = as_arrays(forward(images[first : first + BATCH]))
        for rows, fit, x in zip(samples, fits, maps, strict=True):
            if (times := shrinking[fit]) != 1:
                x = keras.ops.average_pool(x, times, times, "same")
            rows.append(positions.sample(x, first)[:, fit.channels])
    return {fit.norm: np.concatenate(rows) for fit, rows in zip(fits, samples, strict=True)}


class _Repair:
    """Fits the layers of a model in their order. See `repair` for the arguments."""

    def __init__(self, model: keras.Model, graph: Graph, images: Floats, positions: Positions):
        self.graph, self.positions = graph, positions
        self.walk = Walk(model, graph, images)

    def run(self, fits: Mapping[int, _Fit], goals: dict[int, Floats]) -> None:
        norms = [i for i, node in enumerate(self.graph.nodes) if isinstance(node.op, ops.BatchNorm)]
        for number, norm in enumerate(norms):
            later = [i for other in norms[number:] for i in self._needed(other, fits.get(other))]
            fit = fits.get(norm)
            if fit is None:
                self._measure(norm)
            elif fit.resized:
                self._fit_depthwise(fit, goals.pop(norm), later)
            elif self._has_enough_samples(fit, goals[norm]):
                self._fit_kernel(fit, goals.pop(norm), later)
            else:
                self._fit_affine(fit, goals.pop(norm), later)

    def _is_plain(self, fit: _Fit) -> bool:
        op = self.graph.nodes[fit.layer].op
        return isinstance(op, ops.Conv) and op.groups == 1 and op.dilation == 1

    def _has_enough_samples(self, fit: _Fit, goal: Floats) -> bool:
        if not self._is_plain(fit):
            return False
        inputs = int(np.prod(self.walk.layer(fit.layer).kernel.shape[:-1]))
        return len(goal) >= _SAMPLES_PER_INPUT * inputs

    def _needed(self, norm: int, fit: _Fit | None) -> list[int]:
        """The tensors that the fit of a batch normalisation looks at."""
        layer = self.graph.nodes[norm].inputs[0]
        if fit is None:
            return [layer]
        return [*fit.skips, *self.graph.nodes[layer].inputs, layer]

    def _samples(self, batches: Iterable[Any]) -> Floats:
        return np.concatenate([self.positions.sample(x, i * BATCH) for i, x in enumerate(batches)])

    def _goal_of_branch(self, fit: _Fit, goal: Floats, later: list[int]) -> Floats:
        """What is left of the goal for the layer when the other parts of the sum are taken off."""
        for skip in fit.skips:
            goal = goal - self._samples(self.walk.keep(skip, later))
        return goal

    def _fit_kernel(self, fit: _Fit, goal: Floats, later: list[int]) -> None:
        goal = self._goal_of_branch(fit, goal, later)
        layer, norm = self.walk.layer(fit.layer), self.walk.layer(fit.norm)
        node = self.graph.nodes[fit.layer]
        read = self.walk.keep(node.inputs[0], later)
        inputs = self._samples(_patches(x, layer) for x in read)
        kernel = np.asarray(layer.kernel)
        scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
        start = kernel.reshape(-1, kernel.shape[-1]) * scale
        weights = _ridge(inputs, goal, start.astype(np.float64))
        outputs = inputs @ weights.astype(np.float32)
        layer.kernel.assign(weights.reshape(kernel.shape))
        if layer.use_bias:
            layer.bias.assign(np.zeros(kernel.shape[-1]))
        _set_norm(norm, outputs.mean(0), outputs.var(0), np.ones_like(goal[0]), goal.mean(0))

    def _fit_depthwise(self, fit: _Fit, goal: Floats, later: list[int]) -> None:
        """Fits the kernel of each channel by itself."""
        goal = self._goal_of_branch(fit, goal, later)
        layer, norm = self.walk.layer(fit.layer), self.walk.layer(fit.norm)
        kernel = np.asarray(layer.kernel)[..., 0]
        taps = int(np.prod(kernel.shape[:2]))
        scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
        start = (kernel.reshape(taps, -1) * scale).T.astype(np.float64)
        moments = _Moments(start.shape)
        used = 0
        for i, x in enumerate(self.walk.keep(self.graph.nodes[fit.layer].inputs[0], later)):
            rows = self.positions.sample(_patches(x, layer), i * BATCH)
            moments.add(rows.reshape(len(rows), taps, -1), goal[used : used + len(rows)])
            used += len(rows)
        weights, mean, variance = moments.solved(start)
        layer.kernel.assign(weights.T.reshape(*kernel.shape, 1))
        if layer.use_bias:
            layer.bias.assign(np.zeros(kernel.shape[-1]))
        self.walk.forget(fit.layer)
        _set_norm(norm, mean, variance, np.ones_like(mean), goal.mean(0))

    def _fit_affine(self, fit: _Fit, goal: Floats, later: list[int]) -> None:
        goal = self._goal_of_branch(fit, goal, later)
        outputs = self._samples(self.walk.keep(fit.layer, later))
        mean, variance = outputs.mean(0), outputs.var(0)
        covariance = ((outputs - mean) * (goal - goal.mean(0))).mean(0)
        slope = covariance / (variance + _AFFINE_RIDGE * variance.mean() + 1e-8)
        layer = self.walk.layer(fit.layer)
        if not layer.use_bias:
            # Scale by the kernel instead of gamma. Channels of little variance have slopes of up to
            # a hundred, with which small steps of the kernel would change the output a lot.
            kernel = np.asarray(layer.kernel)
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            layer.kernel.assign(kernel * (slope[:, None] if is_depthwise else slope))
            self.walk.forget(fit.layer)
            mean, variance, slope = mean * slope, variance * slope**2, np.ones_like(slope)
        _set_norm(self.walk.layer(fit.norm), mean, variance, slope, goal.mean(0))

    def _measure(self, norm: int) -> None:
        """Measures the statistics of a batch normalisation that is not fitted."""
        layer = self.walk.layer(norm)
        means, squares, weights = [], [], []
        for x in self.walk.batches(self.graph.nodes[norm].inputs[0]):
            axes = list(range(len(x.shape) - 1))
            means.append(np.asarray(keras.ops.mean(x, axes)))
            squares.append(np.asarray(keras.ops.mean(x * x, axes)))
            weights.append(len(x))
        mean = np.average(means, 0, weights)
        variance = np.maximum(np.average(squares, 0, weights) - np.square(mean), 0)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _patches(x: Any, layer: keras.layers.Conv2D) -> Any:
    """What a convolution reads at each of its positions: (batch, h, w, inputs)."""
    if layer.kernel_size == (1, 1) and layer.strides == (1, 1):
        return x
    return tf.image.extract_patches(
        np.asarray(x),
        (1, *layer.kernel_size, 1),
        (1, *layer.strides, 1),
        (1, 1, 1, 1),
        layer.padding.upper(),
    )


class _Moments:
    """Sums of what depthwise convolutions read and have to give, from which their kernels follow.

    Args:
      shape: (channels, positions of the kernel).
    """

    def __init__(self, shape: tuple[int, ...]):
        channels, taps = shape
        self._count = 0
        self._read, self._given = np.zeros((channels, taps)), np.zeros(channels)
        self._squares = np.zeros((channels, taps, taps))
        self._products = np.zeros((channels, taps))

    def add(self, read: Floats, given: Floats) -> None:
        """Adds samples: (n, positions of the kernel, channels) and (n, channels)."""
        by_channel = read.transpose(2, 1, 0)
        self._count += len(read)
        self._read += by_channel.sum(-1)
        self._given += given.sum(0)
        self._squares += by_channel @ by_channel.transpose(0, 2, 1)
        self._products += (by_channel @ given.T[..., None])[..., 0]

    def solved(self, start: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Kernels that are pulled towards given ones, and what mean and variance they give.

        All are by channel, the kernels (channels, positions of the kernel).
        """
        mean, taps = self._read / self._count, start.shape[1]
        gram = self._squares / self._count - mean[:, :, None] * mean[:, None, :]
        covariance = self._products / self._count - mean * (self._given / self._count)[:, None]
        strength = _RIDGE * np.trace(gram, axis1=1, axis2=2) / taps + 1e-12
        pulled = gram + strength[:, None, None] * np.eye(taps)
        right = covariance + strength[:, None] * start
        weights = np.linalg.solve(pulled, right[..., None])[..., 0]
        variance = np.einsum("ck,ckl,cl->c", weights, gram, weights)
        return weights, (weights * mean).sum(1), np.maximum(variance, 0)


def _ridge(inputs: Floats, goal: Floats, start: Doubles) -> Doubles:
    """Weights for centred inputs and goals, pulled towards given ones: (inputs, outputs)."""
    x, y = inputs - inputs.mean(0), goal - goal.mean(0)
    # The products are sums over thousands of samples, for which float32 is exact enough.
    gram = (x.T @ x).astype(np.float64) / len(x)
    strength = _RIDGE * np.trace(gram) / len(gram) + 1e-12
    pulled = gram + strength * np.eye(len(gram))
    return np.linalg.solve(pulled, (x.T @ y).astype(np.float64) / len(x) + strength * start)


def _set_norm(
    norm: keras.layers.BatchNormalization,
    mean: Floats | Doubles,
    variance: Floats | Doubles,
    slope: Floats | Doubles,
    offset: Floats,
) -> None:
    """Sets statistics, and gamma and beta so that x becomes slope * (x - mean) + offset."""
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
    norm.gamma.assign(slope * np.sqrt(variance + norm.epsilon))
    norm.beta.assign(offset)

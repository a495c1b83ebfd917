"""Rounds weights to int8 so that the outputs of each layer change as little as possible.

TFLite's quantizers round each weight to the nearest of 255 steps. What counts is the error of a
layer's output, though. It depends on how often and how strongly each input is active, and on which
inputs are active together: the rounding error of one weight can be made good by the others. After
`PositionSample` has seen the inputs of all layers on the representative data set, `rounded` chooses
the integers of a quantized file anew:

- Weights are rounded one after the other, and the error of each is spread over those that follow,
  by the covariance of the inputs (GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 3).
- The steps of an output channel may be finer than its greatest weight allows. That weight is then
  clipped, and the others make good for it. A few large weights on inputs that are nearly always
  zero thus no longer make all others coarse.
- The bias takes up the mean of what remains.

The file keeps its operators, types and size. Only constants change: weights, their scales, biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite import machine
from efficientnet_elite.export import inspect, rewrite

Array = NDArray[np.float64]

# A sample of positions suffices, as neighbours see nearly the same: 200 images give 6,400.
_POSITIONS = 64  # of an image
_EVERY = 2  # of the images gives positions; of a vector all are needed
_PENDING = 2**18  # numbers that are multiplied at once, which is faster than image by image
_CLIPS = np.array([1.0, 0.85, 0.7, 0.55, 0.4])  # of a channel's greatest weight
_DAMPING = 0.01  # share of the inputs' mean variance that is added to each, as in the paper
_LEAST_DAMPING = 1e-12  # where no input ever changes
_BLOCK = 64  # columns after which the errors reach all further ones
# Above that many weights an output channel, covariances take too much memory and time; such layers
# flatten maps, or are larger than those of networks for small devices.
_MOST_WEIGHTS = 2048
_GREATEST = 127  # TFLite's weights do without -128
BIAS_TYPES: dict[str, Any] = {"INT32": np.int32, "INT64": np.int64}


@dataclass(frozen=True)
class LayerInputs:
    """What the weights of one operator meet on the representative data set.

    Attributes:
      mean: (groups, size). A convolution has one group, whose size is the number of weights of an
        output channel; a depthwise convolution has a group for each channel.
      covariance: (groups, size, size).
    """

    mean: Array
    covariance: Array


@dataclass(frozen=True)
class _Operator:
    """A convolution, depthwise convolution or fully connected layer of a file.

    Attributes:
      kind: its name in the TFLite schema.
      step: its tensors' indices.
      options: ``Conv2DOptionsT``, ``DepthwiseConv2DOptionsT`` or ``FullyConnectedOptionsT``.
      filter_shape, output_shape: shapes of tensors.
    """

    kind: str
    step: inspect.Step
    options: Any
    filter_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def rows(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Weights of the filter's shape as (groups, output channels of a group, size)."""
        if self.kind == "DEPTHWISE_CONV_2D":
            return weights.reshape(-1, weights.shape[-1]).T[:, None, :]
        return weights.reshape(1, weights.shape[0], -1)

    def filter(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `rows`."""
        if self.kind == "DEPTHWISE_CONV_2D":
            return rows[:, 0, :].T.reshape(self.filter_shape)
        return rows.reshape(self.filter_shape)

    def patches(
        self, inputs: NDArray[np.float32], random: np.random.Generator
    ) -> NDArray[np.float32]:
        """What the weights meet at some positions of one image, (groups, positions, size)."""
        if self.kind == "FULLY_CONNECTED":
            return inputs.reshape(1, -1, self.filter_shape[-1])
        height, width = self.filter_shape[1:3]
        strides = self.options.strideH, self.options.strideW
        if self.kind == "CONV_2D" and (height, width, *strides) == (1, 1, 1, 1):
            pixels = inputs.reshape(-1, inputs.shape[-1])
            chosen = random.choice(len(pixels), min(len(pixels), _POSITIONS), replace=False)
            return pixels[chosen][None]
        windows = self._windows(inputs[0])  # (rows, columns, channels, height, width)
        count = windows.shape[0] * windows.shape[1]
        chosen = random.choice(count, min(count, _POSITIONS), replace=False)
        taken = windows[chosen // windows.shape[1], chosen % windows.shape[1]]
        if self.kind == "DEPTHWISE_CONV_2D":
            return taken.reshape(len(taken), -1, height * width).swapaxes(0, 1)
        return taken.transpose(0, 2, 3, 1).reshape(1, len(taken), -1)

    def _windows(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the filter sees at each position: (rows, columns, channels, height, width)."""
        padding, views = [], []
        for axis, step, dilation in (
            (0, self.options.strideH, self.options.dilationHFactor),
            (1, self.options.strideW, self.options.dilationWFactor),
        ):
            reach = (self.filter_shape[1 + axis] - 1) * dilation + 1
            missing = (self.output_shape[1 + axis] - 1) * step + reach - image.shape[axis]
            missing = max(missing, 0)  # without padding (VALID) nothing is missing
            padding.append((missing // 2, missing - missing // 2))
            views.append((reach, step, dilation))
        padded = np.pad(image, [*padding, (0, 0)])
        reaches = tuple(reach for reach, _, _ in views)
        windows = np.lib.stride_tricks.sliding_window_view(padded, reaches, axis=(0, 1))
        (_, row, tall), (_, column, wide) = views
        return windows[::row, ::column, :, ::tall, ::wide]


def _operators(contents: inspect.Contents, tree: Any) -> dict[str, _Operator]:
    """The operators of a file whose weights can be rounded, by the name of their output."""
    tensors, shared, found = contents.tensors, inspect.shared(contents), {}
    for step, written in zip(contents.steps, tree.subgraphs[0].operators, strict=True):
        if step.operator not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        if len(step.inputs) < 3 or step.inputs[2] < 0 or shared & set(step.inputs[1:]):
            continue  # shared weights would have to suit the inputs of several operators
        source, weights, bias = (tensors[index] for index in step.inputs)
        output = tensors[step.outputs[0]]
        channels = source.shape[-1]
        grouped = step.operator == "CONV_2D" and weights.shape[-1] != channels
        depthwise = step.operator == "DEPTHWISE_CONV_2D"
        multiplied = depthwise and weights.shape[-1] != channels
        large = not depthwise and prod(weights.shape[1:]) > _MOST_WEIGHTS
        if weights.constant and bias.constant and not (grouped or multiplied or large):
            found[output.name] = _Operator(
                step.operator,
                step,
                written.builtinOptions,
                weights.shape,
                output.shape,
            )
    return found


class PositionSample:
    """Collects the inputs of all layers of a float32 file, image by image."""

    def __init__(self, model: bytes, contents: inspect.Contents):
        """Finds the operators of a file, of which `contents` are the contents."""
        self._operators: dict[str, _Operator] = {}
        self._source: dict[str, str | None] = {}  # None is the image
        for name, operator in _operators(contents, rewrite.tree_of(model)).items():
            source = contents.tensors[operator.step.inputs[0]]
            if source in contents.inputs or source.producer:
                self._operators[name] = operator
                self._source[name] = None if source in contents.inputs else source.name
        self._random = np.random.default_rng(0)
        self._images = 0
        self._pending: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self._source}
        self._counts = dict.fromkeys(self._source, 0)
        self._sums: dict[str, Array] = {}
        self._products: dict[str, Array] = {}

    def add(self, image: NDArray[np.float32], values: Mapping[str, NDArray[np.float32]]) -> None:
        """Adds an image (height, width, channels) and the activations that it causes, by name.

        Call it in a context of `machine.one_thread`.
        """
        self._images += 1
        for name, operator in self._operators.items():
            if self._images % _EVERY == 0 and operator.kind != "FULLY_CONNECTED":
                continue
            source = self._source[name]
            inputs = image[None] if source is None else values[source]
            pending = self._pending[name]
            pending.append(operator.patches(inputs, self._random))
            if len(pending) * pending[0].size >= _PENDING:
                self._multiply(name)

    def _multiply(self, name: str) -> None:
        """Adds what is pending of an operator to its sums."""
        patches = np.concatenate(self._pending[name], 1, dtype=np.float64)
        self._pending[name].clear()
        self._counts[name] += patches.shape[1]
        self._sums[name] = self._sums.get(name, 0) + patches.sum(1)
        products = patches.swapaxes(1, 2) @ patches
        self._products[name] = self._products.get(name, 0) + products

    def inputs(self) -> dict[str, LayerInputs]:
        """What was collected, by the name of the operator's output."""
        found = {}
        for name, pending in self._pending.items():
            if pending:
                self._multiply(name)
            mean = self._sums[name] / self._counts[name]
            square = mean[:, :, None] * mean[:, None, :]
            covariance = self._products[name] / self._counts[name] - square
            found[name] = LayerInputs(mean, covariance)
        return found


def rounded(model: bytes, original: bytes, inputs: Mapping[str, LayerInputs]) -> bytes:
    """Chooses the integer weights of a quantized file anew.

    Args:
      model: the content of an int8 or int16x8 file.
      original: the content of the float32 file that it was made from.
      inputs: what `PositionSample` collected from `original`.

    Returns:
      The content of the file with other weights, scales of weights, and biases. Layers that stayed
      in float, grouped convolutions, very large layers, those that share weights and those without
      a bias keep theirs.
    """
    with machine.one_thread():
        return _rounded(model, original, inputs)


def _rounded(model: bytes, original: bytes, inputs: Mapping[str, LayerInputs]) -> bytes:
    float_tree = rewrite.tree_of(original)
    float_operators = _operators(inspect.read(original), float_tree)
    tree, contents = rewrite.tree_of(model), inspect.read(model)
    for name, operator in _operators(contents, tree).items():
        known, seen = float_operators.get(name), inputs.get(name)
        _, index, bias_index = operator.step.inputs
        weights, bias = contents.tensors[index], contents.tensors[bias_index]
        if known is None or seen is None:
            continue
        if weights.type != "INT8" or bias.type not in BIAS_TYPES:  # it stayed in float
            continue
        wanted, wanted_bias = (
            rewrite.constant(float_tree, i, np.float32).astype(np.float64)
            for i in known.step.inputs[1:]
        )
        rows = operator.rows(wanted.reshape(operator.filter_shape))
        groups, channels, _ = rows.shape
        scales = np.array(weights.scales)
        shaped = np.broadcast_to(scales, groups * channels).reshape(groups, channels)
        integers = rewrite.constant(tree, index, np.int8).reshape(operator.filter_shape)
        taken, finer = _round(
            rows, shaped, operator.rows(integers), seen, one_scale=len(scales) == 1
        )

        missed = rows - taken * finer[..., None]
        mean_error = (missed @ seen.mean[..., None])[..., 0].ravel()
        input_scale = np.array(bias.scales) / scales
        all_scales = finer.ravel()[: len(scales)]
        bias_scales = np.broadcast_to(input_scale * all_scales, len(wanted_bias))
        steps = np.rint((wanted_bias + mean_error) / bias_scales)
        limits: np.iinfo = np.iinfo(BIAS_TYPES[bias.type])
        steps = np.clip(steps, limits.min, limits.max).astype(limits.dtype)
        rewrite.set_constant(tree, index, operator.filter(taken).astype(np.int8))
        rewrite.set_constant(tree, bias_index, steps)
        rewrite.set_scales(tree, index, all_scales)
        rewrite.set_scales(tree, bias_index, input_scale * all_scales)
    return rewrite.packed(tree)


def _round(
    weights: Array,
    scales: Array,
    nearest: NDArray[np.int8],
    inputs: LayerInputs,
    *,
    one_scale: bool,
) -> tuple[Array, Array]:
    """Rounds the weights of an operator.

    Args:
      weights: (groups, channels, size), what the integers shall stand for.
      scales: (groups, channels), the quantizer's own.
      nearest: the quantizer's own integers, like `weights`.
      inputs: what the weights meet.
      one_scale: whether all channels have one scale, so that all are clipped alike or not at all.

    Returns:
      The integers, as floating-point numbers, and the scales. Where nothing is better than the
      quantizer's own, these are they.
    """
    all_scales = np.concatenate([scales[None], _CLIPS[:, None, None] * scales])
    spread = _spread(weights, all_scales[1:], inputs.covariance)
    integers = np.concatenate([nearest[None], spread])
    missed = integers * all_scales[..., None] - weights
    losses = ((missed @ inputs.covariance) * missed).sum(-1)  # (candidates, groups, channels)
    if one_scale:
        losses = np.broadcast_to(losses.sum((1, 2), keepdims=True), losses.shape)
    best = losses.argmin(0)[None]
    return (
        np.take_along_axis(integers, best[..., None], 0)[0],
        np.take_along_axis(all_scales, best, 0)[0],
    )


def _spread(weights: Array, scales: Array, covariance: Array) -> Array:
    """Rounds weight after weight, and adds the error of each to those that follow.

    Args:
      weights: (groups, channels, size).
      scales: (candidates, groups, channels).
      covariance: (groups, size, size), of what the weights meet.

    Returns:
      Integers between -127 and 127, as floating-point numbers, (candidates, groups, channels,
      size).
    """
    candidates, (groups, channels, size) = len(scales), weights.shape
    # The inputs that vary most come first: later ones can still make good for their errors.
    order = np.argsort(-np.diagonal(covariance, axis1=1, axis2=2), axis=1)
    upper = _compensation(
        np.take_along_axis(
            np.take_along_axis(covariance, order[:, :, None], 1), order[:, None, :], 2
        )
    )
    # All candidates at once, a weight's values in one row: (groups, size, candidates * channels).
    sorted_weights = np.take_along_axis(weights, order[:, None, :], 2).swapaxes(1, 2)
    remaining = np.tile(sorted_weights, (1, 1, candidates))
    steps = scales.swapaxes(0, 1).reshape(groups, 1, -1)
    integers = np.empty_like(remaining)
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        errors = np.empty((groups, last - first, remaining.shape[-1]))
        for i in range(first, last):
            row = remaining[:, i : i + 1]
            rounded_row = np.clip(np.rint(row / steps), -_GREATEST, _GREATEST)
            error = (row - rounded_row * steps) / upper[:, i : i + 1, i : i + 1]
            remaining[:, i + 1 : last] -= upper[:, i, i + 1 : last, None] * error
            integers[:, i : i + 1] = rounded_row
            errors[:, i - first : i - first + 1] = error
        remaining[:, last:] -= upper[:, first:last, last:].swapaxes(1, 2) @ errors
    back = np.argsort(order, axis=1)[:, :, None]
    unsorted = np.take_along_axis(integers, back, 1).reshape(groups, size, candidates, channels)
    return unsorted.transpose(2, 0, 3, 1)


def _compensation(covariance: Array) -> Array:
    """How the error of each weight is spread: the upper triangular factor of the inverse.

    Args:
      covariance: (groups, size, size).

    Returns:
      U, (groups, size, size), with U^T U the inverse of the damped covariance.
    """
    size = covariance.shape[-1]
    mean = np.trace(covariance, axis1=1, axis2=2) / size
    damping = np.maximum(_DAMPING * mean, _LEAST_DAMPING)
    damped = covariance + damping[:, None, None] * np.eye(size)
    return np.linalg.cholesky(np.linalg.inv(damped)).swapaxes(1, 2)

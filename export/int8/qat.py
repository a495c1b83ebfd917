"""Quantization-aware fine-tuning: a network learns to live with int8's rounding.

A twin of the network rounds as the int8 file will: kernels symmetrically with a scale a channel of
output, activations with one scale a tensor, batch normalisation folded before it is rounded, and
nothing rounded where the converter fuses or keeps a scale. Rounding passes gradients on as if it
were not there (straight-through estimator, Bengio et al. 2013, arXiv 1308.3432; Jacob et al. 2018,
arXiv 1712.05877). The twin is trained for a few epochs to give the logits of the original network
(distillation, arXiv 1503.02531), which needs no labels. The weights then
go the ordinary way.

Ranges of activations begin where they clip the rarest values at either end, and are learned from
there; the int8 file then gets them. (Where a few wide channels leave the others no steps between
minimum and maximum, gradients have little to begin with.) Written for Keras 3 on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from tqdm import tqdm

from efficientnet_elite.networks.layers import with_split_groups

from .folding import OUTPUT_AXIS, Wiring, copy, fold, outputs

RATE = 1e-2  # weights are multiples of their channel's greatest
_PERCENTILE = 99.5  # where first ranges clip: of the values, at either end
_RANGE_SPEED = 10.0
_TINY = 1e-12
_SIGMOID = (0.0, 255 / 256)  # the converter's range for every LOGISTIC
_RECTIFIERS = (keras.activations.relu, keras.activations.relu6)
# Output and input have one scale in TFLite, or the layer vanishes.
_SAME_SCALE = (
    layers.AveragePooling2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.Flatten,
    layers.InputLayer,
    layers.MaxPooling2D,
    layers.Permute,
    layers.Reshape,
    layers.ZeroPadding2D,
)


def rounded_weights(kernel: Any, axis: int) -> Any:
    """A kernel at int8's precision: symmetric, a scale for each index of `axis`, 127 steps."""
    scale = ops.maximum(_limits(kernel, axis), _TINY) / 127
    return _round(kernel / scale) * scale


def rounded(values: Any, low: Any, high: Any) -> Any:
    """Activations at int8's precision: 256 steps from `low` to `high`, one of them at zero.

    Gradients reach the range too: values inside pull it narrower, values beyond it wider, as in
    learned step size quantization (arXiv 1902.08153).
    """
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, _TINY) / 255
    least = _round(low / scale)  # counted from the step of zero
    return ops.clip(_round(values / scale), least, least + 255) * scale


def _round(values: Any) -> Any:
    return values + ops.stop_gradient(ops.round(values) - values)


def _limits(kernel: Any, axis: int) -> Any:
    others = [i for i in range(len(kernel.shape)) if i != axis % len(kernel.shape)]
    return ops.max(ops.abs(kernel), others, keepdims=True)


class RoundedWeights(layers.Layer):
    """A convolution, depthwise convolution or dense layer that computes with rounded weights.

    Its weights are trained as multiples of their channel's greatest: with batch normalisation
    folded, channels differ by orders of magnitude, and a step that suits one destroys another.
    """

    def __init__(self, inner: keras.Layer, axis: int, **options: Any):
        super().__init__(name=inner.name, **options)
        self.inner, self._axis = inner, axis

    def build(self, input_shape: Any) -> None:
        """Builds the layer within, whose own variables hold the scales."""
        self.inner.build(input_shape)
        self.inner.trainable = False
        self.multiples = [
            self.add_weight(shape=variable.shape, initializer="ones")
            for variable in self.inner.weights
        ]

    def take(self, weights: list[np.ndarray]) -> None:
        """Sets kernel, and bias if any."""
        kernel, *bias = weights
        limits = np.maximum(ops.convert_to_numpy(_limits(kernel, self._axis)), _TINY)
        scales = [limits, *(limits.reshape(-1) for _ in bias)]
        for multiple, scale, variable, value in zip(
            self.multiples, scales, self.inner.weights, weights, strict=True
        ):
            variable.assign(np.broadcast_to(scale, value.shape))
            multiple.assign(value / scale)

    def current(self) -> list[Any]:
        """Kernel, and bias if any, not rounded."""
        pairs = zip(self.multiples, self.inner.weights, strict=True)
        return [multiple.value * scale.value for multiple, scale in pairs]

    def call(self, inputs: Any) -> Any:
        """What the layer within gives with rounded weights."""
        kernel, *bias = self.current()
        weights = [rounded_weights(kernel, self._axis), *bias]
        return self.inner.stateless_call([], weights, inputs)[0]


class Rounded(layers.Layer):
    """Activations rounded within a range that is set first and then learned.

    Learned are the logarithms of the range's ends, `_RANGE_SPEED` times as fast as weights are
    (arXiv 1903.08066 trains thresholds in this form).
    """

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self.ends = self.add_weight(shape=(2,), initializer="zeros", trainable=False)
        self.growth = self.add_weight(shape=(2,), initializer="zeros")

    def current(self) -> Any:
        """Least and greatest value."""
        return self.ends * ops.exp(_RANGE_SPEED * self.growth)

    def call(self, inputs: Any) -> Any:
        """The rounded activations."""
        low, high = ops.unstack(self.current())
        return rounded(inputs, low, high)


class RoundedSigmoid(layers.Layer):
    """A sigmoid's values rounded in the range that the converter gives to all of them."""

    def call(self, inputs: Any) -> Any:
        """The rounded values."""
        return rounded(inputs, *_SIGMOID)


class RoundedSwish(layers.Layer):
    """x * sigmoid(x) with the sigmoid rounded, as LOGISTIC and MUL compute it."""

    def call(self, inputs: Any) -> Any:
        """The product, not rounded."""
        return inputs * rounded(ops.sigmoid(inputs), *_SIGMOID)


class Twin:
    """A network and its twin that rounds like int8.

    Attributes:
      model: the float network, batch normalisation folded; `read_back` brings it up to date.
      student: the twin.
    """

    def __init__(self, model: keras.Model, images: np.ndarray):
        """Makes the twin.

        Args:
          model: functional; unchanged.
          images: (N, height, width, channels) that the first ranges are taken from.

        Raises:
          UserError: a layer of the model is used more than once.
        """
        self.model = fold(model)
        rounding = _rounded_outputs(self.model)
        self._ranged = [name for name, fixed in rounding.items() if not fixed]

        def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
            output = layer(*arguments, **options)
            if layer.name not in rounding:
                return output
            kind = RoundedSigmoid if rounding[layer.name] else Rounded
            return kind(name=_rounding(layer.name))(output)

        self.student = copy(self.model, _clone, call)
        self._linear = [layer.name for layer in self.model.layers if type(layer) in OUTPUT_AXIS]
        for layer in self.model.layers:
            if layer.name in self._linear:
                self.student.get_layer(layer.name).take(layer.get_weights())
            elif layer.weights:
                self.student.get_layer(layer.name).set_weights(layer.get_weights())
        self._calibrate(images)

    def _calibrate(self, images: np.ndarray) -> None:
        batches = [
            {name: _clipping(values) for name, values in found.items()}
            for found in outputs(self.model, self._ranged, images)
        ]
        for name in self._ranged:
            ends = np.mean([found[name] for found in batches], 0)
            self.student.get_layer(_rounding(name)).ends.assign(ends)

    def read_back(self) -> dict[str, tuple[float, float]]:
        """Gives the float network the twin's weights; returns the ranges of its layers' outputs."""
        for name in self._linear:
            weights = self.student.get_layer(name).current()
            self.model.get_layer(name).set_weights([ops.convert_to_numpy(w) for w in weights])
        found = {}
        for name in self._ranged:
            low, high = ops.convert_to_numpy(self.student.get_layer(_rounding(name)).current())
            found[name] = float(low), float(high)
        return found


def fine_tune(
    model: keras.Model,
    batches: Iterator[Any],
    calibration: np.ndarray,
    *,
    steps: int,
    rate: float = RATE,
) -> tuple[keras.Model, dict[str, tuple[float, float]]]:
    """A copy of a network whose weights have been trained for int8.

    Args:
      model: a functional classifier, float32, images in, logits out; unchanged.
      batches: training images (batch, height, width, channels) float32.
      calibration: images like those that set the first ranges.
      steps: how many batches to train on.
      rate: greatest learning rate of Adam; it falls to zero as half a cosine.

    Returns:
      The network, batch normalisation folded, and the learned range of each layer's output, by the
      layer's name.

    Raises:
      UserError: the model is not functional, or a layer of it is used more than once.
    """
    twin = Twin(model, calibration)
    student, optimizer = twin.student, keras.optimizers.Adam(rate)
    variables = student.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(images: tf.Tensor) -> None:
        target = tf.nn.softmax(model(images, training=False))
        with tf.GradientTape() as tape:
            logits = student(images, training=False)  # dropout has done its work
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for index, images in enumerate(tqdm(islice(batches, steps), "fine-tune", steps, disable=None)):
        optimizer.learning_rate.assign(rate * (1 + np.cos(np.pi * index / steps)) / 2)
        step(tf.convert_to_tensor(images, tf.float32))
    ranges = twin.read_back()
    return twin.model, ranges


def _clipping(values: np.ndarray) -> tuple[float, float]:
    """A range, zero included, that clips the rarest values; zeros do not make others rare."""
    values = values[values != 0]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, (100 - _PERCENTILE, _PERCENTILE))
    return min(low, 0.0), max(high, 0.0)


def _rounding(name: str) -> str:
    return f"{name}_rounded"


def _clone(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, layers.Activation) and layer.activation is keras.activations.silu:
        return RoundedSwish(name=layer.name)
    clone = type(layer).from_config(layer.get_config())
    if isinstance(clone, layers.BatchNormalization):
        clone.trainable = False  # what could not be folded is a fixed scale and offset
    axis = OUTPUT_AXIS.get(type(layer))
    return clone if axis is None else RoundedWeights(with_split_groups(clone), axis)


def _rounded_outputs(model: keras.Model) -> dict[str, bool]:
    """Layers whose outputs int8 rounds anew, by name, and whether their range is a sigmoid's."""
    wiring = Wiring(model)
    found = {}
    for layer in model.layers:
        readers = wiring.consumers[layer.name]
        fused = len(readers) == 1 and _rectifies(readers[0])
        if not fused and not isinstance(layer, _SAME_SCALE):
            found[layer.name] = getattr(layer, "activation", None) is keras.activations.sigmoid
    return found


def _rectifies(layer: keras.Layer) -> bool:
    """Whether the converter makes a layer part of the one before it."""
    if isinstance(layer, layers.ReLU):
        return layer.negative_slope == 0
    return isinstance(layer, layers.Activation) and layer.activation in _RECTIFIERS

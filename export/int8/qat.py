"""Quantization-aware training: fine-tunes a network so that it keeps its accuracy in int8.

The float network gets a twin that computes with fake quantization: values stay float32 but are
rounded to the steps that the int8 file will have.

- Kernels are rounded symmetrically, with one scale per output channel, after batch normalisation
  has been folded into them.
- Activations are rounded with one scale per tensor.
- Nothing is rounded where the converter fuses a layer into another one or keeps its input's scale.

In the backward pass rounding counts as the identity (straight-through estimator, Bengio et al.
2013, arXiv 1308.3432; for networks in int8: Jacob et al. 2018, arXiv 1712.05877). The twin is
trained for a few epochs to reproduce the float network's class probabilities (distillation, Hinton
et al. 2015, arXiv 1503.02531), which needs no labels. The trained weights are then converted and
quantized like those of any other network.

The first activation ranges clip the rarest values at both ends and are then learned together with
the weights; the int8 file gets the learned ranges. The first ranges are not the minimum and the
maximum: a few channels with a wide range would leave the others almost no steps, and then there is
little gradient to learn from. Written for Keras 3 on TensorFlow.
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

from .folding import OUTPUT_AXIS, Wiring, copy, fold, layer_outputs

# Greatest learning rate. It is large because weights are trained as multiples of the greatest
# weight of their channel, see `FakeQuantizedWeights`.
LEARNING_RATE = 1e-2
_PERCENTILE = 99.5  # the first ranges clip 0.5 % of the values at either end
_RANGE_SPEED = 10.0  # ranges are learned so many times faster than weights
_TINY = 1e-12
_SIGMOID_RANGE = (0.0, 255 / 256)  # the converter gives it to the output of every LOGISTIC
_FUSED_ACTIVATIONS = (keras.activations.relu, keras.activations.relu6)
# In TFLite the input and the output of these layers have the same scale, or the layer is removed.
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


def fake_quantize_weights(kernel: Any, axis: int) -> Any:
    """Rounds a kernel to int8's steps: symmetric, 127 steps per side, one scale per channel.

    Args:
      kernel: of any shape.
      axis: the kernel's axis of output channels; each index along it has its own scale.

    Returns:
      The rounded kernel, float32, of the same shape. Gradients pass through unchanged.
    """
    scale = ops.maximum(_channel_maxima(kernel, axis), _TINY) / 127
    return _round(kernel / scale) * scale


def fake_quantize_activations(values: Any, low: Any, high: Any) -> Any:
    """Rounds activations to int8's 256 steps from `low` to `high`, one of which is exactly zero.

    Gradients also reach the range: values inside it make it narrower, and values outside make it
    wider, as in learned step size quantization (Esser et al. 2019, arXiv 1902.08153).

    Args:
      values: activations of any shape.
      low, high: scalars, ends of the range; the range is widened to include zero.

    Returns:
      The rounded activations, float32, of the same shape.
    """
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, _TINY) / 255
    lowest_step = _round(low / scale)  # steps are counted from zero
    return ops.clip(_round(values / scale), lowest_step, lowest_step + 255) * scale


def _round(values: Any) -> Any:
    """Rounds to integers; in the backward pass this is the identity."""
    return values + ops.stop_gradient(ops.round(values) - values)


def _channel_maxima(kernel: Any, axis: int) -> Any:
    """Greatest magnitude of each index of `axis`, with all other dimensions of size one."""
    other_axes = [i for i in range(len(kernel.shape)) if i != axis % len(kernel.shape)]
    return ops.max(ops.abs(kernel), other_axes, keepdims=True)


class FakeQuantizedWeights(layers.Layer):
    """A convolution, depthwise convolution or dense layer that computes with rounded weights.

    Its weights are trained as multiples of the greatest weight of their channel. With batch
    normalisation folded, the weights of different channels differ by orders of magnitude, so that
    a learning rate that suits one channel would be useless or destructive for another.
    """

    def __init__(self, inner: keras.Layer, axis: int, **options: Any):
        """Wraps `inner`; `axis` is the axis of output channels of its kernel."""
        super().__init__(name=inner.name, **options)
        self.inner, self._axis = inner, axis

    def build(self, input_shape: Any) -> None:
        """Builds the inner layer; its own variables hold the scales and are not trained."""
        self.inner.build(input_shape)
        self.inner.trainable = False
        self.multiples = [
            self.add_weight(shape=variable.shape, initializer="ones")
            for variable in self.inner.weights
        ]

    def set_float_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights from the float layer's kernel, followed by its bias if it has one."""
        kernel, *bias = weights
        maxima = np.maximum(ops.convert_to_numpy(_channel_maxima(kernel, self._axis)), _TINY)
        scales = [maxima, *(maxima.reshape(-1) for _ in bias)]
        for multiple, scale, variable, value in zip(
            self.multiples, scales, self.inner.weights, weights, strict=True
        ):
            variable.assign(np.broadcast_to(scale, value.shape))
            multiple.assign(value / scale)

    def float_weights(self) -> list[Any]:
        """The kernel, and the bias if there is one, before rounding."""
        pairs = zip(self.multiples, self.inner.weights, strict=True)
        return [multiple.value * scale.value for multiple, scale in pairs]

    def call(self, inputs: Any) -> Any:
        """The output of the inner layer with a rounded kernel; the bias is not rounded."""
        kernel, *bias = self.float_weights()
        weights = [fake_quantize_weights(kernel, self._axis), *bias]
        return self.inner.stateless_call([], weights, inputs)[0]


class FakeQuantizedActivations(layers.Layer):
    """Activations rounded within a range that is set by calibration first and then learned.

    What is learned is the logarithm of the range's ends, `_RANGE_SPEED` times as fast as weights
    (thresholds are trained in this form in Jain et al. 2019, arXiv 1903.08066).
    """

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self.initial_range = self.add_weight(shape=(2,), initializer="zeros", trainable=False)
        self.growth = self.add_weight(shape=(2,), initializer="zeros")

    def current_range(self) -> Any:
        """The ends of the range as learned so far, (2,): low and high."""
        return self.initial_range * ops.exp(_RANGE_SPEED * self.growth)

    def call(self, inputs: Any) -> Any:
        """The rounded activations."""
        low, high = ops.unstack(self.current_range())
        return fake_quantize_activations(inputs, low, high)


class FakeQuantizedSigmoid(layers.Layer):
    """Sigmoid outputs rounded in the fixed range that the converter gives to all of them."""

    def call(self, inputs: Any) -> Any:
        """The rounded values."""
        return fake_quantize_activations(inputs, *_SIGMOID_RANGE)


class FakeQuantizedSwish(layers.Layer):
    """x * sigmoid(x) with a rounded sigmoid: TFLite computes it as LOGISTIC and MUL."""

    def call(self, inputs: Any) -> Any:
        """The product, which is not rounded here."""
        return inputs * fake_quantize_activations(ops.sigmoid(inputs), *_SIGMOID_RANGE)


class Twin:
    """A float network and its twin with fake quantization.

    Attributes:
      model: the float network with batch normalisation folded; its weights are the initial ones
        until `read_back` copies the twin's into it.
      student: the twin, which is to be trained.
    """

    def __init__(self, model: keras.Model, images: np.ndarray):
        """Makes the twin and sets its first activation ranges.

        Args:
          model: a functional float32 model; it is not changed.
          images: the representative data set (N, height, width, channels), float32.

        Raises:
          UserError: the model is not functional, or uses a layer more than once.
        """
        self.model = fold(model)
        has_sigmoid_range = _rounded_outputs(self.model)
        self._learned_ranges = [name for name, fixed in has_sigmoid_range.items() if not fixed]

        def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
            output = layer(*arguments, **options)
            if layer.name not in has_sigmoid_range:
                return output
            fixed = has_sigmoid_range[layer.name]
            rounding = FakeQuantizedSigmoid if fixed else FakeQuantizedActivations
            return rounding(name=_rounding_name(layer.name))(output)

        self.student = copy(self.model, _clone, call)
        self._linear = [layer.name for layer in self.model.layers if type(layer) in OUTPUT_AXIS]
        for layer in self.model.layers:
            if layer.name in self._linear:
                self.student.get_layer(layer.name).set_float_weights(layer.get_weights())
            elif layer.weights:
                self.student.get_layer(layer.name).set_weights(layer.get_weights())
        self._calibrate(images)

    def _calibrate(self, images: np.ndarray) -> None:
        """Sets each first range to the mean of the clipping ranges of all batches of images."""
        ranges_by_batch = [
            {name: _clipping_range(values) for name, values in batch.items()}
            for batch in layer_outputs(self.model, self._learned_ranges, images)
        ]
        for name in self._learned_ranges:
            mean_range = np.mean([ranges[name] for ranges in ranges_by_batch], 0)
            self.student.get_layer(_rounding_name(name)).initial_range.assign(mean_range)

    def read_back(self) -> dict[str, tuple[float, float]]:
        """Copies the twin's weights into the float network `model`.

        Returns:
          The learned range (low, high) of each layer's output, by the layer's name.
        """
        for name in self._linear:
            weights = self.student.get_layer(name).float_weights()
            self.model.get_layer(name).set_weights([ops.convert_to_numpy(w) for w in weights])
        ranges = {}
        for name in self._learned_ranges:
            rounding = self.student.get_layer(_rounding_name(name))
            low, high = ops.convert_to_numpy(rounding.current_range())
            ranges[name] = float(low), float(high)
        return ranges


def fine_tune(
    model: keras.Model,
    batches: Iterator[Any],
    calibration: np.ndarray,
    *,
    steps: int,
) -> tuple[keras.Model, dict[str, tuple[float, float]]]:
    """Fine-tunes a copy of a network for int8.

    Args:
      model: a functional float32 classifier, images in, logits out; it is not changed.
      batches: training images, (batch, height, width, channels) float32 each.
      calibration: the representative data set (N, height, width, channels), float32; it sets the
        first activation ranges.
      steps: number of batches to train on.

    Returns:
      The fine-tuned float network, with batch normalisation folded, and the learned range of each
      layer's output, by the layer's name.

    Raises:
      UserError: the model is not functional, or uses a layer more than once.
    """
    twin = Twin(model, calibration)
    student, optimizer = twin.student, keras.optimizers.Adam(LEARNING_RATE)
    variables = student.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(images: tf.Tensor) -> None:
        target = tf.nn.softmax(model(images, training=False))
        with tf.GradientTape() as tape:
            # Without dropout: it belongs to the first training, and its noise would only hide
            # the rounding errors that are to be learned.
            logits = student(images, training=False)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for index, images in enumerate(tqdm(islice(batches, steps), "fine-tune", steps, disable=None)):
        rate = LEARNING_RATE * (1 + np.cos(np.pi * index / steps)) / 2
        optimizer.learning_rate.assign(rate)
        step(tf.convert_to_tensor(images, tf.float32))
    ranges = twin.read_back()
    return twin.model, ranges


def _clipping_range(values: np.ndarray) -> tuple[float, float]:
    """A range that includes zero and clips the rarest values at both ends.

    Percentiles are taken of the nonzero values: a ReLU's many zeros would make most of its positive
    values look rare.
    """
    values = values[values != 0]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, (100 - _PERCENTILE, _PERCENTILE))
    return min(low, 0.0), max(high, 0.0)


def _rounding_name(name: str) -> str:
    """Name of the twin's layer that rounds the output of a layer."""
    return f"{name}_fake_quantized"


def _clone(layer: keras.Layer) -> keras.Layer:
    """The twin's counterpart of a layer of the float network."""
    if isinstance(layer, layers.Activation) and layer.activation is keras.activations.silu:
        return FakeQuantizedSwish(name=layer.name)
    clone = type(layer).from_config(layer.get_config())
    if isinstance(clone, layers.BatchNormalization):
        # It could not be folded, and in int8 it is a multiplication and an addition by constants.
        clone.trainable = False
    axis = OUTPUT_AXIS.get(type(layer))
    return clone if axis is None else FakeQuantizedWeights(with_split_groups(clone), axis)


def _rounded_outputs(model: keras.Model) -> dict[str, bool]:
    """The layers whose output the int8 file rounds to a scale of its own.

    Returns:
      By the layer's name, whether its range is the fixed one of a sigmoid.
    """
    wiring = Wiring(model)
    has_sigmoid_range = {}
    for layer in model.layers:
        consumers = wiring.consumers[layer.name]
        fused = len(consumers) == 1 and _is_fused_activation(consumers[0])
        if not fused and not isinstance(layer, _SAME_SCALE):
            activation = getattr(layer, "activation", None)
            has_sigmoid_range[layer.name] = activation is keras.activations.sigmoid
    return has_sigmoid_range


def _is_fused_activation(layer: keras.Layer) -> bool:
    """Whether the converter fuses a layer into the one before it."""
    if isinstance(layer, layers.ReLU):
        return layer.negative_slope == 0
    return isinstance(layer, layers.Activation) and layer.activation in _FUSED_ACTIVATIONS

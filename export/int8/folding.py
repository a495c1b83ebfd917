"""Batch normalisation folded into the layers before it, in Keras, as the converter does it.

What comes out computes the same, has no moving statistics, and its kernels are those that int8
rounds: the form in which ranges are equalised and weights are fine-tuned for int8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from efficientnet_elite.errors import UserError

# Layers with a kernel, linear before their own activation, and the kernel's axis of outputs.
OUTPUT_AXIS: dict[type[keras.Layer], int] = {
    layers.Conv2D: -1,
    layers.DepthwiseConv2D: -2,
    layers.Dense: -1,
}


_BATCH = 32


def fold(model: keras.Model) -> keras.Model:
    """A copy of a functional model without the batch normalisations that follow a linear layer.

    Convolutions, depthwise ones and dense layers take theirs in, where nothing else reads their
    output; they keep their names and gain a bias. Any other batch normalisation stays.

    The layers of models within it, as transfer learning has them, become its own.

    Args:
      model: float32, built; unchanged.

    Returns:
      A model with weights of its own, the same function but for rounding.

    Raises:
      UserError: the model is not functional, or a layer of it is used more than once.
    """
    model = _flat(model)
    pairs = _pairs(model)
    norms = {norm.name: linear.name for linear, norm in pairs}
    biased = set(norms.values())

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config(
            {**config, "use_bias": True} if layer.name in biased else config
        )

    def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if layer.name in norms else layer(*arguments, **options)

    folded = copy(model, clone, call)
    for layer in model.layers:
        if layer.weights and layer.name not in norms and layer.name not in biased:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    for linear, norm in pairs:
        scale, offset = _affine(norm)
        kernel, *bias = linear.get_weights()
        axis = OUTPUT_AXIS[type(linear)]
        shape = [1] * kernel.ndim
        shape[axis] = -1
        shifted = offset + scale * bias[0] if bias else offset
        weights = kernel * scale.reshape(shape), shifted
        folded.get_layer(linear.name).set_weights([w.astype(np.float32) for w in weights])
    return folded


def _flat(model: keras.Model) -> keras.Model:
    """The same graph, of the same layers, without models within."""
    own = _graph(model)
    if own is None or (own is model and not any(map(_graph, model.layers))):
        return model

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        inner = _graph(operation)
        if inner is None:
            return operation(*arguments, **options)
        return inner._run_through_graph(arguments, call_fn=call)

    images = keras.Input(batch_shape=model.inputs[0].shape)
    try:
        return keras.Model(images, call(model, images), name=model.name)
    except ValueError as error:  # Keras wants each name once
        raise UserError(f"the layers of the models in {model.name} share names: {error}") from error


def _graph(operation: Any) -> Any:
    """The functional model that an operation is, or None."""
    inner = getattr(operation, "_functional", operation)  # where it is a Sequential
    return inner if getattr(inner, "_nodes_by_depth", None) is not None else None


def copy(
    model: keras.Model,
    clone: Callable[[keras.Layer], keras.Layer],
    call: Callable[..., Any],
) -> keras.Model:
    """A functional model drawn anew, each layer made by `clone` and applied by `call`.

    Layers keep their names; weights are those of new layers.
    """
    return keras.models.clone_model(model, clone_function=clone, call_function=call)


class Wiring:
    """Which layer reads which, in a functional model.

    Attributes:
      producers: layers that compute a layer's inputs, in their order, by its name.
      consumers: layers that read a layer's output, by its name.
    """

    def __init__(self, model: keras.Model):
        """UserError where there is no graph, or a layer has two places in it to fit."""
        if getattr(model, "_nodes_by_depth", None) is None:
            raise UserError(f"{model.name} is not a functional Keras model")
        self.producers: dict[str, list[keras.Layer]] = {}
        # Not `layers`: functions such as `keras.ops.pad` have a place in the graph too.
        self.consumers: dict[str, list[keras.Layer]] = {each.name: [] for each in model.operations}
        for node in (node for depth in model._nodes_by_depth.values() for node in depth):
            layer = node.operation
            if layer.name in self.producers:
                raise UserError(f"layer {layer.name} is used more than once")
            sources = [tensor._keras_history.operation for tensor in node.input_tensors]
            self.producers[layer.name] = sources
            for source in sources:
                self.consumers[source.name].append(layer)


def outputs(
    model: keras.Model, names: Sequence[str], images: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """What layers of a functional model give for images, a batch of them at a time, by name."""
    # A dictionary, because Keras unpacks a list of one.
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    for start in range(0, len(images), _BATCH):
        found = probe(images[start : start + _BATCH], training=False)
        yield {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def _pairs(model: keras.Model) -> list[tuple[keras.Layer, keras.Layer]]:
    """Linear layers and the batch normalisations that they take in."""
    wiring = Wiring(model)
    found = []
    for norm in model.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        (linear,) = wiring.producers[norm.name]
        plain = type(linear) in OUTPUT_AXIS and linear.activation is keras.activations.linear
        # A depth multiplier would interleave the outputs over two axes of the kernel.
        single = getattr(linear, "depth_multiplier", 1) == 1
        if plain and single and len(wiring.consumers[linear.name]) == 1:
            found.append((linear, norm))
    return found


def _affine(norm: keras.Layer) -> tuple[np.ndarray, np.ndarray]:
    """What batch normalisation does at inference: x * scale + offset, in float64."""
    variables = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    gamma, beta, mean, variance = (
        None if v is None else keras.ops.convert_to_numpy(v).astype(np.float64) for v in variables
    )
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + norm.epsilon)
    return scale, (0 if beta is None else beta) - scale * mean

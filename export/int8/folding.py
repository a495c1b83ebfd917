"""Folds batch normalisation into the layers before it, in Keras, as TFLite's converter does.

The folded network computes the same function without batch normalisation, and its kernels are the
ones that the quantizer rounds. Cross-layer equalization and quantization-aware training work on
this form. The module also holds what both need to handle a functional model: its graph
(`Wiring`), a copy with other layers (`copy`) and the outputs of single layers (`layer_outputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from efficientnet_elite.errors import UserError

# Layers that multiply by a kernel, and the axis of output channels of that kernel.
OUTPUT_AXIS: dict[type[keras.Layer], int] = {
    layers.Conv2D: -1,
    layers.DepthwiseConv2D: -2,
    layers.Dense: -1,
}
_BATCH = 32


def fold(model: keras.Model) -> keras.Model:
    """Copies a functional model and folds its batch normalisations into the layers before them.

    A convolution, depthwise convolution or dense layer takes in the batch normalisation behind it
    if nothing else reads its output. It keeps its name and gains a bias. Any other batch
    normalisation stays as it is. The layers of nested models, as transfer learning makes them,
    become layers of the copy itself.

    Args:
      model: float32, built; it is not changed.

    Returns:
      A model with weights of its own that computes the same function up to rounding in float32.

    Raises:
      UserError: the model is not functional, uses a layer more than once, or two of its nested
        models have layers of the same name.
    """
    model = _flat(model)
    pairs = _foldable_pairs(model)
    folded_into = {norm.name: linear.name for linear, norm in pairs}
    with_new_bias = set(folded_into.values())

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config(
            {**config, "use_bias": True} if layer.name in with_new_bias else config
        )

    def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if layer.name in folded_into else layer(*arguments, **options)

    folded = copy(model, clone, call)
    for layer in model.layers:
        if layer.weights and layer.name not in folded_into and layer.name not in with_new_bias:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    for linear, norm in pairs:
        scale, offset = _scale_and_offset(norm)
        kernel, *bias = linear.get_weights()
        axis = OUTPUT_AXIS[type(linear)]
        shape = [1] * kernel.ndim
        shape[axis] = -1
        folded_bias = offset + scale * bias[0] if bias else offset
        weights = kernel * scale.reshape(shape), folded_bias
        folded.get_layer(linear.name).set_weights([w.astype(np.float32) for w in weights])
    return folded


def _flat(model: keras.Model) -> keras.Model:
    """The same layers, connected in the same way, without nested models."""
    graph = _graph(model)
    if graph is None or (graph is model and not any(map(_graph, model.layers))):
        return model

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        inner = _graph(operation)
        if inner is None:
            return operation(*arguments, **options)
        return inner._run_through_graph(arguments, call_fn=call)

    images = keras.Input(batch_shape=model.inputs[0].shape)
    try:
        return keras.Model(images, call(model, images), name=model.name)
    except ValueError as error:  # Keras refuses two layers of the same name
        raise UserError(
            f"two of the models nested in {model.name} have layers of the same name: give all "
            f"layers different names ({error})"
        ) from error


def _graph(operation: Any) -> Any:
    """The functional model behind an operation; None if the operation is not a model."""
    inner = getattr(operation, "_functional", operation)  # a Sequential keeps it in this attribute
    return inner if getattr(inner, "_nodes_by_depth", None) is not None else None


def copy(
    model: keras.Model,
    clone: Callable[[keras.Layer], keras.Layer],
    call: Callable[..., Any],
) -> keras.Model:
    """Copies a functional model, with control over its layers and how they are called.

    Args:
      model: the functional model; it is not changed.
      clone: makes the copy of a layer.
      call: calls a copied layer: the layer, then the arguments of its call.

    Returns:
      The copy, with the weights that `clone` gave its layers.
    """
    return keras.models.clone_model(model, clone_function=clone, call_function=call)


class Wiring:
    """Which layer reads the output of which other layer in a functional model.

    Attributes:
      producers: by a layer's name, the layers that compute its inputs, in the order of the inputs.
      consumers: by a layer's name, the layers that read its output.
    """

    def __init__(self, model: keras.Model):
        """Reads the graph of a model.

        Raises:
          UserError: the model is not functional, or uses a layer more than once.
        """
        if getattr(model, "_nodes_by_depth", None) is None:
            raise UserError(
                f"{model.name} is not a functional Keras model: build it with keras.Model(inputs, "
                "outputs)"
            )
        self.producers: dict[str, list[keras.Layer]] = {}
        # `operations` and not `layers`: functions such as `keras.ops.pad` are in the graph too.
        self.consumers: dict[str, list[keras.Layer]] = {each.name: [] for each in model.operations}
        for node in (node for depth in model._nodes_by_depth.values() for node in depth):
            layer = node.operation
            if layer.name in self.producers:
                raise UserError(
                    f"layer {layer.name} is used more than once: give each place in the network "
                    "a layer of its own"
                )
            sources = [tensor._keras_history.operation for tensor in node.input_tensors]
            self.producers[layer.name] = sources
            for source in sources:
                self.consumers[source.name].append(layer)


def layer_outputs(
    model: keras.Model, names: Sequence[str], images: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """Computes the outputs of some layers of a functional model.

    Args:
      model: the functional model.
      names: names of the layers.
      images: (N, height, width, channels) float32.

    Yields:
      For each batch of images, the outputs (batch, ...) by the layer's name.
    """
    # The outputs are a dictionary because Keras turns a list of one output into that output.
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    for start in range(0, len(images), _BATCH):
        outputs = probe(images[start : start + _BATCH], training=False)
        yield {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def _foldable_pairs(model: keras.Model) -> list[tuple[keras.Layer, keras.Layer]]:
    """Pairs of a linear layer and the batch normalisation that can be folded into it."""
    wiring = Wiring(model)
    pairs = []
    for norm in model.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        (linear,) = wiring.producers[norm.name]
        is_linear = type(linear) in OUTPUT_AXIS and linear.activation is keras.activations.linear
        # With a depth multiplier the output channels would spread over two axes of the kernel.
        one_axis = getattr(linear, "depth_multiplier", 1) == 1
        if is_linear and one_axis and len(wiring.consumers[linear.name]) == 1:
            pairs.append((linear, norm))
    return pairs


def _scale_and_offset(norm: keras.Layer) -> tuple[np.ndarray, np.ndarray]:
    """What batch normalisation does at inference, x * scale + offset: (channels,) float64 each."""
    variables = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    gamma, beta, mean, variance = (
        None if v is None else keras.ops.convert_to_numpy(v).astype(np.float64) for v in variables
    )
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + norm.epsilon)
    return scale, (0 if beta is None else beta) - scale * mean

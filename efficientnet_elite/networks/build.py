"""Keras models of specs: `build`, and the Keras layer of each operation.

The models work with every backend of Keras 3. `networks.factories` has the public functions that
build networks by name.
"""

from __future__ import annotations

import zlib
from functools import singledispatch
from typing import Any

import keras
from keras import layers

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families.user import build_model
from efficientnet_elite.networks.graph import Graph
from efficientnet_elite.networks.layers import (
    Bilinear,
    FoldChannels,
    LearnedConv,
    Select,
    with_split_groups,
)
from efficientnet_elite.networks.ops import Op
from efficientnet_elite.networks.spec import PIXEL_OFFSET, PIXEL_SCALE, ArchSpec, draw_graph
from efficientnet_elite.registry import resolve


def preprocess_input(x: Any) -> Any:
    """Maps pixels from 0..255 to the input range of the networks, -1 to 0.992.

    Models that are built with ``include_preprocessing=True`` do this themselves.
    """
    return x * PIXEL_SCALE + PIXEL_OFFSET


def build(
    spec: ArchSpec,
    *,
    batch_size: int | None = None,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation: str | None = None,
    include_preprocessing: bool = False,
    input_tensor: Any = None,
    seed: int = 0,
    name: str | None = None,
    split_groups: bool = False,
) -> keras.Model:
    """Builds the Keras model of a spec with random initial weights.

    Args:
      spec: the network.
      batch_size: static batch size, or None for any batch size. Export needs 1.
      include_top: whether to keep the classifier; without it the output is the last feature map.
      pooling: global pooling of that feature map: None, ``avg`` or ``max``. Only used without the
        top.
      classifier_activation: name of an activation of the logits, such as ``softmax``, or None.
      include_preprocessing: whether the model takes pixels from 0..255 and rescales them itself;
        otherwise it takes the range of `preprocess_input`.
      input_tensor: a Keras tensor to build the model on, instead of a new input.
      seed: of the initial weights, dropout and stochastic depth.
      name: of the model; by default that of the spec.
      split_groups: whether grouped convolutions are `layers.GroupConv2D`, which train faster.

    Returns:
      a functional model that maps (batch, height, width, channels) float32 images to (batch,
      classes) logits, or (batch, h, w, classes) in a segmentation network. A model from a user's
      pool is returned as the function of the pool builds it; only ``seed`` applies to it.

    Raises:
      UserError: ``pooling`` is unknown, or a user's pool does not give the model.
    """
    if isinstance(spec.blocks[0], UserModel):
        keras.utils.set_random_seed(seed)  # the layers of the user need not have seeds of their own
        block = spec.blocks[0]
        return build_model(block.source, block.name, spec.size.height, block.classes)
    graph = spec.graph
    if not include_top:
        features = tuple(block for block in spec.blocks if not block.top)
        graph = draw_graph(spec.input_shape, features)
    image = input_tensor
    if image is None:
        image = keras.Input(spec.input_shape, batch_size=batch_size, name="image")
    x = image
    if include_preprocessing:
        x = layers.Rescaling(PIXEL_SCALE, PIXEL_OFFSET, name="preprocessing")(x)
    x = _connect(graph, x, seed, split_groups)
    if not include_top:
        if pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        elif pooling == "max":
            x = layers.GlobalMaxPooling2D(name="max_pool")(x)
        elif pooling is not None:
            raise UserError(f"pooling={pooling!r} is unknown: use None, 'avg' or 'max'")
    elif classifier_activation is not None:
        x = layers.Activation(classifier_activation, name="probabilities")(x)
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(input_tensor)
        image = sources[0] if len(sources) == 1 else sources
    return keras.Model(image, x, name=name or spec.name)


def _connect(graph: Graph, image: Any, seed: int, split_groups: bool) -> Any:
    """Makes and connects the layers of all nodes; returns the output tensor of the last one."""
    outputs: list[Any] = []
    for node in graph.nodes:
        # Each node has a seed of its own, so that its initial weights do not depend on the others.
        node_seed = zlib.crc32(f"{seed}/{node.name}".encode())
        layer = _keras_layer(node.op, node.name, node_seed)
        if split_groups:
            layer = with_split_groups(layer)
        inputs = [image if index < 0 else outputs[index] for index in node.inputs]
        outputs.append(layer(inputs[0] if len(inputs) == 1 else inputs))
    return outputs[-1]


def _kernel_initializer(seed: int, classifier: bool = False) -> keras.initializers.Initializer:
    if classifier:
        # Uniform within +-1 / sqrt(inputs), as in the code of EfficientNet's authors. Keras divides
        # by the number of outputs instead. With 1000 classes the difference is small, but with 10
        # classes training would start with a loss of 5 instead of 2.3.
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed)
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal", seed=seed)


@singledispatch
def _keras_layer(op: Op, name: str, seed: int) -> keras.Layer:
    """The Keras layer of an operation, with the name and seed of its node."""
    raise NotImplementedError(f"no Keras layer for {op}")


@_keras_layer.register
def _(op: ops.Conv, name: str, seed: int) -> keras.Layer:
    return layers.Conv2D(
        op.filters,
        op.kernel,
        op.stride,
        padding=op.padding,
        dilation_rate=op.dilation,
        groups=op.groups,
        use_bias=op.bias,
        kernel_initializer=_kernel_initializer(seed, op.classifier),
        name=name,
    )


@_keras_layer.register
def _(op: ops.DepthwiseConv, name: str, seed: int) -> keras.Layer:
    return layers.DepthwiseConv2D(
        op.kernel,
        op.stride,
        padding="same",
        dilation_rate=op.dilation,
        use_bias=False,
        depthwise_initializer=_kernel_initializer(seed),
        name=name,
    )


@_keras_layer.register
def _(op: ops.Dense, name: str, seed: int) -> keras.Layer:
    return layers.Dense(
        op.units,
        use_bias=op.bias,
        kernel_initializer=_kernel_initializer(seed, classifier=True),
        name=name,
    )


@_keras_layer.register
def _(op: ops.BatchNorm, name: str, seed: int) -> keras.Layer:
    return layers.BatchNormalization(momentum=op.momentum, epsilon=op.epsilon, name=name)


@_keras_layer.register
def _(op: ops.Activation, name: str, seed: int) -> keras.Layer:
    entry = ACTIVATIONS.get(op.kind)
    function = entry.function if entry is not None else None
    return layers.Activation(op.kind if function is None else resolve(function), name=name)


@_keras_layer.register
def _(op: ops.GlobalAveragePool, name: str, seed: int) -> keras.Layer:
    return layers.GlobalAveragePooling2D(keepdims=op.keepdims, name=name)


@_keras_layer.register
def _(op: ops.Multiply, name: str, seed: int) -> keras.Layer:
    return layers.Multiply(name=name)


@_keras_layer.register
def _(op: ops.Add, name: str, seed: int) -> keras.Layer:
    return layers.Add(name=name)


@_keras_layer.register
def _(op: ops.Dropout, name: str, seed: int) -> keras.Layer:
    return layers.Dropout(op.rate, seed=seed, name=name)


@_keras_layer.register
def _(op: ops.DropPath, name: str, seed: int) -> keras.Layer:
    return layers.Dropout(op.rate, noise_shape=(None, 1, 1, 1), seed=seed, name=name)


@_keras_layer.register
def _(op: ops.MaxPool, name: str, seed: int) -> keras.Layer:
    return layers.MaxPooling2D(op.kernel, op.stride, padding=op.padding, name=name)


@_keras_layer.register
def _(op: ops.AveragePool, name: str, seed: int) -> keras.Layer:
    return layers.AveragePooling2D(op.kernel, op.stride, padding=op.padding, name=name)


@_keras_layer.register
def _(op: ops.Concat, name: str, seed: int) -> keras.Layer:
    return layers.Concatenate(name=name)


@_keras_layer.register
def _(op: ops.Pad, name: str, seed: int) -> keras.Layer:
    return layers.ZeroPadding2D((op.height, op.width), name=name)


@_keras_layer.register
def _(op: ops.Crop, name: str, seed: int) -> keras.Layer:
    return layers.Cropping2D(((op.top, 0), (op.left, 0)), name=name)


@_keras_layer.register
def _(op: ops.Reshape, name: str, seed: int) -> keras.Layer:
    return layers.Reshape(op.shape, name=name)


@_keras_layer.register
def _(op: ops.Permute, name: str, seed: int) -> keras.Layer:
    return layers.Permute(tuple(axis + 1 for axis in op.order), name=name)


@_keras_layer.register
def _(op: ops.PReLU, name: str, seed: int) -> keras.Layer:
    slope = keras.initializers.Constant(0.25)
    return layers.PReLU(slope, shared_axes=[1, 2], name=name)


@_keras_layer.register
def _(op: ops.TransposeConv, name: str, seed: int) -> keras.Layer:
    return layers.Conv2DTranspose(
        op.filters, 2, 2, use_bias=False, kernel_initializer=_kernel_initializer(seed), name=name
    )


@_keras_layer.register
def _(op: ops.Resize, name: str, seed: int) -> keras.Layer:
    return Bilinear(op.height, op.width, name=name)


@_keras_layer.register
def _(op: ops.Select, name: str, seed: int) -> keras.Layer:
    return Select(op.indices, name=name)


@_keras_layer.register
def _(op: ops.FoldChannels, name: str, seed: int) -> keras.Layer:
    return FoldChannels(op.filters, name=name)


@_keras_layer.register
def _(op: ops.LearnedConv, name: str, seed: int) -> keras.Layer:
    return LearnedConv(op, kernel_initializer=_kernel_initializer(seed, op.classifier), name=name)

"""Keras models from `ArchSpec`s, and the public factories with `keras.applications` signatures.

Backend-neutral Keras 3. This module must not train, read data or know of searches.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import singledispatch
from numbers import Integral
from pathlib import Path
from typing import Any

import keras
from keras import layers

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families import user
from efficientnet_elite.networks.graph import Graph
from efficientnet_elite.networks.layers import FoldChannels, LearnedConv, Select, trainable
from efficientnet_elite.networks.names import DISPLAY_NAMES, MEMBERS, spec_by_name
from efficientnet_elite.networks.ops import Op
from efficientnet_elite.networks.spec import ArchSpec, draw
from efficientnet_elite.registry import resolve

# Input of every network: pixel / 128 - 1. One scalar pair for all channels, so that an int8 input
# is pixel - 128 (scale 1/128, zero point 0) at no cost, and SAME padding's zero is grey 128.
PIXEL_SCALE = 1 / 128
PIXEL_OFFSET = -1.0


def preprocess_input(x: Any) -> Any:
    """Maps pixels 0..255 to a network's input range; for ``include_preprocessing=False``."""
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
    """Builds the Keras model of a spec, randomly initialised.

    Args:
      spec: the network.
      batch_size: a static batch size (export wants 1), or None.
      include_top: whether to keep the classifier; without it the output is the last feature map.
      pooling: without the top: None, ``avg`` or ``max``.
      classifier_activation: for the logits: None or an activation's name, such as ``softmax``.
      include_preprocessing: whether the model takes pixels 0..255 (and rescales them itself)
        rather than the range of `preprocess_input`.
      input_tensor: a Keras tensor to build on, instead of a new input.
      seed: of the initial weights, dropout and stochastic depth.
      name: of the model; the spec's by default.
      split_groups: whether grouped convolutions are `group_conv.GroupConv2D`, for training.

    Returns:
      a functional model from (batch, height, width, channels) float32 to (batch, classes). A model
      of a user's own pool is as its function builds it; of the options only ``seed`` applies.
    """
    if isinstance(spec.blocks[0], UserModel):
        keras.utils.set_random_seed(seed)  # its layers have no seeds of ours
        block = spec.blocks[0]
        return user.build(block.source, block.name, spec.resolution, block.classes)
    graph = spec.graph
    if not include_top:
        features = tuple(block for block in spec.blocks if not block.top)
        graph = draw(spec.input_shape, features)
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
            raise UserError(f"pooling={pooling!r}: use None, 'avg' or 'max'")
    elif classifier_activation is not None:
        x = layers.Activation(classifier_activation, name="probabilities")(x)
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(input_tensor)
        image = sources[0] if len(sources) == 1 else sources
    return keras.Model(image, x, name=name or spec.name)


def _connect(graph: Graph, image: Any, seed: int, split_groups: bool) -> Any:
    values: list[Any] = []
    for node in graph.nodes:
        # A seed a node: adding one elsewhere must not change what the others draw.
        node_seed = zlib.crc32(f"{seed}/{node.name}".encode())
        layer = _layer(node.op, node.name, node_seed)
        if split_groups:
            layer = trainable(layer)
        sources = [image if index < 0 else values[index] for index in node.inputs]
        values.append(layer(sources[0] if len(sources) == 1 else sources))
    return values[-1]


def _kernel(seed: int, classifier: bool = False) -> keras.initializers.Initializer:
    if classifier:
        # +-1 / sqrt(inputs), as in the authors' code. Keras' EfficientNet divides by the outputs,
        # which is alike for 1000 classes but starts with a loss of 5 rather than 2.3 for ten.
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed)
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal", seed=seed)


@singledispatch
def _layer(op: Op, name: str, seed: int) -> keras.Layer:
    raise NotImplementedError(f"no Keras layer for {op}")


@_layer.register
def _(op: ops.Conv, name: str, seed: int) -> keras.Layer:
    return layers.Conv2D(
        op.filters,
        op.kernel,
        op.stride,
        padding=op.padding,
        dilation_rate=op.dilation,
        groups=op.groups,
        use_bias=op.bias,
        kernel_initializer=_kernel(seed, op.classifier),
        name=name,
    )


@_layer.register
def _(op: ops.DepthwiseConv, name: str, seed: int) -> keras.Layer:
    return layers.DepthwiseConv2D(
        op.kernel,
        op.stride,
        padding="same",
        dilation_rate=op.dilation,
        use_bias=False,
        depthwise_initializer=_kernel(seed),
        name=name,
    )


@_layer.register
def _(op: ops.Dense, name: str, seed: int) -> keras.Layer:
    kernel = _kernel(seed, classifier=True)
    return layers.Dense(op.units, use_bias=op.bias, kernel_initializer=kernel, name=name)


@_layer.register
def _(op: ops.BatchNorm, name: str, seed: int) -> keras.Layer:
    return layers.BatchNormalization(momentum=op.momentum, epsilon=op.epsilon, name=name)


@_layer.register
def _(op: ops.Activation, name: str, seed: int) -> keras.Layer:
    entry = ACTIVATIONS.get(op.kind)
    function = entry.function if entry is not None else None
    return layers.Activation(op.kind if function is None else resolve(function), name=name)


@_layer.register
def _(op: ops.GlobalAveragePool, name: str, seed: int) -> keras.Layer:
    return layers.GlobalAveragePooling2D(keepdims=op.keepdims, name=name)


@_layer.register
def _(op: ops.Multiply, name: str, seed: int) -> keras.Layer:
    return layers.Multiply(name=name)


@_layer.register
def _(op: ops.Add, name: str, seed: int) -> keras.Layer:
    return layers.Add(name=name)


@_layer.register
def _(op: ops.Dropout, name: str, seed: int) -> keras.Layer:
    return layers.Dropout(op.rate, seed=seed, name=name)


@_layer.register
def _(op: ops.DropPath, name: str, seed: int) -> keras.Layer:
    return layers.Dropout(op.rate, noise_shape=(None, 1, 1, 1), seed=seed, name=name)


@_layer.register
def _(op: ops.MaxPool, name: str, seed: int) -> keras.Layer:
    return layers.MaxPooling2D(op.kernel, op.stride, padding=op.padding, name=name)


@_layer.register
def _(op: ops.AveragePool, name: str, seed: int) -> keras.Layer:
    return layers.AveragePooling2D(op.kernel, op.stride, padding=op.padding, name=name)


@_layer.register
def _(op: ops.Concat, name: str, seed: int) -> keras.Layer:
    return layers.Concatenate(name=name)


@_layer.register
def _(op: ops.Pad, name: str, seed: int) -> keras.Layer:
    return layers.ZeroPadding2D((op.height, op.width), name=name)


@_layer.register
def _(op: ops.Crop, name: str, seed: int) -> keras.Layer:
    return layers.Cropping2D(((op.top, 0), (op.left, 0)), name=name)


@_layer.register
def _(op: ops.Reshape, name: str, seed: int) -> keras.Layer:
    return layers.Reshape(op.shape, name=name)


@_layer.register
def _(op: ops.Permute, name: str, seed: int) -> keras.Layer:
    return layers.Permute(tuple(axis + 1 for axis in op.order), name=name)


@_layer.register
def _(op: ops.PReLU, name: str, seed: int) -> keras.Layer:
    slope = keras.initializers.Constant(0.25)
    return layers.PReLU(slope, shared_axes=[1, 2], name=name)


@_layer.register
def _(op: ops.TransposeConv, name: str, seed: int) -> keras.Layer:
    return layers.Conv2DTranspose(
        op.filters, 2, 2, use_bias=False, kernel_initializer=_kernel(seed), name=name
    )


@keras.saving.register_keras_serializable(package="efficientnet_elite")
class Bilinear(layers.Layer):
    """Bilinear interpolation of (batch, h, w, c) to (batch, height, width, c).

    Not `keras.layers.Resizing`: its call defaults to training, and a model called without that
    argument then normalises what follows by the batch's own statistics.
    """

    def __init__(self, height: int, width: int, **options: Any):
        super().__init__(**options)
        self.height, self.width = height, width

    def call(self, inputs: Any) -> Any:
        """The resized maps."""
        return keras.ops.image.resize(inputs, (self.height, self.width), interpolation="bilinear")

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "height": self.height, "width": self.width}


@_layer.register
def _(op: ops.Resize, name: str, seed: int) -> keras.Layer:
    return Bilinear(op.height, op.width, name=name)


@_layer.register
def _(op: ops.Select, name: str, seed: int) -> keras.Layer:
    return Select(op.indices, name=name)


@_layer.register
def _(op: ops.FoldChannels, name: str, seed: int) -> keras.Layer:
    return FoldChannels(op.filters, name=name)


@_layer.register
def _(op: ops.LearnedConv, name: str, seed: int) -> keras.Layer:
    kernel = _kernel(seed, op.classifier)
    return LearnedConv(op, kernel_initializer=kernel, name=name)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads a ``.weights.h5`` or ``.keras`` file; UserError where it is missing or does not fit."""
    if not Path(path).is_file():
        raise UserError(f"weights file {path} does not exist: give the path of a .weights.h5 file")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"weights file {path} does not fit {model.name}: {reason}") from error


def _input_shape(
    input_shape: tuple[int, int, int] | None, input_tensor: Any
) -> tuple[int, int, int] | None:
    """What a factory was given; UserError where it is no size of images, or two."""
    shape = input_shape
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise UserError(
                f"input_shape={input_shape} and an input_tensor of {shape}: leave one of them out"
            )
    if shape is None:
        return None
    if len(shape) != 3 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise UserError(
            f"input_shape={shape}: a network is built for one size, (height, width, channels) in "
            "whole numbers, such as (96, 96, 3)"
        )
    height, width, channels = map(int, shape)
    return height, width, channels


def _factory(member: str) -> Callable[..., keras.Model]:
    default = spec_by_name(member)

    def factory(
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Any = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        include_preprocessing: bool = True,
        name: str | None = None,
    ) -> keras.Model:
        spec = spec_by_name(member, classes=classes)
        shape = _input_shape(input_shape, input_tensor)
        if shape is not None:
            spec = spec.resized(shape)
        model = build(
            spec,
            include_top=include_top,
            pooling=pooling,
            classifier_activation=classifier_activation if include_top else None,
            include_preprocessing=include_preprocessing,
            input_tensor=input_tensor,
            name=name,
        )
        if weights is not None:
            load_weights(model, weights)
        return model

    factory.__name__ = factory.__qualname__ = MEMBERS[member].display_name
    factory.__doc__ = f"""{factory.__name__} (arXiv 2009.07409), as `keras.applications` models.

    Published setting: {default.resolution} x {default.resolution} x 3 input, {default.params:,}
    parameters, {default.macs:,} multiply-accumulates with 1000 classes.

    Args:
      include_top: whether to keep the classifier.
      weights: path of a weights file, or None for random ones. There are no pretrained weights.
      input_tensor: a Keras tensor to build on.
      input_shape: (height, width, channels); the published one by default.
      pooling: without the top: None (last feature map), ``avg`` or ``max``.
      classes: number of classes.
      classifier_activation: ``softmax``, or None for logits.
      include_preprocessing: whether the model takes pixels 0..255; otherwise apply
        `preprocess_input` first.
      name: of the model.
    """
    return factory


def __getattr__(name: str) -> Any:
    """The factories `ELite0` .. `ELite9`, `HF0` .. `HF5`, made on first use."""
    member = DISPLAY_NAMES.get(name)
    if member is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    factory = globals()[name] = _factory(member)
    return factory


def build_named(name_or_spec: str | ArchSpec, **options: Any) -> keras.Model:
    """`build` for a spec, or for the name of a pool's candidate, such as ``elite9``.

    Beside `build`'s options a name takes ``classes`` and ``base_resolution``.
    """
    if isinstance(name_or_spec, ArchSpec):
        return build(name_or_spec, **options)
    keys = {key: options.pop(key) for key in ("classes", "base_resolution") if key in options}
    return build(spec_by_name(name_or_spec, **keys), **options)


__all__ = ["build", "build_named", "load_weights", "preprocess_input"]

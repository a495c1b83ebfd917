"""Pretrained weights of `keras.applications`: from layers, a file, or Keras' cache and download.

The padding is the one difference between these networks and ours. Keras pads strided depthwise
convolutions by layers of their own. These do what ``same`` padding does, except those of
MobileNetV1 and of models that were made without an input size: they pad every map as if its sides
were even.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.keras_layers import KerasLayers, of_model
from efficientnet_elite.networks.pretrained.keras_networks import (
    KERAS_NETWORKS,
    KerasNetwork,
    Place,
    cache_folder,
)
from efficientnet_elite.networks.pretrained.variables import variables
from efficientnet_elite.networks.pretrained.weights import (
    Channels,
    PretrainedWeights,
    sha256_of,
    with_our_epsilon,
)
from efficientnet_elite.networks.spec import ArchSpec, draw_graph

# Of the networks without layers for it: pixel / 127.5 - 1, ``preprocess_input`` of mode "tf".
_SCALE, _OFFSET = 1 / 127.5, -1.0
# EfficientNet's published files hold these in place of the variances of the image's channels.
_IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)
_NORMALISED = ("Rescaling", "Normalization")


@dataclass(frozen=True)
class Origin:
    """Where weights come from; see `PretrainedWeights` for the fields."""

    name: str
    origin: str
    sha256: str
    licence: str = "unknown"


def recognised(layers: KerasLayers) -> KerasNetwork | None:
    """The network that layers of these names and sizes belong to; None if there is none."""
    fitting = [network for network in KERAS_NETWORKS.values() if _has_features(network, layers)]
    # A deeper network has all layers of the shallower ones of its width.
    return max(fitting, key=lambda network: len(network.spec.graph.nodes), default=None)


def from_layers(
    layers: KerasLayers, origin: Origin, network: KerasNetwork | None = None
) -> PretrainedWeights:
    """The weights of the layers of a model of `keras.applications`.

    A classifier that the model lacks has the random initial weights of `build`.

    Args:
      layers: of the model.
      origin: where they come from.
      network: the network; by default it is recognised by the names and sizes of the layers.

    Raises:
      UserError: the layers are of no network that this project has, or of another one than
        ``network``; there are further layers with weights before its end; or it was saved for an
        input size at which ours would compute something else.
    """
    network = network or recognised(layers)
    if network is None or not _has_features(network, layers):
        wanted = f"not {network.function}" if network else "of no network that can be read"
        raise UserError(
            f"{origin.origin} is {wanted} ({layers.name or 'unnamed'}): use weights of "
            "keras.applications' EfficientNetB0 to B7, MobileNet, MobileNetV2, MobileNetV3Small, "
            "MobileNetV3Large or NASNetMobile"
        )
    _check_further_layers(network, layers, origin)
    spec = _fitting_spec(network, layers)
    _check_padding(network, spec, layers, origin)
    scale, offset = _input_range(network, layers)
    arrays = fill(spec, layers, network.layers(spec), origin.origin)
    return PretrainedWeights(
        name=origin.name,
        spec=spec,
        arrays=arrays,
        scale=scale,
        offset=offset,
        licence=origin.licence,
        sha256=origin.sha256,
        origin=origin.origin,
    )


def fill(
    spec: ArchSpec, layers: KerasLayers, places: Mapping[str, Place], origin: str
) -> dict[str, NDArray[np.float32]]:
    """The arrays of a network by the paths of their variables.

    Batch normalisation of another epsilon than ours is brought to ours by its gamma: the outputs
    stay the same.

    Args:
      spec: the network.
      layers: the layers with its weights. Layers of the top may be missing; the variables then keep
        the initial values of `build`.
      places: where each of our layers is found among them.
      origin: of the layers, for messages.

    Raises:
      UserError: an array is missing or has another shape.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    top = top_layers(spec)
    initial = None
    norms = {node.name for node in spec.graph.nodes if isinstance(node.op, ops.BatchNorm)}
    for layer, shapes in variables(spec).items():
        source, first = places.get(layer, (layer, 0))
        values = layers.weights.get(source)
        if values is None and layer in top:
            initial = initial or _initial_top(spec)
            arrays |= {path: initial[path] for path in shapes}
            continue
        values = (values or [])[first : first + len(shapes)]
        if len(values) != len(shapes):
            raise UserError(f"{origin} does not fit {spec.name}: layer {source} has no weights")
        for (path, shape), value in zip(shapes.items(), values, strict=True):
            arrays[path] = _shaped(value, shape, source, origin)
        if layer in norms:
            gamma, variance = f"{layer}/gamma", f"{layer}/moving_variance"
            arrays[gamma] = with_our_epsilon(
                arrays[gamma], arrays[variance], layers.epsilon(source)
            )
    return arrays


def _initial_top(spec: ArchSpec) -> dict[str, NDArray[np.float32]]:
    """The arrays with which `build` begins the layers that turn features into logits."""
    features = tuple(block for block in spec.blocks if not block.top)
    height, width, channels = draw_graph(spec.input_shape, features).nodes[-1].shape
    top = tuple(block for block in spec.blocks if block.top)
    model = build(ArchSpec(spec.name, (height, width, channels), top))
    return {v.path: np.asarray(v) for v in model.weights if "seed" not in v.path}


def _shaped(
    value: NDArray[Any], shape: tuple[int, ...], layer: str, origin: str
) -> NDArray[np.float32]:
    """The array as float32; the 1x1 kernel of a convolution is that of a fully connected layer."""
    if value.shape != shape and value.shape != (1, 1, *shape):
        raise UserError(
            f"{origin} does not fit: layer {layer} has weights of shape {value.shape}, and "
            f"{shape} is needed"
        )
    return np.ascontiguousarray(value.reshape(shape), np.float32)


def top_layers(spec: ArchSpec) -> set[str]:
    """Names of the layers that turn features into logits."""
    blocks = tuple(block for block in spec.blocks if not block.top)
    features = {node.name for node in draw_graph(spec.input_shape, blocks).nodes}
    return {node.name for node in spec.graph.nodes} - features


def _has_features(network: KerasNetwork, layers: KerasLayers) -> bool:
    """Whether all layers before the top are there, with arrays of the right sizes."""
    spec = network.spec
    places = network.layers(spec)
    top = top_layers(spec)
    for node in spec.graph.nodes:
        if node.name not in places or node.name in top:
            continue
        source, first = places[node.name]
        count = 4 if isinstance(node.op, ops.BatchNorm) else 1 + getattr(node.op, "bias", False)
        arrays = layers.weights.get(source, [])[first : first + count]
        if len(arrays) != count or sum(array.size for array in arrays) != node.params:
            return False
    return True


def _check_further_layers(network: KerasNetwork, layers: KerasLayers, origin: Origin) -> None:
    """Raises UserError if layers with weights, which ours lacks, may stand inside the network."""
    spec = network.spec
    top = top_layers(spec)
    places = network.layers(spec)
    known = {source for source, _ in places.values()}
    order = list(layers.configs)
    features = [places[name][0] for name in places if name not in top]
    end = max(order.index(name) for name in features) if order else 0
    for name in layers.weights.keys() - known:
        later = name in order and order.index(name) > end
        if not later and not name.startswith("normalization"):
            raise UserError(
                f"{origin.origin} is {network.function} with another layer, {name}, and cannot be "
                "read: save the network without it"
            )


def _fitting_spec(network: KerasNetwork, layers: KerasLayers) -> ArchSpec:
    """Our network with the classes and the input size of the model."""
    spec = network.spec
    classifier = layers.weights.get(network.layers(spec)["predictions"][0])
    if classifier is not None:
        *features, top = spec.blocks
        classes = classifier[0].shape[-1]
        spec = replace(spec, blocks=(*features, replace(top, classes=classes)))  # type: ignore[call-arg]
    shape = layers.input_shape
    if shape is None or None in shape[:2]:
        return spec
    height, width, channels = shape
    return spec.resized((int(height or 0), int(width or 0), int(channels or 0)))


def _check_padding(
    network: KerasNetwork, spec: ArchSpec, layers: KerasLayers, origin: Origin
) -> None:
    """Raises UserError if Keras pads odd maps as if they were even; see the text of the module."""
    shape = layers.input_shape
    any_size = shape is not None and None in shape[:2]
    if not any_size and network.function != "MobileNet":
        return
    nodes = spec.graph.nodes
    for node in nodes:
        if isinstance(node.op, ops.DepthwiseConv) and node.op.stride == 2:
            height, width, _ = nodes[node.inputs[0]].shape
            if height % 2 or width % 2:
                raise UserError(
                    f"{origin.origin} cannot be read at {spec.input_shape[0]} x "
                    f"{spec.input_shape[1]} pixels: there keras.applications cuts a map of "
                    f"{height} x {width} off before layer {node.name}, which this project's "
                    "network does not; save the model for a side that is a multiple of 32"
                )


def _input_range(network: KerasNetwork, layers: KerasLayers) -> tuple[Channels, Channels]:
    """Scale and offset of a pixel, from the model's own layers or its ``preprocess_input``."""
    scale, offset = np.ones(3), np.zeros(3)
    stem, _ = network.layers(network.spec)["stem_conv"]
    before = takewhile(lambda entry: entry[0] != stem, layers.configs.items())
    own = {name: config for name, config in before if config["class_name"] in _NORMALISED}
    for name, config in own.items():
        if config["class_name"] == "Rescaling":
            by, plus = np.array(config["scale"]), np.array(config["offset"])
        else:
            by, plus = _normalisation(layers, name)
        scale, offset = scale * by, offset * by + plus
    if not own and network.function.startswith("EfficientNet"):
        name = next(name for name in layers.weights if name.startswith("normalization"))
        by, plus = _normalisation(layers, name)
        _, variance = layers.weights[name][:2]
        if np.allclose(np.ravel(variance), _IMAGENET_DEVIATIONS, atol=1e-3):
            # The model has a further layer, without weights, that divides by the same roots again.
            by, plus = by / np.sqrt(_IMAGENET_DEVIATIONS), plus / np.sqrt(_IMAGENET_DEVIATIONS)
        scale, offset = by / 255, plus
    elif not own:
        scale, offset = np.full(3, _SCALE), np.full(3, _OFFSET)
    return _channels(scale), _channels(offset)


def _normalisation(layers: KerasLayers, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and offset of a Normalization layer."""
    mean, variance = (np.ravel(array).astype(np.float64) for array in layers.weights[name][:2])
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # Keras' epsilon
    return 1 / deviation, -mean / deviation


def _channels(values: NDArray[Any]) -> Channels:
    red, green, blue = (float(value) for value in np.broadcast_to(values, 3))
    return red, green, blue


def load_imagenet(name: str) -> PretrainedWeights:
    """The published weights of a network, from Keras' cache or downloaded into it by Keras.

    Args:
      name: of the network, one of `KERAS_NETWORKS` that has an address.

    Raises:
      UserError: there are no published weights of it, or the file can be neither found nor
        downloaded.
    """
    network = KERAS_NETWORKS.get(name)
    if network is None or network.address is None:
        raise UserError(
            f"no weights of {name} have been published with Keras: there are those of "
            f"{', '.join(n.name for n in KERAS_NETWORKS.values() if n.address)}"
        )
    import keras

    file = cache_folder() / network.file
    try:
        function = getattr(keras.applications, network.function)
        shape = network.spec.input_shape
        model = function(weights="imagenet", input_shape=shape, **network.arguments)
    except Exception as error:  # Keras raises bare exceptions if a download fails
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the weights {name} could not be downloaded ({reason}): download {network.address} "
            f"elsewhere and save it as {file}"
        ) from error
    sha256 = sha256_of(file) if file.is_file() else ""
    origin = Origin(name, network.address, sha256, "Apache-2.0")
    return from_layers(of_model(model), origin, network)


def load_weights_file(path: Path, network: KerasNetwork, origin: Origin) -> PretrainedWeights:
    """Weights in a file whose layers have other names, which Keras assigns by their order.

    Raises:
      UserError: the file does not fit the network, with its 1000 classes or without classifier.
    """
    import keras

    function = getattr(keras.applications, network.function)
    reasons = []
    for include_top in (True, False):
        model = function(weights=None, include_top=include_top, **network.arguments)
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            reasons.append(str(error).strip().splitlines()[0])
            continue
        layers = KerasLayers(of_model(model).weights)
        return from_layers(layers, origin, network)
    raise UserError(f"{path} does not fit {network.name}: {reasons[0]}")

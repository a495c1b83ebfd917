"""Pretrained weights from files of Keras and of this project: .keras, .h5 and .npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.inputs import OFFSET, SCALE
from efficientnet_elite.networks.pretrained.keras_applications import (
    Origin,
    fill,
    from_layers,
    load_weights_file,
    recognised,
    top_layers,
)
from efficientnet_elite.networks.pretrained.keras_layers import KerasLayers, read_layers
from efficientnet_elite.networks.pretrained.keras_networks import KERAS_NETWORKS, KerasNetwork
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, sha256_of
from efficientnet_elite.networks.spec import ArchSpec

# Checkpoints are the matter of the room above; their reader is imported when a file needs it.
_CHECKPOINTS = "efficientnet_elite.training.checkpoint_weights:read_checkpoint"


def read(path: Path, network: str | None = None) -> PretrainedWeights:
    """Reads a file of Keras or of this project.

    Args:
      path: of a ``.keras`` file (a network of this project, or a model of `keras.applications`),
        of a ``.weights.h5`` or ``.h5`` file of these, with or without classifier, or of an ``.npz``
        checkpoint of this project.
      network: name of the network that the file belongs to, such as ``efficientnet-b0``; by
        default the file says it by its layers, by the model's name or by its own published name.

    Raises:
      UserError: the file is missing or damaged, its network cannot be told from the file, or it is
        of a network that this project does not have.
    """
    if path.suffix.lower() == ".npz":
        weights: PretrainedWeights = registry.resolve(_CHECKPOINTS)(path)
        return weights
    layers = read_layers(path)
    origin = Origin(path.name.split(".")[0], str(path), sha256_of(path))
    ours = _our_spec(network or layers.name, layers)
    if ours is not None:
        return _of_ours(ours, layers, origin)
    if network is not None and network not in KERAS_NETWORKS:
        raise UserError(f"{path} does not hold the weights of {network}: name another network")
    if network is not None:
        return _of_application(path, layers, origin, KERAS_NETWORKS[network])
    by_layers = recognised(layers)
    if by_layers is not None:
        return _of_application(path, layers, origin, by_layers)
    by_name = next((n for n in KERAS_NETWORKS.values() if n.side_in(path.name)), None)
    if by_name is not None:
        return _of_application(path, layers, origin, by_name)
    raise UserError(
        f"{path} does not say which network it belongs to: put its name before the path, as in "
        f"efficientnet-b0:{path}; the networks are those of this project and of keras.applications "
        f"({', '.join(KERAS_NETWORKS)})"
    )


def _our_spec(name: str, layers: KerasLayers) -> ArchSpec | None:
    """The spec of a network of this project; None if the layers before its top are not there."""
    try:
        spec = spec_by_name(name, classes=_classes(layers))
    except UserError:
        return None
    top = top_layers(spec)
    needed = {node.name for node in spec.graph.nodes if node.params and node.name not in top}
    return _resized(spec, layers) if needed <= layers.weights.keys() else None


def _of_application(
    path: Path, layers: KerasLayers, origin: Origin, network: KerasNetwork
) -> PretrainedWeights:
    """Weights of a model of `keras.applications`, at the input size that the file's name says."""
    if recognised(layers) is network or layers.configs:
        weights = from_layers(layers, origin, network)
    else:  # the published files are older than the layers' present names
        weights = load_weights_file(path, network, origin)
    side = network.side_in(path.name)
    if side and not layers.configs:
        weights = replace(weights, spec=weights.spec.resized((side, side, 3)))
    return weights


def _of_ours(spec: ArchSpec, layers: KerasLayers, origin: Origin) -> PretrainedWeights:
    """Weights of a network of this project."""
    return PretrainedWeights(
        name=origin.name,
        spec=spec,
        arrays=fill(spec, layers, {}, origin.origin),
        scale=SCALE,
        offset=OFFSET,
        licence=origin.licence,
        sha256=origin.sha256,
        origin=origin.origin,
    )


def _classes(layers: KerasLayers) -> int:
    """Number of classes of the classifier; those of ImageNet if there is none."""
    classifier = layers.weights.get("predictions")
    return 1000 if classifier is None else int(classifier[0].shape[-1])


def _resized(spec: ArchSpec, layers: KerasLayers) -> ArchSpec:
    shape = layers.input_shape
    if shape is None or len(shape) != 3:
        return spec
    height, width, channels = (
        size or default for size, default in zip(shape, spec.input_shape, strict=True)
    )
    return spec.resized((height, width, channels))

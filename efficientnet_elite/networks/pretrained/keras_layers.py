"""Layers of Keras models as data: from a model, or from a file without Keras.

Files are read as data alone: nothing that they contain is run, and Keras is not imported.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    import keras

Config = dict[str, Any]


@dataclass(frozen=True)
class KerasLayers:
    """The layers of a Keras model. Those of a model inside it stand in its place.

    Attributes:
      weights: arrays of each layer that has weights, by its name, in Keras' order.
      configs: class (``class_name``) and settings of each layer, by its name, in the order in
        which they are applied; empty if the file has weights only.
      name: of the model; empty if the file has weights only.
    """

    weights: Mapping[str, list[NDArray[Any]]]
    configs: Mapping[str, Config] = field(default_factory=dict)
    name: str = ""

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Height, width and channels of the input, None for any; None if the file has none."""
        for config in self.configs.values():
            shape = config.get("batch_shape", config.get("batch_input_shape"))
            if shape is not None:
                return tuple(shape[1:])
        return None

    def epsilon(self, layer: str) -> float:
        """The epsilon of a batch normalisation; that of Keras if the file does not say."""
        return float(self.configs.get(layer, {}).get("epsilon", 1e-3))


def of_model(model: keras.Model) -> KerasLayers:
    """The layers of a model in memory."""
    import keras

    weights = {}
    configs = {}
    for layer in _flat(model):
        variables = [v for v in layer.weights if "seed" not in v.path]
        if variables and not isinstance(layer, keras.Model):
            weights[layer.name] = [np.asarray(v) for v in variables]
        configs[layer.name] = {"class_name": type(layer).__name__, **layer.get_config()}
    return KerasLayers(weights, configs, model.name)


def _flat(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        else:
            yield layer


def read_layers(path: Path) -> KerasLayers:
    """Reads a ``.keras``, ``.weights.h5`` or ``.h5`` file.

    Raises:
      UserError: the file is missing or damaged, or another kind of file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the path of a .keras or .h5 file")
    try:
        if path.suffix.lower() == ".keras":
            return _of_keras_file(path)
        with h5py.File(path) as file:
            return _of_h5(file)
    except _DAMAGES as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read, save or copy it again: {reason}") from error


# What reading a damaged zip archive, HDF5 file or description of a model may raise.
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
)


def _of_keras_file(path: Path) -> KerasLayers:
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
        with h5py.File(BytesIO(archive.read("model.weights.h5"))) as file:
            weights = dict(_current_weights(file))
    return _with_configs(weights, model)


def _of_h5(file: h5py.File) -> KerasLayers:
    """Weights in Keras' present format, or weights or a whole model in the one before Keras 3."""
    if "layers" in file and "layer_names" not in file.attrs:
        return KerasLayers(dict(_current_weights(file)))
    group = file.get("model_weights", file)
    if "layer_names" not in group.attrs:
        raise ValueError("it holds no weights of a Keras model")
    weights = dict(_legacy_weights(group))
    if "model_config" in file.attrs:
        return _with_configs(weights, json.loads(file.attrs["model_config"]))
    return KerasLayers(weights)


def _with_configs(weights: Mapping[str, list[NDArray[Any]]], model: Config) -> KerasLayers:
    return KerasLayers(weights, dict(_configs(model)), str(model["config"].get("name", "")))


def _configs(model: Config) -> Iterator[tuple[str, Config]]:
    """Name and settings of each layer of a model's description, inner models included."""
    for layer in model["config"]["layers"]:
        if "layers" in layer["config"]:
            yield from _configs(layer)
        else:
            name = layer["config"].get("name", layer.get("name"))
            yield name, {"class_name": layer["class_name"], **layer["config"]}


def _current_weights(group: h5py.Group) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Layer names and their arrays, from the format of Keras 3.

    The groups of layers are numbered by class. The names of the layers stand in an attribute.
    """
    for layer in group["layers"].values():
        if "layers" in layer:
            yield from _current_weights(layer)
        variables = layer.get("vars")
        if variables is not None and len(variables):
            if "name" not in variables.attrs:
                raise ValueError("it was written by an old version of Keras 3 and names no layers")
            ordered = sorted(variables, key=int)
            yield variables.attrs["name"], [np.asarray(variables[key]) for key in ordered]


def _legacy_weights(group: h5py.Group) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Layer names and their arrays, from the format before Keras 3."""
    for layer in map(_text, group.attrs["layer_names"]):
        arrays: dict[str, list[NDArray[Any]]] = {}
        for weight in map(_text, group[layer].attrs["weight_names"]):
            inner = weight.rpartition("/")[0]
            arrays.setdefault(inner, []).append(np.asarray(group[layer][weight]))
        # A model inside the model has the weights of several layers.
        yield from arrays.items() if len(arrays) > 1 else ((layer, a) for a in arrays.values())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""`.keras` and `.h5` files: those of networks trained here, and those from an unknown source.

`of_model` makes the former. The latter are checked as data, before Keras reads them.

A `.keras` file is a zip archive with the network's architecture as JSON. The architecture names
classes and functions that Keras looks up and calls. `check` therefore passes only Keras' own layers
and this project's, and none that holds Python code. After that `load` reads the file with Keras in
safe mode, in a process of its own (see `runtimes.isolated`).

Folders are SavedModels, which `saved_model` checks and loads.

`.h5` files of Keras 2 and 3 hold the same architecture as an attribute. `.keras` files of Keras 2
spell some settings in another way, which `load` translates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from efficientnet_elite.errors import UserError

from . import files, saved_model
from .inspect import MAX_SIDE
from .runtimes import isolated
from .runtimes.isolated import Arrays

if TYPE_CHECKING:
    import keras

_MAX_CONFIG_BYTES = 32 << 20
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# The modules that Keras names in files for its own layers and operations.
_PARTS = ("activations", "constraints", "initializers", "layers", "models", "ops", "regularizers")
_PACKAGES = tuple(f"{root}.{part}" for root in ("keras", "keras.src") for part in _PARTS)
# Where Keras 2 has its functional models.
_FUNCTIONAL = {f"{root}.engine.functional" for root in ("keras", "keras.src", "tf_keras.src")}
SUFFIXES = (".keras", ".h5")
# This project's layers that exported networks can have; none of them holds code.
_OURS = {f"efficientnet_elite>{name}" for name in ("Bilinear", "FoldChannels", "Select")}
# Layers that run Python code, or another framework's program, from the file or from elsewhere.
_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


@dataclass(frozen=True)
class KerasFile:
    """A network as Keras saves it; it takes pixels 0..255 and gives logits.

    Attributes:
      content: the content of the file.
      channels: of its input: 3 for RGB, 1 for grey.
      needs: the module that has to be imported before Keras can load the file; None for networks
        that have Keras' own layers only.
    """

    content: bytes
    channels: int
    needs: str | None

    @staticmethod
    def file_name(network: str) -> str:
        """Name of a network's file."""
        return f"{network}.keras"

    def entry(self, network: str) -> dict[str, Any]:
        """The file's entry in the sidecar."""
        return {
            "file": self.file_name(network),
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "input": f"pixel, 0 to 255, {'grey' if self.channels == 1 else 'RGB'}",
            "output": "logits",
            "needs": self.needs and f"import {self.needs}",
        }


def of_model(model: keras.Model) -> KerasFile:
    """The file of a network that takes pixel / 128 - 1; a layer in front of it computes this."""
    import keras

    from efficientnet_elite.networks import layers

    pixels = keras.Input(model.input_shape[1:], name="pixels")
    scaled = keras.layers.Rescaling(1 / 128, offset=-1, name="scaled")(pixels)
    whole = keras.Model(pixels, model(scaled), name=model.name)
    ours = any(type(layer).__module__ == layers.__name__ for layer in model.layers)
    with tempfile.TemporaryDirectory(prefix="elite-keras-") as folder:
        path = Path(folder, "network.keras")
        whole.save(path)
        needs = layers.__name__ if ours else None
        return KerasFile(path.read_bytes(), model.input_shape[-1], needs)


def check(path: Path) -> tuple[int, ...]:
    """Checks a file's architecture without Keras and without running anything from the file.

    Args:
      path: path of the file.

    Returns:
      The shape of its input, (height, width, channels).

    Raises:
      UserError: the file is missing, damaged or too large, is not an image classifier, or has
        layers that are not Keras' own.
    """
    if path.is_dir():
        return saved_model.check(path)
    files.check_model_file(path)
    try:
        return _check(path)
    # These are the errors of zipfile for damage, encryption and unknown compression, and of json
    # for deep nesting.
    except (
        *(zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError),
        *(TypeError, KeyError, AttributeError),  # of values that are not of the kind that they name
    ) as error:
        raise UserError(
            f"{path} is damaged or not a {path.suffix} file: save or copy the model again"
        ) from error


def load(path: Path) -> keras.Model:
    """Loads a file that has passed `check`. Call it in a process of its own.

    Raises:
      UserError: Keras cannot load the file; the message has the first line of Keras' own.
    """
    if path.is_dir():
        return saved_model.load(path)
    import keras

    import efficientnet_elite.networks.build  # noqa: F401  (registers this project's layers)

    try:
        with _of_keras_3(path) as readable:
            model = keras.models.load_model(readable, compile=False, safe_mode=True)
        if (len(model.inputs), len(model.outputs)) != (1, 1):
            return model
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    except Exception as error:  # a forged setting can cause any error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"Keras cannot load {path.name}: {lines[0][:300]}") from error


@contextlib.contextmanager
def _of_keras_3(path: Path) -> Iterator[Path]:
    """The path of a file, or of a copy that Keras 3 can read if Keras 2 has written it."""
    if path.suffix != ".keras":
        yield path
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in _MEMBERS}
    if not str(json.loads(members["metadata.json"]).get("keras_version")).startswith("2."):
        yield path
        return
    translated = _translated(json.loads(members["config.json"]))
    members["config.json"] = json.dumps(translated).encode()
    with tempfile.TemporaryDirectory(prefix="elite-keras-") as folder:
        copy = Path(folder, path.name)
        with zipfile.ZipFile(copy, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        yield copy


def _translated(value: Any) -> Any:
    """A configuration of Keras 2 as Keras 3 spells it."""
    if isinstance(value, list):
        return [_translated(element) for element in value]
    if not isinstance(value, dict):
        return value
    entry = {key: _translated(element) for key, element in value.items()}
    if entry.get("module") in _FUNCTIONAL:
        entry["module"] = "keras.src.models.functional"
    settings = entry.get("config")
    if isinstance(settings, dict):
        if "batch_input_shape" in settings:
            settings["batch_shape"] = settings.pop("batch_input_shape")
        if entry.get("class_name") == "BatchNormalization" and isinstance(settings["axis"], list):
            (settings["axis"],) = settings["axis"]
    return entry


def _config_of_h5(arguments: Arrays) -> Arrays:
    """The architecture in an `.h5` file, as text; runs in a process of its own."""
    import h5py
    import numpy as np

    with h5py.File(str(arguments["path"]), "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise UserError("it holds weights alone: save the whole model, with its architecture")
    return {"config": np.array(text if isinstance(text, str) else bytes(text).decode())}


def _check(path: Path) -> tuple[int, ...]:
    """Does the work of `check`; errors of zipfile and json pass through."""
    if path.suffix == ".h5":
        try:
            answer = isolated.call(_config_of_h5, {"path": str(path.absolute())})
        except UserError as error:
            raise UserError(f"{path} is no Keras model: {error}") from error
        return _checked_config(path, json.loads(str(answer["config"])))
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise UserError(
                    f"{path} holds {member.filename!r}, which does not belong into the file of an "
                    "image classifier: save the model anew with Keras"
                )
        if sum(member.file_size for member in archive.infolist()) > files.MAX_BYTES:
            raise UserError(
                f"{path} unpacks to more than {files.MAX_BYTES >> 20} MiB, which is the limit"
            )
        if missing := _MEMBERS - set(archive.namelist()):
            raise UserError(f"{path} is not a .keras file: {min(missing)} is missing in it")
        if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
            raise UserError(f"{path} describes a network too large for any device")
        return _checked_config(path, json.loads(archive.read("config.json")))


def _checked_config(path: Path, config: Any) -> tuple[int, ...]:
    """The shape of the input; UserError if a layer is not Keras' own."""
    if not isinstance(config, dict):
        raise UserError(f"{path} does not describe a network: save the model again")
    # `load` does not read the loss and the optimizer, so they need not be checked.
    config.pop("compile_config", None)
    entries = list(_entries(config))
    for entry in entries:
        _check_entry(path, entry)
    return _input_shape(path, config, entries)


def _check_entry(path: Path, entry: dict[str, Any]) -> None:
    """Raises UserError if an object that names a class is not Keras' own or this project's."""
    kind = str(entry["class_name"])
    settings = entry.get("config")
    name = settings.get("name", kind) if isinstance(settings, dict) else kind
    if kind in _CODE:
        raise UserError(
            f"{path}: layer {name!r} is a {kind}, which holds code of its own; such code is never "
            "run: build the network from Keras' own layers"
        )
    if kind.startswith("__"):  # Keras' names for tensors, tuples and numbers, which are data
        return
    module = str(entry.get("module"))
    known = module == "keras" or module.startswith(_PACKAGES) or module in _FUNCTIONAL
    if path.suffix == ".h5" and entry.get("module") is None:
        # Keras 2 names none: Keras looks for such names among its own classes alone.
        known = kind.isidentifier() and entry.get("registered_name") is None
    if str(entry.get("registered_name")) in _OURS or (known and kind != "function"):
        return
    raise UserError(
        f"{path}: {name!r} is {module}.{kind}, which is not one of Keras' own layers: build the "
        "network from those"
    )


def _input_shape(
    path: Path, config: dict[str, Any], entries: list[dict[str, Any]]
) -> tuple[int, ...]:
    """The shape of the network's input without the batch; UserError if it is not an image."""
    inputs = [entry.get("config") for entry in entries if entry["class_name"] == "InputLayer"]
    first = inputs[0] if inputs and isinstance(inputs[0], dict) else {}
    shape = first.get("batch_shape", first.get("batch_input_shape"))
    if shape is None:
        built = config.get("build_config")
        shape = built.get("input_shape") if isinstance(built, dict) else None
    if not _is_image(shape):
        raise UserError(
            f"{path}: the shape of its input is {shape} instead of (batch, height, width, 3) "
            "or (batch, height, width, 1): build the network for images of one size"
        )
    return tuple(shape[1:])


def _is_image(shape: Any) -> TypeGuard[list[int]]:
    """Whether a shape is (batch, height, width, 3), or with one channel for grey."""
    if not isinstance(shape, list) or len(shape) != 4:
        return False
    _, height, width, channels = shape
    sides = (height, width)
    return channels in (1, 3) and all(isinstance(x, int) and 0 < x <= MAX_SIDE for x in sides)


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """All objects in a configuration that name a class, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value)

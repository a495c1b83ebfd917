"""Checks `.keras` files from an unknown source as data, before Keras reads them.

A `.keras` file is a zip archive with the network's architecture as JSON. The architecture names
classes and functions that Keras looks up and calls. `check` therefore passes only Keras' own layers
and this project's, and none that holds Python code. After that `load` reads the file with Keras in
safe mode, in a process of its own (see `runtimes.isolated`).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from efficientnet_elite.errors import UserError

from . import files
from .inspect import MAX_SIDE

if TYPE_CHECKING:
    import keras

_MAX_CONFIG_BYTES = 32 << 20
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# The modules that Keras names in files for its own layers and operations.
_PARTS = ("activations", "constraints", "initializers", "layers", "models", "ops", "regularizers")
_PACKAGES = tuple(f"{root}.{part}" for root in ("keras", "keras.src") for part in _PARTS)
_OURS = {"efficientnet_elite>Bilinear"}
# Layers that run Python code, or another framework's program, from the file or from elsewhere.
_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


def check(path: Path) -> tuple[int, ...]:
    """Checks a file's architecture without Keras and without running anything from the file.

    Args:
      path: path of the `.keras` file.

    Returns:
      The shape of its input, (height, width, channels).

    Raises:
      UserError: the file is missing, damaged or too large, is not an image classifier, or has
        layers that are not Keras' own.
    """
    files.check_model_file(path)
    try:
        return _check(path)
    # These are the errors of zipfile for damage, encryption and unknown compression, and of json
    # for deep nesting.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged or not a .keras file: save or copy the model again"
        ) from error


def load(path: Path) -> keras.Model:
    """Loads a file that has passed `check`. Call it in a process of its own.

    Raises:
      UserError: Keras cannot load the file; the message has the first line of Keras' own.
    """
    import keras

    import efficientnet_elite.networks.build  # noqa: F401  (registers this project's layers)

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a forged setting can cause any error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"Keras cannot load {path.name}: {lines[0][:300]}") from error


def _check(path: Path) -> tuple[int, ...]:
    """Does the work of `check`; errors of zipfile and json pass through."""
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
        config = json.loads(archive.read("config.json"))
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
    known = module == "keras" or module.startswith(_PACKAGES)
    if entry.get("registered_name") in _OURS or (known and kind != "function"):
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
    shape = inputs[0].get("batch_shape") if inputs and isinstance(inputs[0], dict) else None
    if shape is None:
        built = config.get("build_config")
        shape = built.get("input_shape") if isinstance(built, dict) else None
    if not _is_image(shape):
        raise UserError(
            f"{path}: the shape of its input is {shape} instead of (batch, side, side, 3): build "
            "the network for square RGB images of one size"
        )
    return tuple(shape[1:])


def _is_image(shape: Any) -> TypeGuard[list[int]]:
    """Whether a shape is (batch, side, side, 3)."""
    if not isinstance(shape, list) or len(shape) != 4:
        return False
    _, height, width, channels = shape
    return isinstance(height, int) and 0 < height <= MAX_SIDE and (width, channels) == (height, 3)


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

"""Keras models in `.keras` files from elsewhere: read as data before Keras sees them.

A `.keras` file is a zip archive with the architecture as JSON. What it names is code that Keras
will look up and call; so only Keras' own layers and this project's pass, and none that holds Python
code, before `load` lets Keras at it, in safe mode, in a process of its own (`isolated`).
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
from .inspect import MOST_SIDE

if TYPE_CHECKING:
    import keras

_MOST_CONFIG_BYTES = 32 << 20
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# Where Keras' layers and operations live, under the names that it saves them by.
_PARTS = ("activations", "constraints", "initializers", "layers", "models", "ops", "regularizers")
_PACKAGES = tuple(f"{root}.{part}" for root in ("keras", "keras.src") for part in _PARTS)
_OURS = {"efficientnet_elite>Bilinear"}
# They run Python code, or a program that is not Keras', from the file or from elsewhere.
_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


def check(path: Path) -> tuple[int, ...]:
    """Reads a file's architecture without Keras and without running anything of it.

    Args:
      path: of the `.keras` file.

    Returns:
      The shape of its one input, without the batch: (height, width, channels).

    Raises:
      UserError: it is missing, damaged, too large, or has parts that Keras would have to run.
    """
    files.check(path)
    try:
        return _check(path)
    # Whatever zipfile makes of damage, encryption and unknown methods, and json of deep nesting.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is no sound .keras file: save or copy the model again") from error


def load(path: Path) -> keras.Model:
    """Loads a file that has passed `check`; for use in a process of its own.

    Raises:
      UserError: Keras refuses it; the message is Keras' own.
    """
    import keras

    import efficientnet_elite.networks.build  # noqa: F401  (registers this project's layers)

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a layer's constructor makes of a forged setting
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"Keras cannot load {path.name}: {lines[0][:300]}") from error


def _check(path: Path) -> tuple[int, ...]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise UserError(
                    f"{path} holds {member.filename!r}, which is no part of an image classifier"
                )
        if sum(member.file_size for member in archive.infolist()) > files.MOST_BYTES:
            raise UserError(f"{path} unpacks to more than {files.MOST_BYTES >> 20} MiB")
        if missing := _MEMBERS - set(archive.namelist()):
            raise UserError(f"{path} is no .keras file: {min(missing)} is missing in it")
        if archive.getinfo("config.json").file_size > _MOST_CONFIG_BYTES:
            raise UserError(f"{path} describes a network too large for any device")
        config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict):
        raise UserError(f"{path} describes no network")
    # Losses and optimizers are not loaded: training is over.
    config.pop("compile_config", None)
    entries = list(_entries(config))
    for entry in entries:
        _check_entry(path, entry)
    return _input_shape(path, config, entries)


def _check_entry(path: Path, entry: dict[str, Any]) -> None:
    kind = str(entry["class_name"])
    settings = entry.get("config")
    name = settings.get("name", kind) if isinstance(settings, dict) else kind
    if kind in _CODE:
        raise UserError(
            f"{path}: layer {name!r} is a {kind}, which holds code of its own and is never run: "
            "build the network from Keras' own layers"
        )
    if kind.startswith("__"):  # tensors, tuples and numbers: data
        return
    module = str(entry.get("module"))
    known = module == "keras" or module.startswith(_PACKAGES)
    if entry.get("registered_name") in _OURS or (known and kind != "function"):
        return
    raise UserError(
        f"{path}: {name!r} is {module}.{kind}, which is none of Keras' own layers: build the "
        "network from those"
    )


def _input_shape(
    path: Path, config: dict[str, Any], entries: list[dict[str, Any]]
) -> tuple[int, ...]:
    inputs = [entry.get("config") for entry in entries if entry["class_name"] == "InputLayer"]
    shape = inputs[0].get("batch_shape") if inputs and isinstance(inputs[0], dict) else None
    if shape is None:
        built = config.get("build_config")
        shape = built.get("input_shape") if isinstance(built, dict) else None
    if not _is_image(shape):
        raise UserError(
            f"{path}: its input is {shape}, not (batch, side, side, 3): build the network for "
            "square RGB images of one size"
        )
    return tuple(shape[1:])


def _is_image(shape: Any) -> TypeGuard[list[int]]:
    if not isinstance(shape, list) or len(shape) != 4:
        return False
    _, height, width, channels = shape
    return isinstance(height, int) and 0 < height <= MOST_SIDE and (width, channels) == (height, 3)


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """All objects of a configuration that name a class, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value)

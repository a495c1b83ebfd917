"""What lies beside a model file: the sidecar of its export, and the names of the classes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError

from .confidence import Confidence
from .formats import INTERFACES, WEIGHTS

FOLDER = "export"
"""Of a work directory: it holds a folder for each exported network."""

# What an export puts between a network's name and ".tflite".
_FORMAT = re.compile(rf"(\.({'|'.join(WEIGHTS)}))?(\.({'|'.join(INTERFACES)}))?$")


def network_name(model: Path) -> str:
    """Name of the network in a model file, without its format."""
    return _FORMAT.sub("", model.stem)


def sidecar_of(model: Path) -> dict[str, Any]:
    """The sidecar of a model file; empty if there is none. UserError if it is damaged."""
    path = model.with_name(f"{network_name(model)}.json")
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(sidecar, dict):
            raise ValueError("not an object")
        return sidecar
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: export the model again") from error


def checked_sidecar(model: Path, content: bytes) -> Mapping[str, Any]:
    """The sidecar of a model file if it describes this file; empty if none does.

    Raises:
      UserError: the sidecar is damaged, or it speaks of another content of the file.
    """
    sidecar = sidecar_of(model)
    try:
        entries = [*sidecar.get("files", {}).values(), sidecar.get("keras") or {}]
        entry = next((entry for entry in entries if entry.get("file") == model.name), None)
    except AttributeError as error:
        raise UserError(f"the sidecar of {model} is damaged: export the model again") from error
    if entry is None:
        return {}
    if entry.get("sha256") != hashlib.sha256(content).hexdigest():
        raise UserError(
            f"{model} is not the file that {network_name(model)}.json beside it describes: "
            "export the model again, or move the file elsewhere"
        )
    return sidecar


def details(model: Path, sidecar: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry ``details`` of a sidecar; UserError if it is damaged."""
    entry = sidecar.get("details", {})
    if not isinstance(entry, dict):
        raise UserError(f"the sidecar of {model} is damaged: export the model again")
    return entry


def crop_fraction(model: Path, sidecar: Mapping[str, Any]) -> float:
    """The sides of the crop by a sidecar, as a share of the largest; without one, all of it.

    Raises:
      UserError: the sidecar is damaged.
    """
    fraction = details(model, sidecar).get("crop_fraction", 1.0)
    if isinstance(fraction, (int, float)) and 0 < fraction <= 1:
        return float(fraction)
    raise UserError(f"the sidecar of {model} is damaged: export the model again")


def confidence(model: Path, sidecar: Mapping[str, Any]) -> Confidence:
    """How a sidecar says that probabilities are calibrated; UserError if it is damaged."""
    try:
        return Confidence.recorded(sidecar)
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"the sidecar of {model} is damaged: export the model again") from None


def float_layers(model: Path, sidecar: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the layers that stayed in float, by a sidecar; UserError if it is damaged."""
    remedies = sidecar.get("int8_remedies") or {}
    layers = remedies.get("float_layers") or () if isinstance(remedies, dict) else None
    if isinstance(layers, (list, tuple)) and all(isinstance(layer, str) for layer in layers):
        return tuple(layers)
    raise UserError(f"the sidecar of {model} is damaged: export the model again")

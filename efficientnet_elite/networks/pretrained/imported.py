"""Weights that the user has imported: one file for each, in the normal form, found by name."""

from __future__ import annotations

import re
from pathlib import Path

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import weights
from efficientnet_elite.networks.pretrained.keras_networks import cache_folder
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights

_SUFFIX = ".npz"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def default_folder() -> Path:
    """The folder of the user's imported weights, inside of that where Keras keeps its own."""
    return cache_folder() / "efficientnet-elite"


def names(folder: Path | None = None) -> list[str]:
    """The names of all imported weights, sorted.

    Args:
      folder: of the imported weights; by default `default_folder`.
    """
    folder = folder or default_folder()
    files = (path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))
    return sorted(name for name in files if _NAME.fullmatch(name))  # others are not ours


def path_of(name: str, folder: Path | None = None) -> Path:
    """The file of imported weights, whether or not there is one."""
    return (folder or default_folder()) / f"{name}{_SUFFIX}"


def save(imported: PretrainedWeights, folder: Path | None = None) -> Path:
    """Stores weights under their name; returns the file.

    Raises:
      UserError: the name is no file name, or is taken.
    """
    if not _NAME.fullmatch(imported.name):
        raise UserError(
            f"{imported.name!r} is no name: use at most 100 letters, digits, '-', '_' and '.'"
        )
    path = path_of(imported.name, folder)
    if path.exists():
        raise UserError(
            f"there are imported weights {imported.name!r} already: remove {path}, or choose "
            "another name"
        )
    weights.save(imported, path)
    return path

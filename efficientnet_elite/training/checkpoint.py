"""Checkpoints: one `.npz` file a candidate, replaced atomically after every epoch.

A checkpoint carries its own history, so that an epoch whose record did not reach the ledger before
a crash is not trained again. This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

_VERSION = 1
# The parts of a training's state. ``weights`` are the model's variables (batch normalisation's
# statistics and random seeds included), ``average`` their exponential moving average.
PARTS = ("weights", "average", "optimizer")


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be read: cut short, or no checkpoint at all."""


@dataclass(frozen=True)
class Checkpoint:
    """State of one training after ``len(history)`` epochs.

    Attributes:
      spec: the network, `ArchSpec.to_json`.
      history: one dict an epoch.
      parts: part name to its arrays, in the order of the variables.
    """

    spec: str
    history: list[dict[str, Any]]
    parts: Mapping[str, Sequence[np.ndarray]]

    def save(self, path: Path) -> None:
        """Writes the file under a temporary name, flushes it to disk, then renames it.

        The temporary name is the process's own: should the worker of a driver that was killed live
        a moment longer than it, no file gets two writers. UserError where the disk is full.
        """
        arrays = {
            f"{part}/{i:04d}": array
            for part, arrays in self.parts.items()
            for i, array in enumerate(arrays)
        }
        header = {"version": _VERSION, "spec": self.spec, "history": self.history}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written ({error.strerror}): make room, and the same command "
                "goes on from the epoch before"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what `save` wrote.

        DamagedCheckpoint where that is impossible, UserError where it has another version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                version, spec, history = (header[key] for key in ("version", "spec", "history"))
                parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
                for name in sorted(name for name in file.files if name != "header"):
                    parts[name.split("/")[0]].append(file[name])
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedCheckpoint(
                f"checkpoint {path} is damaged: delete it, and the same command trains it anew "
                f"({type(error).__name__})"
            ) from error
        if version != _VERSION:
            raise UserError(
                f"checkpoint {path} has format {version}, this version reads {_VERSION}"
            )
        return cls(spec, history, parts)

"""Checkpoints: one `.npz` file for each candidate, replaced atomically after every epoch.

A checkpoint contains the results of its epochs. If a search crashes after an epoch is saved but
before the ledger has recorded it, the epoch is therefore not trained again.
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
# The groups of arrays in a checkpoint. ``weights`` are all variables of the model, with the
# statistics of batch normalisation and the state of random number generators. ``average`` is the
# exponential moving average of those variables that are floating point numbers. ``optimizer`` are
# the `Optimizer.variables`.
PARTS = ("weights", "average", "optimizer")


class DamagedCheckpoint(UserError):
    """A file that cannot be read as a checkpoint, for example because it is truncated."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``len(history)`` epochs.

    Attributes:
      spec: the network, as `ArchSpec.to_json` writes it.
      history: one dict for each epoch, with the fields of `EpochResult`.
      parts: for each of `PARTS` its arrays, in the order of the variables.
      start: ``name`` and ``sha256`` of the pretrained weights that the training began from; None
        for random weights. Checkpoints of versions that knew no other start do not say.
    """

    spec: str
    history: list[dict[str, Any]]
    parts: Mapping[str, Sequence[np.ndarray]]
    start: Mapping[str, str] | None = None

    def save(self, path: Path) -> None:
        """Writes the checkpoint atomically: to a temporary file, which is then renamed.

        The temporary name contains the process id. A worker may live a moment longer than the
        search that started it, and the search may be continued at once: two processes must never
        write to the same file.

        Raises:
          UserError: the file cannot be written, for example because the disk is full.
        """
        arrays = {
            f"{part}/{i:04d}": array
            for part, arrays in self.parts.items()
            for i, array in enumerate(arrays)
        }
        header = {"version": _VERSION, "spec": self.spec, "history": self.history}
        if self.start is not None:
            header["start"] = dict(self.start)
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
                f"{path} cannot be written ({error.strerror}): make room and run the "
                "same command again, it continues after the last saved epoch"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads a checkpoint.

        Raises:
          DamagedCheckpoint: the file is no checkpoint, or is damaged.
          UserError: the file has another format version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                version, spec, history = (header[key] for key in ("version", "spec", "history"))
                start = header.get("start")
                parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
                for name in sorted(name for name in file.files if name != "header"):
                    parts[name.split("/")[0]].append(file[name])
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedCheckpoint(
                f"checkpoint {path} is damaged ({type(error).__name__}): delete it and run the "
                "same command again, it trains this network from the start"
            ) from error
        if version != _VERSION:
            raise UserError(
                f"checkpoint {path} has format {version}, but this version of efficientnet-elite "
                f"reads format {_VERSION}: use the version that wrote it, or delete the file to "
                "train this network from the start"
            )
        return cls(spec, history, parts, start)

"""Checkpoints: one `.npz` file for each candidate, replaced atomically after every epoch.

A checkpoint contains the results of its epochs. If a search crashes after an epoch is saved but
before the ledger has recorded it, the epoch is therefore not trained again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import machine
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained.weights import DAMAGES
from efficientnet_elite.networks.spec import ArchSpec

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
      rate_factor: by which learning rates are multiplied, less than 1 after a divergence.
      loss_scale: of a training in float16, see `LossScale.state`.
      losses: of the steps of the next epoch that are done; none after a whole epoch. Only the file
        of a `RunningEpoch` has any.
      seconds: that these steps took.
    """

    spec: str
    history: list[dict[str, Any]]
    parts: Mapping[str, Sequence[np.ndarray]]
    start: Mapping[str, str] | None = None
    rate_factor: float = 1.0
    loss_scale: tuple[float, int] | None = None
    losses: Sequence[float] = ()
    seconds: float = 0.0

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
        header: dict[str, Any] = {
            "version": _VERSION,
            "spec": self.spec,
            "history": self.history,
            "rate_factor": self.rate_factor,
        }
        if self.start is not None:
            header["start"] = dict(self.start)
        if self.loss_scale is not None:
            header["loss_scale"] = [*self.loss_scale]
        if self.losses:
            header["within_epoch"] = {"losses": [*self.losses], "seconds": self.seconds}
        header["sha256"] = _digest(header, arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
            machine.replace_durably(temporary, path)
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
                start, rate_factor = header.get("start"), header.get("rate_factor", 1.0)
                within_epoch = header.get("within_epoch", {"losses": [], "seconds": 0.0})
                scale = header.get("loss_scale")
                loss_scale = None if scale is None else (float(scale[0]), int(scale[1]))
                losses = tuple(map(float, within_epoch["losses"]))
                seconds = float(within_epoch["seconds"])
                sha256 = header.pop("sha256", None)
                arrays = {name: file[name] for name in file.files if name != "header"}
                parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
                if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                    raise ValueError("a member is no array")
                for name in sorted(arrays):
                    parts[name.split("/")[0]].append(arrays[name])
        except (OSError, *DAMAGES) as error:
            raise _damaged(path, type(error).__name__) from error
        if version != _VERSION:
            raise UserError(
                f"checkpoint {path} has format {version}, but this version of efficientnet-elite "
                f"reads format {_VERSION}: use the version that wrote it, or delete the file to "
                "train this network from the start"
            )
        if sha256 not in (None, _digest(header, arrays)):  # earlier versions wrote none
            raise _damaged(path, "its content is not that which was written")
        try:
            ArchSpec.from_json(spec)
        except DAMAGES as error:
            raise _damaged(path, "its network is no network") from error
        return cls(spec, history, parts, start, rate_factor, loss_scale, losses, seconds)


def check_arrays(
    path: Path, arrays: Sequence[np.ndarray], shapes: Sequence[Sequence[int | None]]
) -> None:
    """Raises DamagedCheckpoint unless a part has one array of each shape, in this order.

    Args:
      path: of the checkpoint, for the message.
      arrays: the part, see `Checkpoint`.
      shapes: those of the variables that the arrays are for.
    """
    found = [array.shape for array in arrays]
    if found != [tuple(shape) for shape in shapes] or any(
        a.dtype.kind not in "biufV" for a in arrays
    ):
        raise _damaged(path, "other arrays than its network has")


def _damaged(path: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"checkpoint {path} is damaged ({reason}): delete it and run the same command again, it "
        "trains this network from the start"
    )


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over all that a checkpoint holds."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        # Not the type's name: some of Keras' types are read back as bytes of the same size.
        digest.update(f"{name} {array.dtype.itemsize} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

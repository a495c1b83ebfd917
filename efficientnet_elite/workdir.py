"""The work directory of a search: where its files are, and small safe writes.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError


def checkpoint_path(workdir: Path, candidate: str) -> Path:
    """Checkpoint of a candidate."""
    return workdir / "checkpoints" / f"{candidate}.npz"


def champions_path(workdir: Path) -> Path:
    """List of the champions found so far."""
    return workdir / "champions.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_bytes(path, json.dumps(value, indent=2).encode() + b"\n")


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds the work directory for one writing process; the kernel releases it with the process.

    UserError where another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(
                f"{workdir} is in use by another search (process {owner}): "
                "wait for it, stop it, or choose another --workdir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

"""Reads and writes the files of a network; of several files all are replaced, or none."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from efficientnet_elite.errors import UserError

MAX_BYTES = 1 << 30  # of a network's file, far more than one for small devices has


def check_model_file(path: Path) -> None:
    """UserError where a network's file is missing, no regular file, or too large to be read."""
    if not path.is_file():
        raise UserError(f"{path} is {'no file' if path.exists() else 'missing'}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB: no model for small devices")


def replace_all(files: Mapping[Path, bytes]) -> None:
    """Writes several files; none is replaced before all have been written beside their places.

    Args:
      files: contents by path, which take their places in this order; folders are created.

    Raises:
      OSError: one of them cannot be written.
    """
    for path in files:
        if path.is_dir():  # replacing it would fail after others have been replaced
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    parts = {path: path.with_name(f".{path.name}.part") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path].write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

"""A network's files: read where they are sound, written so that all take their places or none."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from efficientnet_elite.errors import UserError

MOST_BYTES = 1 << 30  # of a network's file: far more than any for small devices


def check(path: Path) -> None:
    """UserError where a network's file is missing, something else or too large to be read."""
    if not path.is_file():
        raise UserError(f"{path} is {'no file' if path.exists() else 'missing'}")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB: no model for small devices")


def write(files: Mapping[Path, bytes]) -> None:
    """Writes all contents beside their places before the first takes its place.

    Args:
      files: contents by path; folders are made. They take their places in this order.

    Raises:
      OSError: one of them cannot be written.
    """
    for path in files:
        if path.is_dir():  # which is noticed only when it is this file's turn to take its place
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

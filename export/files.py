"""Checks and writes the files of a network; several files are all replaced, or none of them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from efficientnet_elite.errors import UserError

MAX_BYTES = 1 << 30  # of a model file; models for small devices are far smaller


def check_model_file(path: Path) -> None:
    """UserError if a model file is missing, is not a regular file, or exceeds `MAX_BYTES`."""
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "is missing"
        raise UserError(f"{path} {problem}: give the path of a model file")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB: give a smaller model file")


def replace_all(files: Mapping[Path, bytes]) -> None:
    """Writes several files; replaces none until all have been written under temporary names.

    Args:
      files: path to content; the files are replaced in this order. Missing folders are created.

    Raises:
      OSError: a file cannot be written.
    """
    for path in files:
        if path.is_dir():  # otherwise this would fail only after other files have been replaced
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

"""The work directory of a search: paths, locks, and atomic writing of small files."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError

_WORKERS_LOCK = "workers.lock"
_WORKERS_END_SECONDS = 60.0  # local workers end at once with their driver; those on a cluster later


def checkpoint_path(workdir: Path, candidate: str) -> Path:
    """Checkpoint of a candidate."""
    return workdir / "checkpoints" / f"{candidate}.npz"


def has_checkpoints(workdir: Path) -> bool:
    """Whether anything has been trained here."""
    return any((workdir / "checkpoints").glob("*.npz"))


def cache_path(workdir: Path) -> Path:
    """Folder of decoded images. It may be deleted: the images are decoded again then."""
    return workdir / "cache"


def champions_path(workdir: Path) -> Path:
    """List of the champions found so far."""
    return workdir / "champions.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file atomically, also where another process writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_bytes(path, json.dumps(value, indent=2).encode() + b"\n")


def clear_temporary(workdir: Path) -> None:
    """Removes files that killed processes have left half-written. The caller holds the `lock`."""
    for path in (workdir / "checkpoints").glob("*.tmp"):
        path.unlink(missing_ok=True)  # a worker may be ending this very moment


@contextmanager
def shared_lock(workdir: Path) -> Iterator[None]:
    """Held by every worker process, for as long as it may write checkpoints.

    A worker may live a moment longer than its driver; `lock` waits for that moment to pass.
    """
    with (workdir / _WORKERS_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _wait_for_workers(workdir: Path) -> None:
    deadline = time.monotonic() + _WORKERS_END_SECONDS
    with (workdir / _WORKERS_LOCK).open("a") as file:
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"worker processes of an earlier run still write to {workdir}: end them"
                    ) from None
            time.sleep(0.05)


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds the work directory for one driver; the kernel releases it with the process.

    UserError where another process holds it, or where workers of an earlier one do not end.
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
        _wait_for_workers(workdir)
        yield

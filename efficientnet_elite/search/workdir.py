"""The work directory of a search: paths, locks, and atomic writing of small files."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efficientnet_elite import machine
from efficientnet_elite.errors import UserError

_WORKERS = "workers"  # folder of locks, one of each worker
_WORKERS_END_SECONDS = 60.0  # local workers end at once with their driver; those on a cluster later


def checkpoint_path(workdir: Path, candidate: str) -> Path:
    """Checkpoint of a candidate."""
    return workdir / "checkpoints" / f"{candidate}.npz"


def has_checkpoints(workdir: Path) -> bool:
    """Whether anything has been trained here, be it a part of a first epoch."""
    # The files of `training.running_epoch` end in .epoch.
    return any(any((workdir / "checkpoints").glob(f"*{end}")) for end in (".npz", ".epoch"))


def cache_path(workdir: Path) -> Path:
    """Folder of decoded images. It may be deleted: the images are decoded again then."""
    return workdir / "cache"


def champions_path(workdir: Path) -> Path:
    """List of the champions found so far."""
    return workdir / "champions.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file atomically and durably, also where another process writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        machine.replace_durably(temporary, path)
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
def worker_lock(workdir: Path) -> Iterator[None]:
    """Held by every worker process, for as long as it may write checkpoints.

    A worker may live a moment longer than its driver; `lock` waits for that moment to pass.
    """
    folder = workdir / _WORKERS
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{socket.gethostname()}-{os.getpid()}.lock"):
        yield


def _wait_for_workers(workdir: Path) -> None:
    deadline = time.monotonic() + _WORKERS_END_SECONDS
    for path in (workdir / _WORKERS).glob("*.lock"):
        try:
            with FileLock(path, timeout=max(0.0, deadline - time.monotonic())):
                pass
        except Timeout:
            raise UserError(
                f"worker processes of an earlier run still write to {workdir}: end them"
            ) from None
        with suppress(OSError):
            path.unlink()


@contextmanager
def lock(workdir: Path) -> Iterator[str | None]:
    """Holds the work directory for one driver; the kernel releases it with the process.

    Yields:
      A line for the user if the process that held it before was killed; None if it ended by itself.

    Raises:
      UserError: another process holds it, or workers of an earlier one do not end.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    owner = workdir / "owner"  # beside the lock, which Windows lets nobody else read
    held = FileLock(workdir / "lock", timeout=0)
    try:
        held.acquire()
    except Timeout:
        number, *_ = _words(owner) or ["unknown"]
        raise UserError(
            f"{workdir} is in use by another search (process {number}): "
            "wait for it, stop it, or choose another --workdir"
        ) from None
    with held:
        killed = _killed_text(_words(owner))
        owner.write_text(f"{os.getpid()}\n{_kills()}\n", encoding="utf-8")
        _wait_for_workers(workdir)
        try:
            yield killed
        finally:
            owner.unlink(missing_ok=True)  # what a killed process leaves says so


def _words(path: Path) -> list[str]:
    """The words of a file; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def _kills() -> str:
    """The kernel's count of processes killed for memory, and of which start of the machine."""
    return f"{machine.processes_killed_for_memory()} {machine.start_of_system()}"


def _killed_text(left: Sequence[str]) -> str | None:
    """What became of a process, from what it left: its number and `_kills`."""
    if len(left) < 3:  # nothing: it ended by itself
        return None
    before, start = left[1:3]
    now, start_now = _kills().split()
    if start != start_now:
        return "the last run ended with the machine, which was restarted; it is continued"
    if before.isdigit() and now.isdigit() and int(now) > int(before):
        return (
            "the last run was killed, as it seems for lack of memory (the kernel killed "
            f"{int(now) - int(before)} processes for that since it began): a smaller --memory_gb, "
            "--workers or --batch_size takes less"
        )
    return "the last run was killed; it is continued"

"""The work directory of a search: paths, locks, and atomic writing of small files."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efficientnet_elite import machine
from efficientnet_elite.errors import UserError

_WORKERS_LOCK = "workers.lock"
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
def lock(workdir: Path) -> Iterator[str | None]:
    """Holds the work directory for one driver; the kernel releases it with the process.

    Yields:
      A line for the user if the process that held it before was killed; None if it ended by itself.

    Raises:
      UserError: another process holds it, or workers of an earlier one do not end.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.readline().strip() or "unknown"
            raise UserError(
                f"{workdir} is in use by another search (process {owner}): "
                "wait for it, stop it, or choose another --workdir"
            ) from None
        file.seek(0)
        killed = _killed_text(file.read().split())
        file.truncate(0)
        file.write(f"{os.getpid()}\n{_kills()}\n")
        file.flush()
        _wait_for_workers(workdir)
        try:
            yield killed
        finally:
            file.truncate(0)  # what a killed process leaves says so


def _kills() -> str:
    """The kernel's count of processes killed for memory, and of which start of the machine."""
    return f"{machine.processes_killed_for_memory()} {machine.start_of_system()}"


def _killed_text(left: Sequence[str]) -> str | None:
    """What became of a process, from what it left in the lock file: its number and `_kills`."""
    if len(left) < 3:  # nothing, or the process number alone, as earlier versions left it
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

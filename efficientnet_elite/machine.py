"""What this process runs in and with: processors, memory, versions, and safe files."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_MEMORY_SHARE = 0.6  # of the memory; the rest is for the system, images and other programs


def processors() -> int | None:
    """Processors that this process may use; None if unknown."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def one_thread() -> contextlib.AbstractContextManager[Any]:
    """Context in which linear algebra has one thread.

    With small matrices, threads wait for one another longer than they compute, above all on a busy
    machine (67 s instead of 3 s).
    """
    from threadpoolctl import threadpool_limits  # not in a light install

    return threadpool_limits(1, "blas")


def memory_bytes() -> int | None:
    """Memory of this machine, or the limit of its container if that is lower; None if unknown."""
    known: list[int] = []
    with contextlib.suppress(OSError, psutil.Error):
        known.append(psutil.virtual_memory().total)
    for folder in _control_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):  # of versions 2 and 1
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                known.append(int((folder / name).read_text(encoding="utf-8")))
    return min(known, default=None)


def memory_budget(gigabytes: float | None, processes: int = 1) -> float:
    """Bytes of memory that each of some processes may use.

    Args:
      gigabytes: what all of them may use together, in units of 1e9 bytes; None for 60 % of what the
        machine or its container has.
      processes: how many share it.

    Returns:
      The bytes; infinity where the memory of the machine is not known.
    """
    if gigabytes is not None:
        return gigabytes * 1e9 / processes
    found = memory_bytes()
    return float("inf") if found is None else _MEMORY_SHARE * found / processes


def used_bytes() -> int:
    """Memory of this process, on Linux without the files that are mapped into it."""
    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))


def free_memory() -> None:
    """Frees objects that refer to each other, and gives what is free back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def processes_killed_for_memory() -> int | None:
    """How many processes of this container, or else machine, the kernel has killed for memory.

    Since the container or machine was started. None if unknown.
    """
    names = ("memory.events", "memory.oom_control")  # of versions 2 and 1
    counters = [folder / name for folder in _control_groups() for name in names]
    for path in (*counters, Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            numbers = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
            if "oom_kill" in numbers:
                return int(numbers["oom_kill"])
    return None


def replace_durably(temporary: Path, path: Path) -> None:
    """Puts a file that is written and closed in the place of another, for good once this returns.

    Both its content and its name in the folder are flushed to the disk. Otherwise a power failure
    may leave an empty file, or the old one, although later files are there.

    Args:
      temporary: the file, in the same folder.
      path: its name from now on.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
    """
    with temporary.open("r+b") as file:  # Windows flushes no file that was opened to read
        os.fsync(file.fileno())
    temporary.replace(path)
    with contextlib.suppress(PermissionError):  # Windows opens no folder; its journal has the name
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def versions(backend: str = "tensorflow") -> dict[str, str]:
    """Versions of this package, of Python, and of the packages that results depend on.

    Args:
      backend: of Keras that trains.
    """
    import tensorflow as tf

    return {
        "efficientnet-elite": version("efficientnet-elite"),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,  # its distribution may be called tensorflow-cpu
        **{name: version(name) for name in ("keras", "numpy", "ai-edge-litert")},
        **({} if backend == "tensorflow" else {backend: version(backend)}),
    }


def start_of_system() -> str:
    """A name of this start of the machine that no other start has; ``unknown`` if unknown."""
    # Not the time of the start, which moves when the clock is set.
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # not Linux
        return "unknown"


def _control_groups() -> Iterator[Path]:
    """Folders of the control groups that limit this process, the narrowest first."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            root = _GROUPS / "memory" if controllers == "memory" else _GROUPS
            if controllers in ("", "memory"):
                # Within a container its own group is mounted as the root.
                inner = root / name.lstrip("/")
                yield from (inner, *(p for p in inner.parents if p.is_relative_to(root)))
    yield from (_GROUPS, _GROUPS / "memory")

"""Pixels that are computed once: decoded images, and evaluation parts at a network's input size.

With a directory they live in files there, which every process of a search maps into its memory: the
kernel keeps one copy for all of them, and a search that goes on later finds them again. Without
one, or where it cannot be written, each process keeps them in its own memory. Training crops are
random and therefore computed anew; what they are cut from is not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .. import __version__
from .decode import Pixels

Add: TypeAlias = Callable[[Pixels], bool]
Make: TypeAlias = Callable[[Add], Any]

_ALIGNMENT = 64  # bytes; TensorFlow takes over a NumPy buffer without a copy only when aligned
_MAGIC = b"eLitePx1"
_TRAILER = struct.Struct("<8sQQQI")  # magic; bytes of pixels, shapes, head; CRC-32 of the last two


class DamagedFile(Exception):
    """A file that is not what was once written."""


@dataclass(frozen=True)
class Kept:
    """Images behind each other in one buffer.

    Attributes:
      flat: the pixels, uint8 (total,), C order, aligned; None where they exceed the budget.
      shapes: height and width of each image, int64 (n, 2).
      notes: what else their maker had to say, as JSON gives it back.
    """

    flat: Pixels | None
    shapes: NDArray[np.int64]
    notes: Any


class _Collector:
    """Takes images until a budget is spent, and knows where each of them is."""

    def __init__(self, budget_bytes: int, put: Callable[[int, Pixels], None]) -> None:
        self._budget, self._put = budget_bytes, put
        self._shapes: list[tuple[int, int]] = []
        self.used = 0
        self.complete = True

    def add(self, image: Pixels) -> bool:
        """Appends an image and says whether it, and all before it, fitted."""
        self.complete = self.complete and self.used + image.size <= self._budget
        if self.complete:
            self._put(self.used, image)
            self.used += image.size
            self._shapes.append((image.shape[0], image.shape[1]))
        return self.complete

    def shapes(self) -> NDArray[np.int64]:
        return np.array(self._shapes, np.int64).reshape(-1, 2)


def in_memory(make: Make, budget_bytes: int) -> Kept:
    """Keeps images in this process.

    Args:
      make: is given a function that takes an image, uint8 (height, width, 3), and says whether it
        still fitted; returns notes, as JSON.
      budget_bytes: of pixels. All are reserved, but memory that is never written is never used.
    """
    reserved = np.empty(budget_bytes + _ALIGNMENT, np.uint8)
    flat = reserved[-reserved.ctypes.data % _ALIGNMENT :]

    def put(begin: int, image: Pixels) -> None:
        flat[begin : begin + image.size] = image.reshape(-1)

    collector = _Collector(budget_bytes, put)
    notes = json.loads(json.dumps(make(collector.add)))
    kept = flat[: collector.used] if collector.complete else None
    return Kept(kept, collector.shapes(), notes)


def write(path: Path, key: str, make: Make, budget_bytes: int) -> None:
    """Makes images and writes them to a file, atomically.

    Where they exceed the budget the file says so, and keeps the notes alone.

    Args:
      path: of the file.
      key: stands for everything that the images depend on.
      make: as of `in_memory`.
      budget_bytes: of pixels.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            _write(file, key, make, budget_bytes)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: IO[bytes], key: str, make: Make, budget_bytes: int) -> None:
    def put(_: int, image: Pixels) -> None:
        file.write(np.ascontiguousarray(image).data)

    collector = _Collector(budget_bytes, put)
    notes = make(collector.add)
    complete = collector.complete
    if not complete:
        file.seek(0)
        file.truncate()
    shapes = collector.shapes().tobytes() if complete else b""
    head = {"key": key, "complete": complete, "budget": budget_bytes, "notes": notes}
    encoded = json.dumps(head).encode()
    file.write(shapes + encoded)
    sizes = (collector.used if complete else 0, len(shapes), len(encoded))
    file.write(_TRAILER.pack(_MAGIC, *sizes, zlib.crc32(shapes + encoded)))


def open_file(path: Path, key: str, budget_bytes: int) -> Kept | None:
    """Maps the images of a file into memory.

    Args:
      path: of the file.
      key: as it was written with.
      budget_bytes: of pixels.

    Returns:
      The images; None where there is no file, or where they were found to exceed a budget that was
      smaller than this one.

    Raises:
      DamagedFile: its length or its head is not what was written.
      OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        num_bytes, shapes, head = _read(file)
        if head["key"] != key:
            raise DamagedFile
        if not head["complete"]:
            return None if budget_bytes > head["budget"] else Kept(None, shapes, head["notes"])
        if num_bytes > budget_bytes:
            return Kept(None, shapes, head["notes"])
        if not num_bytes:
            return Kept(np.empty(0, np.uint8), shapes, head["notes"])
        # Copy on write, because TensorFlow takes over writeable buffers only. Nobody does write, so
        # the pages remain the file's, in memory once however many processes map them.
        flat = np.asarray(np.memmap(file, np.uint8, "c", shape=(num_bytes,)))
        return Kept(flat, shapes, head["notes"])


def _read(file: IO[bytes]) -> tuple[int, NDArray[np.int64], dict[str, Any]]:
    length = file.seek(0, os.SEEK_END)
    if length < _TRAILER.size:
        raise DamagedFile
    file.seek(length - _TRAILER.size)
    magic, num_bytes, shape_bytes, head_bytes, crc = _TRAILER.unpack(file.read())
    if magic != _MAGIC or num_bytes + shape_bytes + head_bytes + _TRAILER.size != length:
        raise DamagedFile
    file.seek(num_bytes)
    described = file.read(shape_bytes + head_bytes)
    if zlib.crc32(described) != crc:
        raise DamagedFile
    shapes = np.frombuffer(described[:shape_bytes], np.int64).reshape(-1, 2)
    return num_bytes, shapes, json.loads(described[shape_bytes:])


class ImageCache:
    """What is kept of one data set.

    A file's name is made of all that its pixels depend on, so that a stale one is never looked at.

    Args:
      directory: of the files; None to keep everything in this process.
      budget_bytes: of pixels to keep in all.
      progress: whether what takes long shows a progress bar.
      source: what the decoded images depend on, as JSON: files, their sizes and dates, settings.
        The versions of what decodes them are added here.
    """

    def __init__(
        self, directory: Path | None, budget_bytes: int, progress: bool, source: object
    ) -> None:
        self.progress = progress
        self._directory = directory
        self._left = budget_bytes
        self._source = _digest([__version__, version("pillow"), version("numpy"), source])
        self._kept: dict[str, Kept] = {}

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes of pixels may still be kept."""
        return num_bytes <= self._left

    def keep(self, name: str, make: Make, *, key: object = None) -> Kept:
        """Images made once, by this process or by another.

        Args:
          name: what they are, for the file's name.
          make: is given a function that takes an image, uint8 (height, width, 3), and says whether
            it still fitted; returns notes, as JSON.
          key: what they depend on beside the source, as JSON.
        """
        digest = _digest([self._source, name, key])
        if digest not in self._kept:
            kept = self._in_file(name, digest, make) or in_memory(make, self._left)
            self._left -= 0 if kept.flat is None else kept.flat.size
            self._kept[digest] = kept
        return self._kept[digest]

    def _in_file(self, name: str, digest: str, make: Make) -> Kept | None:
        directory = self._directory
        if directory is None:
            return None
        path = directory / f"{self._prefix}{name}-{digest[:12]}.pixels"
        try:
            found = self._open(path, digest)
            if found is None:
                with _building(directory):
                    # Another process may have been faster.
                    found = self._open(path, digest, on_damage=_say)
                    if found is None:
                        self._clear(directory)
                        write(path, digest, make, self._left)
                        found = self._open(path, digest)
            return found
        except OSError as error:
            _say(
                f"images cannot be kept in {directory} ({error.strerror or error}): "
                "each process keeps its own in memory"
            )
            self._directory = None
            return None

    @property
    def _prefix(self) -> str:
        return f"{self._source[:12]}-"

    def _open(
        self, path: Path, digest: str, on_damage: Callable[[str], None] = lambda text: None
    ) -> Kept | None:
        try:
            return open_file(path, digest, self._left)
        except DamagedFile:
            on_damage(f"{path} is damaged: it is made anew")
            return None

    def _clear(self, directory: Path) -> None:
        """Removes what a killed process left, and files of the images as they were before."""
        for path in directory.glob("*.pixels*"):
            if path.suffix == ".part" or not path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


@contextmanager
def _building(directory: Path) -> Iterator[None]:
    """Lets one process build while others wait; the kernel ends it with the process."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

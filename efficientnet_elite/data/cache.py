"""Caches pixels that are computed once: decoded images, and evaluation parts at a network's size.

With a directory the images lie in files there, which every process of a search maps into its
memory: the kernel holds one copy for all of them, and a search that is continued later finds the
files again. Without a directory, or where it cannot be written, each process holds the images in
its own memory. Training crops are random and computed anew each time; the images that they are cut
from are cached.

`ImageCache` is what the rest of the package uses. Below it, `cache_in_memory` collects images in a
buffer, and `write_image_file` and `open_image_file` write and map the files.

A file holds, one behind the other: the pixels of all images (uint8, C order), their heights and
widths (int64), a header (JSON), and a trailer of fixed size with the lengths of the other three and
a checksum of all three.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite import machine

from .decode import Pixels

Add: TypeAlias = Callable[[Pixels], bool]
"""Appends an image, uint8 (height, width, channels).

Returns whether it and all images before it fit."""
Make: TypeAlias = Callable[[Add], Any]
"""Produces images by calling the function that it is given; returns notes that JSON can hold."""

_ALIGNMENT = 64  # bytes; TensorFlow shares a NumPy buffer, without a copy, only if it is aligned
_MAGIC = b"eLitePx2"
# Magic; number of bytes of pixels, of shapes and of the header; CRC-32 of all of them.
_TRAILER = struct.Struct("<8sQQQI")


class DamagedFile(Exception):
    """A cache file that does not hold what was written to it."""


@dataclass(frozen=True)
class CachedImages:
    """Images one behind the other in one buffer: all of them, or the first ones that fit.

    Attributes:
      flat: the pixels, uint8 (total,), C order, aligned.
      shapes: height and width of each image, int64 (n, 2).
      notes: what the function that made the images returned, as JSON reads it back.
      channels: number of bytes of a pixel: 3, or 1 for grey images.
      complete: whether these are all images.
    """

    flat: Pixels
    shapes: NDArray[np.int64]
    notes: Any
    channels: int = 3
    complete: bool = True

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where each image ends in the buffer, int64 (n,)."""
        return np.cumsum(self.shapes.prod(axis=1) * self.channels)

    def within(self, budget_bytes: int) -> CachedImages:
        """Returns the first images, as many as fit into so many bytes of pixels."""
        if self.flat.size <= budget_bytes:
            return self
        ends = self.ends
        count = int(np.searchsorted(ends, budget_bytes, side="right"))
        flat = self.flat[: ends[count - 1] if count else 0]
        return replace(self, flat=flat, shapes=self.shapes[:count], complete=False)


class _Collector:
    """Stores images one behind the other until the budget is used up.

    Args:
      budget_bytes: the most bytes of pixels to store.
      put: stores an image at an offset in bytes.
    """

    def __init__(self, budget_bytes: int, put: Callable[[int, Pixels], None]) -> None:
        self._budget_bytes, self._put = budget_bytes, put
        self._shapes: list[tuple[int, int]] = []
        self.num_bytes = 0
        self.channels = 3
        self.complete = True

    def add(self, image: Pixels) -> bool:
        """Appends an image, uint8 (height, width, channels).

        Once an image does not fit, none behind it is stored, even if it is smaller.

        Returns:
          Whether this image and all images before it fit.
        """
        self.complete = self.complete and self.num_bytes + image.size <= self._budget_bytes
        if self.complete:
            self._put(self.num_bytes, image)
            self.num_bytes += image.size
            self.channels = image.shape[2]
            self._shapes.append((image.shape[0], image.shape[1]))
        return self.complete

    def shapes(self) -> NDArray[np.int64]:
        return np.array(self._shapes, np.int64).reshape(-1, 2)


def cache_in_memory(make: Make, budget_bytes: int) -> CachedImages:
    """Makes images and holds them in the memory of this process.

    Args:
      make: produces the images, see `Make`.
      budget_bytes: the most bytes of pixels. All of them are reserved at once, but the system
        provides memory only for what is written.
    """
    reserved = np.empty(budget_bytes + _ALIGNMENT, np.uint8)
    flat = reserved[-reserved.ctypes.data % _ALIGNMENT :]

    def put(offset: int, image: Pixels) -> None:
        flat[offset : offset + image.size] = image.reshape(-1)

    collector = _Collector(budget_bytes, put)
    # Through JSON, so that the notes are the same as those that are read from a file.
    notes = json.loads(json.dumps(make(collector.add)))
    pixels = flat[: collector.num_bytes]
    return CachedImages(pixels, collector.shapes(), notes, collector.channels, collector.complete)


def write_image_file(path: Path, key: str, make: Make, budget_bytes: int) -> None:
    """Makes images and writes them to a file, atomically.

    If the images exceed the budget the file holds the first ones that fit.

    Args:
      path: the file to write.
      key: stands for everything that the images depend on; `open_image_file` compares it.
      make: produces the images, see `Make`.
      budget_bytes: the most bytes of pixels.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            _write_content(file, key, make, budget_bytes)
        machine.replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_content(file: IO[bytes], key: str, make: Make, budget_bytes: int) -> None:
    checksum = 0

    def put(_: int, image: Pixels) -> None:
        nonlocal checksum
        pixels = np.ascontiguousarray(image).data
        checksum = zlib.crc32(pixels, checksum)
        file.write(pixels)

    collector = _Collector(budget_bytes, put)
    notes = make(collector.add)
    shapes = collector.shapes().tobytes()
    header = {
        "key": key,
        "complete": collector.complete,
        "channels": collector.channels,
        "budget": budget_bytes,
        "notes": notes,
    }
    encoded_header = json.dumps(header).encode()
    file.write(shapes + encoded_header)
    sizes = (collector.num_bytes, len(shapes), len(encoded_header))
    checksum = zlib.crc32(shapes + encoded_header, checksum)
    file.write(_TRAILER.pack(_MAGIC, *sizes, checksum))


def open_image_file(path: Path, key: str, budget_bytes: int) -> CachedImages | None:
    """Maps the images of a file into memory; reads the whole file once, for its checksum.

    Args:
      path: a file that `write_image_file` wrote.
      key: the key that it was written with.
      budget_bytes: the most bytes of pixels to map.

    Returns:
      The images, as many as fit into the budget. None if there is no file, or if the images
      exceeded the budget when the file was written and this budget is larger.

    Raises:
      DamagedFile: the file's length, checksum or key is not as expected.
      OSError: the file cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        num_bytes, description, shape_bytes, checksum = _read_description(file)
        # Mode "c" is copy on write: TensorFlow shares only buffers that are writeable. Nothing
        # writes to this one, so its pages remain those of the file, and memory holds them once for
        # all processes that map it. An empty range cannot be mapped.
        flat = (
            np.asarray(np.memmap(file, np.uint8, "c", shape=(num_bytes,)))
            if num_bytes
            else np.empty(0, np.uint8)
        )
        if zlib.crc32(description, zlib.crc32(flat.data)) != checksum:
            raise DamagedFile
        shapes = np.frombuffer(description[:shape_bytes], np.int64).reshape(-1, 2)
        header = json.loads(description[shape_bytes:])
        if header["key"] != key:
            raise DamagedFile
        if not header["complete"] and budget_bytes > header["budget"]:
            return None
        # Earlier files, which do not say it, hold colours.
        channels = header.get("channels", 3)
        images = CachedImages(flat, shapes, header["notes"], channels, header["complete"])
        return images.within(budget_bytes)


def _read_description(file: IO[bytes]) -> tuple[int, bytes, int, int]:
    """Reads all of a file but its pixels.

    Returns:
      Number of bytes of pixels; shapes and header, not decoded; number of bytes of the shapes among
      them; checksum of the file.

    Raises:
      DamagedFile: lengths are wrong.
    """
    length = file.seek(0, os.SEEK_END)
    if length < _TRAILER.size:
        raise DamagedFile
    file.seek(length - _TRAILER.size)
    magic, num_bytes, shape_bytes, header_bytes, checksum = _TRAILER.unpack(file.read())
    if magic != _MAGIC or num_bytes + shape_bytes + header_bytes + _TRAILER.size != length:
        raise DamagedFile
    file.seek(num_bytes)
    return num_bytes, file.read(shape_bytes + header_bytes), shape_bytes, checksum


class ImageCache:
    """All cached images of one data set.

    The name of a file contains a hash of everything that its pixels depend on, so that an outdated
    file is never read.

    Args:
      directory: where the files are; None to hold everything in the memory of this process.
      budget_bytes: the most bytes of pixels to cache in all.
      progress: whether long steps show a progress bar.
      source: what the decoded images depend on, as values that JSON can hold: files, their sizes
        and dates, settings. The versions of the packages that decode them are added here.
    """

    def __init__(
        self, directory: Path | None, budget_bytes: int, progress: bool, source: object
    ) -> None:
        self.progress = progress
        self._directory = directory
        self._bytes_left = budget_bytes
        versions = [version(name) for name in ("efficientnet-elite", "pillow", "numpy")]
        self._source = _digest([_MAGIC.decode(), *versions, source])
        self._cached: dict[str, CachedImages] = {}

    def has_room(self, num_bytes: int) -> bool:
        """Returns whether so many more bytes of pixels fit into the budget."""
        return num_bytes <= self._bytes_left

    def keep(
        self, name: str, make: Make, *, key: object = None, reserve_bytes: int = 0
    ) -> CachedImages:
        """Returns cached images, and makes them first if no process has done so yet.

        Args:
          name: what the images are; part of the file's name.
          make: produces the images, see `Make`.
          key: what they depend on besides the source, as values that JSON can hold.
          reserve_bytes: what to leave of the budget to images that are cached later.
        """
        budget = max(0, self._bytes_left - reserve_bytes)
        digest = _digest([self._source, name, key])
        if digest not in self._cached:
            images = self._from_file(name, digest, make, budget)
            images = images or cache_in_memory(make, budget)
            self._bytes_left -= images.flat.size
            self._cached[digest] = images
        return self._cached[digest]

    def _from_file(self, name: str, digest: str, make: Make, budget: int) -> CachedImages | None:
        """Opens a file of images, and writes it first if there is none. None: files do not work."""
        directory = self._directory
        if directory is None:
            return None
        path = directory / f"{self._prefix}{name}-{digest[:12]}.pixels"
        try:
            images = self._open(path, digest, budget)
            if images is None:
                with _exclusive(directory):
                    # Another process may have written the file while this one waited.
                    images = self._open(path, digest, budget, _write_to_stderr)
                    if images is None:
                        self._remove_outdated(directory)
                        write_image_file(path, digest, make, budget)
                        images = self._open(path, digest, budget)
            return images
        except OSError as error:
            _write_to_stderr(
                f"decoded images cannot be cached in {directory} ({error.strerror or error}): "
                "each process holds them in its own memory instead; to share them, "
                "make room there or make the folder writeable"
            )
            self._directory = None
            return None

    @property
    def _prefix(self) -> str:
        return f"{self._source[:12]}-"

    def _open(
        self,
        path: Path,
        digest: str,
        budget: int,
        on_damage: Callable[[str], None] = lambda text: None,
    ) -> CachedImages | None:
        try:
            return open_image_file(path, digest, budget)
        except DamagedFile:
            on_damage(f"cache file {path} is damaged and is written again; nothing is lost")
            return None

    def _remove_outdated(self, directory: Path) -> None:
        """Removes unfinished files of killed processes, and files of earlier states of the data."""
        for path in directory.glob("*.pixels*"):
            if path.suffix == ".part" or not path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _write_to_stderr(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Lets one process at a time write files. The kernel releases the lock when a process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / "lock"):
        yield

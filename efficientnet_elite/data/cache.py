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
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from .. import __version__
from .pixels import DamagedFile, Kept, Make, in_memory, open_file, write


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

"""One place for the temporary files of a command, and of the processes and packages it uses."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCK = "lock"  # in the folder of each command, held as long as its process lives


@contextmanager
def temporary_files() -> Iterator[None]:
    """Lets all temporary files within this context be made in one folder, removed at its end.

    TensorFlow's converter, compilers and browsers make folders of their own, which stay where they
    are if the process is killed. The folders of killed commands are removed by the next one. Where
    no folder can be made, temporary files go where they went before.
    """
    with ExitStack() as stack:
        before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        with suppress(OSError):
            folder = stack.enter_context(_own_folder(Path(tempfile.gettempdir())))
            os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # of children, and of this one
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                os.environ.pop("TMPDIR", None)
            else:
                os.environ["TMPDIR"] = variable


@contextmanager
def _own_folder(place: Path) -> Iterator[Path]:
    """A new folder that no other process removes; OSError where none can be made."""
    home = place / f"efficientnet-elite-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise PermissionError(f"{home} belongs to another user")
    with _locked(home / _LOCK):  # a folder is not removed before it is locked
        for old in [path for path in home.iterdir() if path.is_dir()]:
            with suppress(OSError), _locked(old / _LOCK, wait=False):
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=home))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[IO[str]]:
    """Holds a lock file; BlockingIOError where another process holds it and none is to wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file

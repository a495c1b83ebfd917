"""One place for the temporary files of a command, and of the processes and packages it uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock


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
    user = os.getuid() if hasattr(os, "getuid") else 0  # as the files of Windows have it
    home = place / f"elite-temporary-{user}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != user:
        raise PermissionError(f"{home} belongs to another user")
    with FileLock(home / "lock"):  # a folder is not removed before it is locked
        for name in {path.stem for path in home.iterdir()} - {"lock"}:
            old = home / name
            with suppress(OSError):
                with _lock_of(old).acquire(timeout=0):
                    shutil.rmtree(old, ignore_errors=True)
                Path(_lock_of(old).lock_file).unlink()
        folder = Path(tempfile.mkdtemp(dir=home))
        lock = _lock_of(folder).acquire()
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # Windows removes no file that another process looks at
        Path(_lock_of(folder).lock_file).unlink()


def _lock_of(folder: Path) -> FileLock:
    """The lock of a command's folder, held as long as its process lives.

    It stands beside the folder: Windows removes no folder that holds an open file.
    """
    return FileLock(folder.with_suffix(".lock"))

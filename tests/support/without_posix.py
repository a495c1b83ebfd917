"""Takes from this process what Windows does not have, and refuses what Windows refuses.

Copied to ``sitecustomize.py`` in a folder of ``PYTHONPATH``, it holds for all child processes, too.
It is no Windows: paths, native libraries and the system's processes stay those of this machine, and
other packages may import what this one may not.
"""
# `pathlib` calls the functions that are replaced here:
# ruff: noqa: PTH112, PTH113, PTH115, PTH208

import builtins
import errno
import fcntl
import os
import shutil
import signal
import sys

_MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
_OF_OS = "fork forkpty getuid geteuid getgid getegid killpg sched_getaffinity wait4 mkfifo"
_OF_SIGNAL = "SIGALRM SIGHUP SIGQUIT SIGUSR1 alarm setitimer pthread_sigmask"


def _open_here(path) -> bool:
    """Whether this process has a file open or mapped."""
    found = os.path.realpath(path)
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # that of the listing itself
            continue
    with _open("/proc/self/maps", errors="replace") as maps:
        return found in links or any(line.rstrip("\n").endswith(f" {found}") for line in maps)


def _without_open_files(function):
    def guarded(*paths, **folders):
        for path in paths:
            # Both do so on POSIX alone.
            if ".filelock-" in str(path) or sys._getframe(1).f_globals["__name__"] == "tempfile":
                continue
            if not folders and os.path.isfile(path) and _open_here(path):
                raise PermissionError(errno.EACCES, "a process has the file open", str(path))
        return function(*paths, **folders)

    return guarded


def _open_no_folder(path, flags, mode=0o777, *, dir_fd=None):
    if dir_fd is None and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "a folder", str(path))
    return _os_open(path, flags, mode, dir_fd=dir_fd)


def _flush_what_can_be_written(file):
    descriptor = file if isinstance(file, int) else file.fileno()
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "the file was opened to read")
    return _fsync(descriptor)


def _import_what_windows_has(name, globals=None, *rest, **more):
    if name in _MODULES and (globals or {}).get("__name__", "").startswith("efficientnet_elite"):
        raise ModuleNotFoundError(f"No module named {name!r}")
    return _import(name, globals, *rest, **more)


_import, _open, _os_open, _fsync = builtins.__import__, open, os.open, os.fsync
shutil._use_fd_functions = False  # without them `rmtree` opens no folders
os.open, os.fsync = _open_no_folder, _flush_what_can_be_written
for _name in ("unlink", "remove", "replace", "rename"):
    setattr(os, _name, _without_open_files(getattr(os, _name)))
for _name in _OF_OS.split():
    delattr(os, _name)
for _name in _OF_SIGNAL.split():
    delattr(signal, _name)
builtins.__import__ = _import_what_windows_has

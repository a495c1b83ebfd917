"""Runs a function in a process of its own, with limits on time and memory.

Code that loads a file from an unknown source, or a native library that may abort on it, is called
in this way (`call`): the worst it can do is to end its own process. Arguments and results travel as
plain arrays and never as pickles, so that nothing that a child sends back can run code here.

`captured` keeps what native libraries print away from the terminal, in any process.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from efficientnet_elite.errors import UserError, as_user_error
from efficientnet_elite.text import signal_name

# Arguments and results of functions that run in a process of their own, by name.
Arrays = dict[str, np.ndarray]

TIMEOUT_SECONDS = 300.0
# Limit on the address space, not on the memory in use: native libraries reserve more than they use.
MEMORY_BYTES = 8 << 30

_ERROR = "error"  # in a child's answer, the key of an error's message


def call(
    function: Callable[[Arrays], Mapping[str, Any]],
    arguments: Mapping[str, Any],
    *,
    timeout: float | None = TIMEOUT_SECONDS,
    memory: int = MEMORY_BYTES,
    quiet: bool = True,
) -> Arrays:
    """Calls a function in another Python process and returns its result.

    Args:
      function: a function at the top level of an importable module; it takes and returns arrays by
        name.
      arguments: values that numpy can turn into arrays; give bytes as `np.frombuffer` does.
      timeout: seconds after which the process is killed; None for no limit.
      memory: bytes of address space that the process may use; a limit on Linux alone.
      quiet: whether to suppress what it writes to stderr, such as progress bars.

    Raises:
      UserError: the function raised an error, or the process crashed or ran out of time; the
        message is one line.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "question.npz"), Path(folder, "answer.npz")
        np.savez(question, **arguments)
        command = [
            # -P: modules in the current folder, which may be anybody's, are not imported.
            *(sys.executable, "-P", "-m", __name__),
            *(f"{function.__module__}:{function.__name__}", str(memory), folder),
        ]
        try:
            process = subprocess.run(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if quiet else None,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"it took longer than {timeout:g} s and was stopped") from None
        if process.returncode == 0:
            result = _load(answer)
            if _ERROR in result:
                raise UserError(" ".join(str(result[_ERROR]).split()))
            return result
        text = (process.stderr or b"").decode(errors="replace")
        lines = [" ".join(line.split()) for line in text.split("\n")]
        last = next((line for line in reversed(lines) if line), "it printed no reason")
        if process.returncode < 0:
            raise UserError(f"it crashed ({signal_name(-process.returncode)}): {last}")
        raise UserError(last)


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Redirects what this process, native code included, writes to stdout and stderr.

    Yields:
      A function that returns the text written so far; it works inside the context only.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        sys.stdout.flush()
        sys.stderr.flush()
        originals = os.dup(1), os.dup(2)
        with log.open("wb") as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        try:
            yield lambda: log.read_text(encoding="utf-8", errors="replace")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(originals, start=1):
                os.dup2(original, descriptor)
                os.close(original)


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _child(function: str, memory: str, folder: str) -> None:
    """What the child process does: limits itself, calls the function, writes its result.

    Args:
      function: the function as ``module:name``.
      memory: bytes of address space, as text.
      folder: the folder with the arguments, where the result is written.
    """
    if sys.platform != "win32":  # which has no such limits
        with contextlib.suppress(ImportError, ValueError):  # macOS refuses to set them
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = int(memory) if hard == resource.RLIM_INFINITY else min(int(memory), hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at once at Ctrl-C; the caller reports it
    module, _, name = function.partition(":")
    try:
        result = getattr(import_module(module), name)(_load(Path(folder, "question.npz")))
    except UserError as error:
        result = {_ERROR: str(error)}
    except Exception as error:
        missing = as_user_error(error) if isinstance(error, ModuleNotFoundError) else None
        result = {_ERROR: str(missing or traceback.format_exception_only(error)[-1])}
    np.savez(Path(folder, "answer.npz"), **result)


if __name__ == "__main__":
    _child(*sys.argv[1:])


def fresh_memory() -> int:
    """Resets the peak of this process's memory, and returns its resident bytes now."""
    with contextlib.suppress(OSError):  # some containers forbid it
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return memory("VmRSS")


def memory(key: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at their peak (VmHWM).

    Elsewhere than on Linux the peak is not known, and what is resident now stands for it.
    """
    # Not getrusage, whose peak includes the parent's memory from before this program started.
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return int(psutil.Process().memory_info().rss)
    (line,) = re.findall(rf"{key}:\s+(\d+) kB", status)
    return int(line) * 1024

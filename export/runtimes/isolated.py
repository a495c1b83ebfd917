"""Runs a function in a process of its own, with limits on time and memory.

What loads a file from elsewhere, or a native library that may abort on it, is called this way: the
worst it can do is to end its own process. Arguments and results travel as plain arrays, never as
pickles, so that nothing a child sends back can run code here.
"""

from __future__ import annotations

import contextlib
import os
import resource
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

from efficientnet_elite.errors import UserError
from efficientnet_elite.text import signal_name


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Catches what Python and C++ write to stdout and stderr; yields a reader of it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        with log.open("wb") as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        try:
            yield lambda: log.read_text(errors="replace")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, original in enumerate(kept, start=1):
                os.dup2(original, target)
                os.close(original)


Arrays = dict[str, np.ndarray]

TIMEOUT_SECONDS = 300.0
MEMORY_BYTES = 8 << 30  # of address space, of which native libraries reserve more than they use

_ERROR = "error"  # key of a child's answer that stands for a UserError's message


def call(
    function: Callable[[Arrays], Mapping[str, Any]],
    arguments: Mapping[str, Any],
    *,
    timeout: float | None = TIMEOUT_SECONDS,
    memory: int = MEMORY_BYTES,
    quiet: bool = True,
) -> Arrays:
    """The answer of `function`, computed by another Python process.

    Args:
      function: defined at the top of an importable module; takes and returns named arrays.
      arguments: what numpy can make an array of; bytes as `np.frombuffer` gives them.
      timeout: seconds, after which the process is killed; None for work that takes what it takes.
      memory: bytes of address space it may use.
      quiet: whether to keep to oneself what it says on stderr, such as its progress.

    Raises:
      UserError: the function raised, the process crashed or ran out of time; one line says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "question.npz"), Path(folder, "answer.npz")
        np.savez(question, **arguments)
        command = [
            # -P: the current folder may hold files from elsewhere, and none is to be imported.
            *(sys.executable, "-P", "-m", __name__),
            *(f"{function.__module__}:{function.__name__}", str(memory), folder),
        ]
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if quiet else None,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"it took longer than {timeout:g} s and was stopped") from None
        if done.returncode == 0:
            result = _load(answer)
            if _ERROR in result:
                raise UserError(" ".join(str(result[_ERROR]).split()))
            return result
        said = (done.stderr or b"").decode(errors="replace")
        lines = [" ".join(line.split()) for line in said.split("\n")]
        last = next((line for line in reversed(lines) if line), "it said nothing")
        if done.returncode < 0:
            raise UserError(f"it crashed ({signal_name(-done.returncode)}): {last}")
        raise UserError(last)


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _child(function: str, memory: str, folder: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = int(memory) if most == resource.RLIM_INFINITY else min(int(memory), most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the caller's matter
    module, _, name = function.partition(":")
    try:
        result = getattr(import_module(module), name)(_load(Path(folder, "question.npz")))
    except UserError as error:
        result = {_ERROR: str(error)}
    except Exception as error:
        result = {_ERROR: traceback.format_exception_only(error)[-1]}
    np.savez(Path(folder, "answer.npz"), **result)


if __name__ == "__main__":
    _child(*sys.argv[1:])

"""Runs one model in a process of its own, and prints what it needs as a line of JSON.

    python alone.py MODEL.tflite THREADS SEED [INFERENCES]

The fields are ``initialisation_ms`` (reading the file and planning its memory), ``first_ms`` (the
first inference) and ``rss_mb`` (peak resident memory in 10^6 bytes, less what Python and the
runtime took before; None where Linux does not tell), or ``error`` alone. A file that crashes the
runtime ends only this process.

With a number of inferences it runs those and prints an empty object: an emulator that counts
instructions gets those of one inference from two runs with different numbers, and what is printed
must not depend on the time.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

LOAD_ERRORS = (OSError, ValueError, RuntimeError)  # LiteRT raises these for bad files


class FailedAlone(Exception):
    """The model cannot be run; the message says why."""


def needs_of(path: Path, threads: int, seed: int) -> dict[str, Any]:
    """Runs a model alone, in another process.

    Returns:
      The fields that are printed.

    Raises:
      FailedAlone: the model cannot be run, or its process ended.
    """
    program = [sys.executable, str(Path(__file__)), str(path), str(threads), str(seed)]
    done = subprocess.run(program, capture_output=True, text=True)
    if done.returncode < 0:
        raise FailedAlone(f"its process was ended by {signal.Signals(-done.returncode).name}")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise FailedAlone(f"its process failed: {last}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise FailedAlone(answer["error"])
    return answer


def load(path: Path, threads: int, seed: int) -> Any:
    """Returns an interpreter that has random input.

    Raises:
      OSError, ValueError, RuntimeError: the file cannot be loaded.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise FileNotFoundError("no such file")
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    # Not NumPy's random numbers: on import they take entropy of the system, and counts would vary.
    rng = random.Random(seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(
            detail["index"], _random_input(rng, detail["shape"], detail["dtype"])
        )
    return interpreter


def _random_input(rng: random.Random, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Returns random pixels; zeros for types whose values may be indices rather than pixels."""
    kind, count = np.dtype(dtype), int(np.prod(shape))
    if kind.kind == "f":
        pixels = np.frombuffer(rng.randbytes(count), np.uint8)
        return (pixels / 127.5 - 1).astype(kind).reshape(shape)
    if kind.kind in "iu" and kind.itemsize <= 2:
        return np.frombuffer(rng.randbytes(count * kind.itemsize), kind).reshape(shape)
    return np.zeros(shape, kind)


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())


def _memory(field: str) -> int | None:
    """``VmRSS`` or ``VmHWM`` of this process in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")]
    return 1024 * int(found[0]) if found else None


def main(argv: Sequence[str]) -> None:
    """Runs the model and prints the line."""
    path, threads, seed = Path(argv[1]), int(argv[2]), int(argv[3])
    import_module("ai_edge_litert.interpreter")  # its memory and time are not the model's

    try:
        if argv[4:]:
            answer = _counted(path, threads, seed, int(argv[4]))
        else:
            answer = _timed(path, threads, seed)
    except LOAD_ERRORS as error:
        answer = {"error": one_line(error)}
    print(json.dumps(answer))


def _counted(path: Path, threads: int, seed: int, inferences: int) -> dict[str, Any]:
    interpreter = load(path, threads, seed)
    for _ in range(inferences):
        interpreter.invoke()
    return {}


def _timed(path: Path, threads: int, seed: int) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before = _memory("VmRSS")
    started = time.perf_counter()
    interpreter = load(path, threads, seed)
    loaded = time.perf_counter()
    interpreter.invoke()
    ran = time.perf_counter()
    after = _memory("VmHWM")
    return {
        "initialisation_ms": 1e3 * (loaded - started),
        "first_ms": 1e3 * (ran - loaded),
        "rss_mb": None if before is None or after is None else max(0, after - before) / 1e6,
    }


if __name__ == "__main__":
    main(sys.argv)

"""TensorFlow Lite for Microcontrollers (TFLM) on this machine: inference and the arena's size.

The interpreter is that of the ``tflite-micro`` wheel: the code that runs on devices, with its
portable reference kernels. It may abort on a bad model, so it only runs in a process of its own
(see `isolated`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import isolated, runtime
from .isolated import Arrays, captured

MAX_ARENA_BYTES = 64 << 20  # far more than any microcontroller has
_MAX_ALLOCATION_BYTES = 1 << 30  # for `allocation`, which also serves large networks
ALIGNMENT = 16  # bytes; TFLM aligns the arena to it
_PROBE_SECONDS = 60  # time limit of loading and running a model once

INSTALL = "TFLM is not installed: pip install --pre tflite-micro (Linux x86-64)"


def available() -> bool:
    """Whether the ``tflite-micro`` wheel is installed."""
    return importlib.util.find_spec("tflite_micro") is not None


def arena_bytes(model: bytes) -> int:
    """Finds the smallest tensor arena in which TFLM loads and runs a model on this machine.

    The model is loaded and run in an arena of this size, which is the proof. It can be larger than
    what TFLM's allocator reports, because memory that only planning needs is not reported.

    For a 32-bit microcontroller the size is an upper bound as long as its kernels need no more
    scratch memory than the portable ones (CMSIS-NN's convolutions need some): besides activations
    the arena holds a few structs per operator and tensor, with pointers of 8 bytes here and 4 bytes
    there.

    Args:
      model: content of a .tflite file.

    Returns:
      Bytes, a multiple of `ALIGNMENT`.

    Raises:
      UserError: TFLM is not installed or cannot load the model, or the model needs more than
        `MAX_ARENA_BYTES`.
    """
    return int(_call(_find_smallest_arena, model=np.frombuffer(model, np.uint8))["arena"])


@dataclass(frozen=True)
class Allocation:
    """Bytes of an arena in use, as TFLM reports them.

    Attributes:
      head: activations and scratch memory, which share memory over time as TFLM has planned.
      tail: memory in use all the time: records of tensors and operators, requantization factors. It
        is larger here than on a 32-bit microcontroller.
    """

    head: int
    tail: int


def allocation(model: bytes) -> Allocation:
    """Loads a model into a large arena and returns how much of it is used for what.

    Raises:
      UserError: TFLM is not installed or cannot load the model.
    """
    sizes = _call(_allocation_sizes, model=np.frombuffer(model, np.uint8))
    return Allocation(int(sizes["head"]), int(sizes["tail"]))


def outputs(model: bytes, images: np.ndarray) -> np.ndarray:
    """Runs a model on images.

    Args:
      model: content of a .tflite file.
      images: elements of its input (N, height, width, channels), of the input's type.

    Returns:
      Elements of its output, (N, elements).

    Raises:
      UserError: TFLM is not installed or cannot load the model.
    """
    return _call(_infer, model=np.frombuffer(model, np.uint8), images=images)["outputs"]


class Runner:
    """A model loaded by TFLM in this process, which must be an isolated one: TFLM may abort.

    Attributes:
      input, output: the model's input and output tensor.
    """

    def __init__(self, model: bytes, arena: int = MAX_ARENA_BYTES):
        """Loads a model.

        Args:
          model: content of a .tflite file.
          arena: size of the arena in bytes.

        Raises:
          UserError: TFLM cannot load the model; the message has TFLM's reason.
        """
        tflm = import_module("tflite_micro.python.tflite_micro.runtime")
        with captured() as messages:
            try:
                self._interpreter = tflm.Interpreter.from_bytes(model, arena_size=arena)
            except Exception as error:  # damaged files cause errors of many types
                lines = (" ".join(line.split()) for line in messages().split("\n"))
                reason = next(filter(None, lines), str(error))
                raise UserError(f"TFLM cannot load the model: {reason}") from error
        self.input = _interface(self._interpreter.get_input_details(0))
        self.output = _interface(self._interpreter.get_output_details(0))

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Runs one image, see `runtime.Runner.infer`."""
        self._interpreter.set_input(image[None], 0)
        self._interpreter.invoke()
        return self._interpreter.get_output(0)[0]

    def allocated(self) -> dict[str, int]:
        """Bytes of the arena in use: ``head``, ``tail`` (see `Allocation`) and ``total``."""
        with captured() as output:
            self._interpreter.print_allocations()
            sizes = re.findall(r"Arena allocation (head|tail|total) (\d+) bytes", output())
        return {part: int(size) for part, size in sizes}

    def used(self) -> int:
        """Bytes of the arena in use after an inference, rounded up to `ALIGNMENT`."""
        return -(-self.allocated()["total"] // ALIGNMENT) * ALIGNMENT


def check() -> None:
    """Raises UserError if TFLM is not installed."""
    if not available():
        raise UserError(INSTALL)


def _call(function: Callable[[Arrays], Arrays], **arguments: np.ndarray) -> Arrays:
    """Calls a function that uses TFLM in a process of its own."""
    check()
    return isolated.call(function, arguments)


def _infer(arguments: Arrays) -> Arrays:
    """What the child process of `outputs` does."""
    runner = Runner(arguments["model"].tobytes())
    return {"outputs": np.stack([runner.infer(image).reshape(-1) for image in arguments["images"]])}


def _find_smallest_arena(arguments: Arrays) -> Arrays:
    """What the child process of `arena_bytes` does."""
    model = arguments["model"].tobytes()
    runner = Runner(model)
    image = np.zeros(runner.input.shape[1:], runner.input.dtype)
    runner.infer(image)

    least = runner.used()
    if _works(model, image, least):
        return {"arena": np.array(least)}
    # In networks with few activations, planning needs more memory than what is in use afterwards.
    step = ALIGNMENT
    while not _works(model, image, least + step):
        step *= 2
    low, high = least + step // 2, least + step  # `low` is too small, `high` suffices
    while high - low > ALIGNMENT:
        middle = (low + high) // 2 // ALIGNMENT * ALIGNMENT
        low, high = (low, middle) if _works(model, image, middle) else (middle, high)
    return {"arena": np.array(high)}


def _works(model: bytes, image: np.ndarray, arena: int) -> bool:
    """Whether TFLM loads and runs a model in an arena of so many bytes.

    It is tried in a copy of this process, because TFLM may crash if the arena is slightly too small
    for planning.
    """
    if sys.platform == "win32":
        raise NotImplementedError("TFLM's package is for Linux alone")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(_PROBE_SECONDS)
            Runner(model, arena).infer(image)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _allocation_sizes(arguments: Arrays) -> Arrays:
    """What the child process of `allocation` does."""
    sizes = Runner(arguments["model"].tobytes(), _MAX_ALLOCATION_BYTES).allocated()
    return {part: np.array(sizes[part]) for part in ("head", "tail")}


def _interface(detail: dict[str, Any]) -> runtime.Interface:
    """An input or output tensor from the details that TFLM's interpreter gives."""
    quantization = detail["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    return runtime.Interface(
        tuple(int(size) for size in detail["shape"]),
        np.dtype(detail["dtype"]),
        float(scales[0]) if len(scales) else 0.0,
        int(zero_points[0]) if len(zero_points) else 0,
    )

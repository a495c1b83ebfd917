"""TensorFlow Lite for Microcontrollers (TFLM) on this machine: arena size and inference.

Uses the interpreter of the ``tflite-micro`` wheel, the very code that runs on the device but with
its portable reference kernels. It may abort on a bad model, so it only ever runs in a process of
its own (`isolated`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import isolated, runtime
from .isolated import Arrays, captured

# Far more than any microcontroller has.
GREATEST_ARENA = 64 << 20
_ANY_ARENA = 1 << 30  # for networks that no microcontroller will see
ALIGNMENT = 16  # of the arena, as TFLM wants it
_PROBE_SECONDS = 60  # that an inference may take

INSTALL = "TFLM is not installed: pip install --pre tflite-micro (Linux x86-64)"


def available() -> bool:
    """Whether the ``tflite-micro`` wheel is installed."""
    return importlib.util.find_spec("tflite_micro") is not None


def arena_bytes(model: bytes) -> int:
    """Size of the smallest tensor arena with which TFLM loads and runs a model on this machine.

    A multiple of 16, proved by loading and running the model in it. It is what TFLM's allocator
    reports, or more: the memory that planning takes for a while does not count there. Beside the
    activations the arena holds a few structs an operator and a tensor, whose pointers have 8 bytes
    here and 4 on a microcontroller, so that for a 32-bit device the figure is an upper bound as
    long as its kernels ask for no more scratch memory than the portable ones (CMSIS-NN's
    convolutions ask for some).

    Raises:
      UserError: TFLM is not installed, or refuses the model, or it needs more than 64 MiB.
    """
    return int(_call(_measure, model=np.frombuffer(model, np.uint8))["arena"])


@dataclass(frozen=True)
class Allocation:
    """Bytes of an arena in use, by TFLM's own account.

    Attributes:
      head: activations and scratch memory, as planned.
      tail: what stays: records of tensors and operators, requantization factors. They are larger
        here than on a 32-bit microcontroller.
    """

    head: int
    tail: int


def allocation(model: bytes) -> Allocation:
    """What an arena is used for; UserError where TFLM is not installed or refuses the model."""
    found = _call(_allocate, model=np.frombuffer(model, np.uint8))
    return Allocation(int(found["head"]), int(found["tail"]))


def run(model: bytes, images: np.ndarray, arena: int = GREATEST_ARENA) -> np.ndarray:
    """Logits of images, computed by TFLM.

    Args:
      model: content of a .tflite file.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
      arena: bytes of memory for its tensors.

    Returns:
      (N, classes) float32.

    Raises:
      UserError: TFLM is not installed or refuses the model.
    """
    arguments = {"model": np.frombuffer(model, np.uint8), "images": images}
    return _call(_infer, **arguments, arena=np.array(arena))["logits"]


class Runner:
    """`runtime.Runner`'s counterpart in this very process: use it within an isolated one only.

    Attributes:
      input, output: the model's interface.
    """

    def __init__(self, model: bytes, arena: int = GREATEST_ARENA):
        """Loads a model into an arena of so many bytes; UserError where TFLM refuses it."""
        tflm = import_module("tflite_micro.python.tflite_micro.runtime")
        with captured() as complaints:
            try:
                self._interpreter = tflm.Interpreter.from_bytes(model, arena_size=arena)
            except Exception as error:  # its flatbuffer reader raises whatever comes along
                lines = (" ".join(line.split()) for line in complaints().split("\n"))
                reason = next(filter(None, lines), str(error))
                raise UserError(f"TFLM cannot load the model: {reason}") from error
        self.input = _interface(self._interpreter.get_input_details(0))
        self.output = _interface(self._interpreter.get_output_details(0))

    def infer(self, image: np.ndarray) -> np.ndarray:
        """As `runtime.Runner.infer`."""
        self._interpreter.set_input(image[None], 0)
        self._interpreter.invoke()
        return self._interpreter.get_output(0)[0]

    def run(self, images: np.ndarray) -> np.ndarray:
        """As `runtime.Runner.run`."""
        outputs = [self.infer(image) for image in runtime.quantized(images, self.input)]
        return runtime.dequantized(np.stack(outputs), self.output)

    def allocated(self) -> dict[str, int]:
        """Bytes of the arena in use: ``head``, ``tail``, ``total``."""
        with captured() as output:
            self._interpreter.print_allocations()
            found = re.findall(r"Arena allocation (head|tail|total) (\d+) bytes", output())
        return {part: int(size) for part, size in found}

    def used(self) -> int:
        """Bytes of the arena in use after an inference, a multiple of 16."""
        return -(-self.allocated()["total"] // ALIGNMENT) * ALIGNMENT


def check() -> None:
    """UserError where TFLM is not installed."""
    if not available():
        raise UserError(INSTALL)


def _call(function: Callable[[Arrays], Arrays], **arguments: np.ndarray) -> Arrays:
    check()
    return isolated.call(function, arguments)


def _measure(arguments: Arrays) -> Arrays:
    model = arguments["model"].tobytes()
    runner = Runner(model)
    image = np.zeros(runner.input.shape[1:], runner.input.dtype)
    runner.infer(image)

    least = runner.used()
    if _works(model, image, least):
        return {"arena": np.array(least)}
    # Planning takes more than what stays where the activations are few.
    step = ALIGNMENT
    while not _works(model, image, least + step):
        step *= 2
    low, high = least + step // 2, least + step  # fails, works
    while high - low > ALIGNMENT:
        middle = (low + high) // 2 // ALIGNMENT * ALIGNMENT
        low, high = (low, middle) if _works(model, image, middle) else (middle, high)
    return {"arena": np.array(high)}


def _works(model: bytes, image: np.ndarray, arena: int) -> bool:
    """Whether TFLM loads and runs a model in an arena of so many bytes."""
    # In a copy of this process: where memory for planning is only just short TFLM may crash.
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


def _allocate(arguments: Arrays) -> Arrays:
    found = Runner(arguments["model"].tobytes(), _ANY_ARENA).allocated()
    return {part: np.array(found[part]) for part in ("head", "tail")}


def _infer(arguments: Arrays) -> Arrays:
    runner = Runner(arguments["model"].tobytes(), int(arguments["arena"]))
    return {"logits": runner.run(arguments["images"])}


def _interface(detail: dict[str, Any]) -> runtime.Interface:
    quantization = detail["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    return runtime.Interface(
        tuple(int(size) for size in detail["shape"]),
        np.dtype(detail["dtype"]),
        float(scales[0]) if len(scales) else 0.0,
        int(zero_points[0]) if len(zero_points) else 0,
    )

"""Counts the instructions of each layer of a network in C, on an emulated Cortex-M.

The emulated board counts in ticks: one is 40 instructions on the board with a Cortex-M4, and 31 on
that with an M55. The counts contain a few instructions of the call.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages.c.package import KERNELS
from efficientnet_elite.export.packages.c.program import compiled

from . import compiled_c, runtime

_SECONDS = 300  # time limit of the emulation


def kernels() -> list[str]:
    """Names of the C functions that compute layers."""
    header = (KERNELS / "nn_kernels.h").read_text(encoding="utf-8")
    return re.findall(r"^void (nn_\w+)\(const nn_\w+_layer \*", header, re.M)


def step_instructions(
    model: bytes, board: compiled_c.CompiledC = compiled_c.CORTEX_M4, seed: int = 0
) -> list[tuple[str, int]]:
    """The kernel of each layer, in the order of execution, and the instructions that it takes.

    Args:
      model: content of an int8 .tflite file.
      board: the emulated board.
      seed: of the image of noise that the network runs on.

    Raises:
      UserError: the network has an operator without a kernel, or does not fit on the board.
    """
    program = compiled(model)
    counted = replace(
        board,
        compiler=(
            *board.compiler,
            f"-DNN_KERNELS={' '.join(f'NN_COUNTED({kernel})' for kernel in kernels())}",
        ),
        main="cortex_m_steps.c",
        libraries=(
            *board.libraries,
            *(f"-Wl,--wrap={kernel}" for kernel in kernels()),
        ),
    )
    (image,), _ = runtime.interfaces(inspect.read(model))
    pixels = np.random.default_rng(seed).integers(-128, 128, image.shape, np.int8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binary = counted.build(program, model, folder)
        (folder / "images.bin").write_bytes(pixels.tobytes())
        ticks = counted.run(binary, _SECONDS)[: len(program.steps)]
    if len(ticks) < len(program.steps):
        raise UserError("the network does not run to its end within the time limit")
    counts = (round(tick * counted.instructions_per_tick) for tick in ticks)
    return list(zip((step.kernel for step in program.steps), counts, strict=True))

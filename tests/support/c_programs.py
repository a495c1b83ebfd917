"""Networks compiled to C as libraries of this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.config import InputSize, SizeLike
from efficientnet_elite.export.packages.c import package
from efficientnet_elite.export.packages.c.program import Program, compiled
from efficientnet_elite.export.runtimes import compiled_c

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
needs_emulator = pytest.mark.skipif(
    compiled_c.CORTEX_M4.missing() is not None, reason=str(compiled_c.CORTEX_M4.missing())
)
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
_GUARD = 64


def write(folder: Path, program: Program, model: bytes) -> list[Path]:
    """Writes a network named x, and returns its C files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in package.package_files(program, model, "x").items():
        (folder / name).write_text(text)
    return sorted(folder.glob("*.c"))


def noise(resolution: SizeLike, count: int = 2) -> np.ndarray:
    """Images as a network takes them."""
    size = InputSize.of(resolution)
    rng = np.random.default_rng(size.height)
    return rng.uniform(-1, 0.99, (count, *size, 3)).astype(np.float32)


class Library:
    """A network as a library; all files have another path, because libraries are loaded once."""

    def __init__(self, model: bytes, folder: Path):
        self.program = compiled(model)
        self.folder = folder / f"{zlib.crc32(model):08x}"
        path = self.folder / "x.so"
        sources = write(self.folder, self.program, model)
        # Undefined behaviour, such as an overflow, ends the process.
        options = ("-std=c99", *STRICT, "-O1", "-fPIC", "-shared",
                   "-fsanitize=signed-integer-overflow,bounds",
                   "-fsanitize-undefined-trap-on-error")  # fmt: skip
        subprocess.run(["gcc", *options, "-o", path, *sources, "-lm"], check=True)
        self._run = ctypes.CDLL(str(path)).net_x_run

    def run(self, image: np.ndarray, *, inside: bool = False) -> np.ndarray:
        """The output for an int8 image, which lies inside or outside of the arena."""
        graph = self.program.graph
        output = np.zeros(graph.tensors[graph.output].size, np.int8)
        arena = np.full(self.program.arena_bytes + _GUARD, 0x5A, np.uint8)
        given = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
        place = given.ctypes.data
        if inside:
            start = self.program.offsets[graph.input]
            arena[start : start + given.size] = given
            place = arena.ctypes.data + start
        before = given.copy()
        self._run(*(ctypes.c_void_p(p) for p in (place, output.ctypes.data, arena.ctypes.data)))
        assert (given == before).all()
        assert (arena[self.program.arena_bytes :] == 0x5A).all()
        return output

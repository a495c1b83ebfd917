"""Networks compiled to C (``--target=c``), on this machine and on an emulated Cortex-M.

Each network becomes a program that reads images and writes outputs, a process of its own. The
emulator is QEMU, which counts instructions: with ``-icount shift=0`` one instruction takes one
nanosecond of the board's time, which the processor's SysTick measures in cycles of the board.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages.c import package
from efficientnet_elite.export.packages.c.program import Program, compiled
from efficientnet_elite.export.packages.names import identifier

from . import runtime
from .isolated import Arrays

_PROGRAMS = Path(__file__).with_name("c_programs")
_NAME = "network"
_BUILD_SECONDS = 300
# Share of a runtime's time limit in which images may run; the rest is for compiling.
_RUNNING_SHARE = 0.8
# The sections of board.ld that lie in flash memory.
_SECTIONS = {"code": (".text", ".ARM.exidx"), "constants": (".rodata", ".data")}
INSTALL_EMULATOR = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


@dataclass(frozen=True)
class CompiledC:
    """A compiler of the C code, and how to run what it makes.

    Attributes:
      name, description, reference, steps, tolerance, takes: see `verify.Runtime`.
      compiler: the compiler and its arguments.
      main: the main program, a file in ``c_programs/``.
      libraries: arguments for the linker.
      command: what runs the compiled file, which follows it.
      install: the command that installs compiler and emulator.
      instructions_per_tick: nanoseconds of a cycle of the emulated board; 0 if none is emulated.
    """

    name: str
    description: str
    compiler: tuple[str, ...]
    main: str
    libraries: tuple[str, ...]
    command: tuple[str, ...]
    install: str
    instructions_per_tick: float = 0.0
    reference: str = "LiteRT reference kernels"
    steps: int = 2  # as TFLM, to which the C code is equal
    tolerance: float = 0.0
    takes: tuple[str, ...] = ("INT8",)

    @property
    def emulated(self) -> bool:
        """Whether the program runs on an emulated device."""
        return bool(self.command)

    def missing(self) -> str | None:
        """See `verify.Runtime.missing`."""
        programs = (self.compiler[0], *self.command[:1])
        absent = [program for program in programs if shutil.which(program) is None]
        return f"{' and '.join(absent)} not installed: {self.install}" if absent else None

    def version(self) -> str:
        """Version of the compiler."""
        answer = subprocess.run(
            [self.compiler[0], "-dumpversion"], capture_output=True, text=True, check=True
        )
        return f"{self.compiler[0]} {answer.stdout.strip()}"

    def unfit(self, contents: inspect.Contents) -> str | None:
        """See `verify.Runtime`; whether all operators have kernels is found out in `run_images`."""
        try:
            inspect.check_full_int8(contents)
        except UserError as error:
            return str(error)
        return None

    def run_images(self, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """See `verify.Runtime.run_images`; an emulated run has counts in place of times.

        Returns:
          ``logits`` and ``memory`` (the arena); ``seconds`` of each inference or, of an emulated
          run, ``instructions``; ``code`` and ``constants``, the bytes of flash memory that the
          whole program takes; and ``stack`` and ``arena_peak``, the most bytes that were written
          of stack and arena.
        """
        program = compiled(model)
        contents = inspect.read(model)
        (image,), (logits,) = runtime.interfaces(contents)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            binary = self.build(program, model, folder)
            inputs = runtime.quantize_images(images, image)
            (folder / "images.bin").write_bytes(inputs.tobytes())
            printed = self.run(binary, _RUNNING_SHARE * timeout)
            outputs = np.fromfile(folder / "outputs.bin", np.int8)
            size = int(np.prod(logits.shape))
            count = len(outputs) // size
            if count == 0:
                raise UserError("it ran no image within the time limit")
            outputs = outputs[: count * size].reshape(count, *logits.shape[1:])
            numbers = np.array(printed[:count])
            answer = {
                "logits": runtime.dequantize_outputs(outputs, logits),
                "memory": np.array(program.arena_bytes),
            }
            if not self.emulated:
                return {**answer, "seconds": numbers}
            answer["instructions"] = numbers * self.instructions_per_tick
            answer |= {part: np.array(size) for part, size in self._flash(binary).items()}
            # They come after the last image, which may not have been reached in time.
            peaks = zip(("stack", "arena_peak"), printed[count:], strict=False)
            return answer | {part: np.array(size) for part, size in peaks}

    def build(self, program: Program, model: bytes, folder: Path) -> Path:
        """Writes and compiles a network's program in a folder, and returns its path.

        Raises:
          UserError: the compiler reports an error, such as too little memory on the board.
        """
        net = identifier(_NAME)
        texts = package.package_files(program, model, _NAME)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        macros = {
            "NET_HEADER": f'"{net}.h"',
            "NET_RUN": f"{net}_run",
            "NET_INPUT": f"{net}_input",
            **{
                f"NET_{size}_BYTES": f"{net.upper()}_{size}_BYTES"
                for size in ("ARENA", "INPUT", "OUTPUT")
            },
        }
        binary = folder / "program"
        command = [
            *self.compiler,
            "-I.",
            *(f"-D{key}={value}" for key, value in macros.items()),
            str(_PROGRAMS / self.main),
            *sorted(file for file in texts if file.endswith(".c")),
            *self.libraries,
            "-o",
            str(binary),
        ]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
            if re.search("will not fit|overflowed", done.stderr):
                reason = "the network does not fit into the memory of the emulated board"
            raise UserError(f"{self.compiler[0]} fails: {reason or done.stderr[-200:]}")
        return binary

    def run(self, binary: Path, seconds: float) -> list[float]:
        """Runs the program, and returns the numbers that it printed until time was up."""
        command = [*self.command, str(binary)]
        try:
            done = subprocess.run(
                command,
                cwd=binary.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
            printed = done.stdout
            if done.returncode:
                raise UserError(f"the program ends with the status {done.returncode}")
        except subprocess.TimeoutExpired as error:
            printed = error.stdout or b""
        return [float(number) for number in re.findall(rb"^[\d.]+(?=\r?\n)", printed, re.M)]

    def _flash(self, binary: Path) -> dict[str, int]:
        """Bytes of flash memory for code, and for constants and initial values of data."""
        size = self.compiler[0].removesuffix("gcc") + "size"
        answer = subprocess.run([size, "-A", binary], capture_output=True, text=True, check=True)
        found = dict(re.findall(r"^(\.\S+) +(\d+)", answer.stdout, re.M))
        return {
            part: sum(int(found.get(section, 0)) for section in sections)
            for part, sections in _SECTIONS.items()
        }


_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
HOST = CompiledC(
    "c (host)",
    "the network compiled to C, on this machine",
    compiler=("gcc", "-std=c99", *_WARNINGS, "-O2"),
    main="host.c",
    libraries=("-lm",),
    command=(),
    install="apt-get install gcc",
)


@dataclass(frozen=True)
class _Board:
    """An emulated board of Arm.

    Attributes:
      name: of the machine in QEMU.
      megahertz: of its clock, as QEMU has it.
      kib: of memory for code, and as many for data.
      constants: address of the memory for constants.
      constant_kib: of this memory.
    """

    name: str
    megahertz: int
    kib: int
    constants: int
    constant_kib: int


def _emulated(processor: str, floats: str, board: _Board) -> CompiledC:
    """A Cortex-M on a board, and how floating-point numbers are passed."""
    core = processor.replace("cortex-m", "Cortex-M")
    symbols = {
        "board_bytes": board.kib * 1024,
        "board_constants": board.constants,
        "board_constant_bytes": board.constant_kib * 1024,
    }
    return CompiledC(
        f"c ({core}, emulated)",
        "the network compiled to C, in QEMU, which counts instructions",
        compiler=(
            "arm-none-eabi-gcc", "-std=c99", *_WARNINGS, "-O2", f"-mcpu={processor}", "-mthumb",
            f"-mfloat-abi={floats}", "-ffunction-sections", "-nostartfiles",
        ),
        main="cortex_m.c",
        libraries=(
            *(f"-Wl,--defsym={name}={value}" for name, value in symbols.items()),
            "-T", str(_PROGRAMS / "board.ld"),
            "-Wl,--gc-sections", "--specs=nosys.specs", "-lm",
        ),
        command=(
            "qemu-system-arm", "-M", board.name, "-display", "none", "-monitor", "none",
            "-serial", "none", "-semihosting-config", "enable=on,target=native",
            "-icount", "shift=0", "-kernel",
        ),
        install=INSTALL_EMULATOR,
        instructions_per_tick=1000 / board.megahertz,
    )  # fmt: skip


CORTEX_M4 = _emulated("cortex-m4", "soft", _Board("mps2-an386", 25, 1024, 1 << 20, 3072))
# With Helium, which GCC 12 offers together with registers for floating-point numbers only.
CORTEX_M55 = _emulated("cortex-m55", "hard", _Board("mps3-an547", 32, 512, 1 << 24, 2048))
# By the names of `device.instructions.CORES`.
EMULATED = {"m4": CORTEX_M4, "m55": CORTEX_M55}

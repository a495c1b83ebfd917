"""Arm processors in QEMU's user mode, which runs LiteRT for aarch64 and counts its instructions.

A plugin, compiled when it is needed, counts all instructions of a process. Those of one inference
follow from two runs of a model with different numbers of inferences. Counts repeat, whatever else
the machine does; they are no latency, as they say nothing about caches and pipelines.

LiteRT chooses its kernels by ``/proc/cpuinfo``, and QEMU looks for files below its root first. So
those that describe the processor are written there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.benchmarks import alone, host
from efficientnet_elite.benchmarks.latency import Options, Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.job.boards import program
from efficientnet_elite.job.boards.definitions import Board, Result
from efficientnet_elite.text import signal_name

EMULATOR = "qemu-aarch64"
_INSTALL = "apt-get install qemu-user gcc"
_PLUGIN = Path(__file__).with_name("instructions.c")
_LIBRARY, _PROGRAM, _MODEL = "instructions.so", "alone.py", "model.tflite"
_FIRST_OF_NEW_PLUGINS = 9  # QEMU from this version on has version 2 of the interface
_FEW, _MANY = 2, 10  # inferences of the two runs

_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = f"{_V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
# Part number and features, as Linux names them.
_PROCESSORS = {
    "cortex-a53": (0xD03, _V8),
    "cortex-a72": (0xD08, _V8),
    "cortex-a76": (0xD0B, _V82),
    "neoverse-n1": (0xD0C, _V82),
}


@dataclass(frozen=True)
class _Emulation:
    """How to run Python for aarch64.

    Attributes:
      command: the emulator and its arguments, up to Python.
      environment: variables of the process.
      runtime: name and version of LiteRT for aarch64.
    """

    command: list[str]
    environment: dict[str, str]
    runtime: str


def check(board: Board) -> str:
    """See `Kind.check`."""
    emulation = _emulation(board)
    done = _run([*emulation.command, "-c", "import platform; print(platform.machine())"], emulation)
    if done.returncode or done.stdout.strip() != "aarch64":
        raise UserError(f"Python for aarch64 does not start: {program.last_line(done.stderr)}")
    return f"{board.settings['cpu']} in {_version()}, {emulation.runtime}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`."""
    emulation = _emulation(board)
    _compile(scratch)
    shutil.copy(alone.__file__, scratch / _PROGRAM)
    _describe(board.path("root"), board.settings["cpu"])
    rows = []
    for model in models:
        try:
            shutil.copy(model, scratch / _MODEL)
            row = _row(emulation, scratch, model, options)
        except (UserError, OSError) as error:
            row = Row(model=str(model), error=str(error))
        rows.append(asdict(row))
    about = host.Host(
        cpu=f"{board.settings['cpu']}, emulated by {_version()}",
        cores=1,
        system="Linux aarch64, emulated",
        python="",
        runtime=emulation.runtime,
        peak_rss_mb=None,
        clusters=host.clusters(board.path("root")),
    )
    done = {"runs": _MANY - _FEW, "threads": 1, "seed": options.seed}
    return {"host": asdict(about), "conditions": {}, "options": done, "rows": rows}


def _row(emulation: _Emulation, folder: Path, model: Path, options: Options) -> Row:
    few, many = (_counted(emulation, folder, options.seed, n) for n in (_FEW, _MANY))
    tensors = inspect.read(inspect.load(model)).inputs
    shapes = [f"{'x'.join(map(str, tensor.shape))} {tensor.type.lower()}" for tensor in tensors]
    return Row(
        model=str(model),
        file_bytes=model.stat().st_size,
        input=", ".join(shapes),
        threads=1,
        runs=_MANY - _FEW,
        instructions=(many - few) / (_MANY - _FEW),
    )


def _counted(emulation: _Emulation, folder: Path, seed: int, inferences: int) -> int:
    """Instructions of a whole process that loads the model of a folder and runs it some times.

    All its arguments are of the same length, as the place of the memory depends on that.
    """
    emulator, *arguments = emulation.command
    script = [_PROGRAM, _MODEL, "1", str(seed), f"{inferences:02}"]
    command = [emulator, "-plugin", str(folder / _LIBRARY), *arguments, *script]
    done = _run(command, emulation, folder)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        if done.returncode < 0:
            raise UserError(f"the emulator was ended by {signal_name(-done.returncode)}")
        raise UserError(f"Python for aarch64 failed: {program.last_line(done.stderr)}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise UserError(answer["error"])
    counts = re.findall(r"^instructions=(\d+)$", done.stderr, re.M)
    if not counts:
        raise UserError(
            f"the plugin of {EMULATOR} counted nothing: {program.last_line(done.stderr)}"
        )
    return int(counts[-1])


def _emulation(board: Board) -> _Emulation:
    if shutil.which(EMULATOR) is None:
        raise UserError(f"{EMULATOR} is not installed: {_INSTALL}")
    root = board.path("root")
    python = root / board.settings.get("python", "usr/bin/python3")
    if not python.exists():
        raise UserError(f"{root} holds no {python.relative_to(root)} (docs/boards.md makes it)")
    packages = board.path("packages") if "packages" in board.settings else root / "packages"
    found = sorted(packages.glob("ai_edge_litert-*.dist-info"))
    if not found:
        raise UserError(f"{packages} holds no ai-edge-litert (docs/boards.md installs it)")
    version = found[-1].name.split("-")[1].removesuffix(".dist")
    environment = {
        "PYTHONPATH": str(packages.resolve()),
        "PYTHONHASHSEED": "0",  # as whatever else changes the count
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [EMULATOR, "-cpu", board.settings["cpu"], "-L", str(root.resolve()), str(python)]
    return _Emulation(command, environment, f"ai-edge-litert {version}")


def _run(
    command: list[str], emulation: _Emulation, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    emulator = shutil.which(command[0]) or command[0]
    return program.call([emulator, *command[1:]], environment=emulation.environment, folder=folder)


def _version() -> str:
    """Such as ``QEMU 7.2.22``."""
    done = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True)
    found = re.search(r"version (\d[\d.]*)", done.stdout)
    return f"QEMU {found[1]}" if found else "QEMU"


def _compile(folder: Path) -> None:
    """Compiles the plugin for this machine."""
    major = re.search(r"\d+", _version())
    version = 2 if major and int(major[0]) >= _FIRST_OF_NEW_PLUGINS else 1
    command = ["gcc", "-shared", "-fPIC", "-O2", f"-DPLUGIN_VERSION={version}"]
    try:
        done = subprocess.run(
            [*command, "-o", str(folder / _LIBRARY), str(_PLUGIN)], capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise UserError(f"gcc is not installed: {_INSTALL}") from error
    if done.returncode:
        raise UserError(f"the plugin cannot be compiled: {program.last_line(done.stderr)}")


def _describe(root: Path, cpu: str) -> None:
    """Writes what Linux would tell of the processor into the emulated system."""
    part, features = _PROCESSORS[cpu]
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(
        f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part:#x}\nCPU revision\t: 0\n\n",
        encoding="utf-8",
    )
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (folder / name).write_text("0\n", encoding="utf-8")

"""Compiles int8 files for Arm Ethos-U accelerators with Arm's compiler Vela.

Vela also estimates the cycles and the memory that an inference takes. It is installed with
``pip install efficientnet-elite[ethos-u]``.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect

from . import labels as labels_file
from .targets import ACCELERATOR

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *("ethos-u65-256", "ethos-u65-512"),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
INSTALL = "pip install ethos-u-vela"
# Vela replaces the operators that run on the accelerator by a custom operator of this name.
NPU_OPERATOR = "ethos-u"

_TIMEOUT_SECONDS = 600.0
_PROGRAM = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Report:
    """Vela's estimates for one inference, with Vela's default memory configuration.

    Attributes:
      accelerator: the accelerator's configuration, one of `ACCELERATORS`.
      vela: version of Vela.
      cycles: clock cycles.
      sram_bytes: peak use of on-chip memory (SRAM).
      flash_bytes: off-chip memory for weights and commands.
      macs: multiply-accumulate operations.
      utilisation: fraction (0..1) of the accelerator's MAC capacity that is used,
        macs / (cycles * MAC units).
      milliseconds: latency at the clock frequency of Vela's configuration.
      cpu_operators: operators that stay on the processor, name to number of occurrences.
    """

    accelerator: str
    vela: str
    cycles: float
    sram_bytes: float
    flash_bytes: float
    macs: float
    utilisation: float
    milliseconds: float
    cpu_operators: dict[str, int]


def available() -> bool:
    """Returns whether Vela is installed."""
    return find_spec("ethosu") is not None


def check_available() -> None:
    """Raises UserError if Vela is not installed."""
    if not available():
        raise UserError(f"Ethos-U cycles are estimated by Vela, which is not installed: {INSTALL}")


def estimate_cycles(model: bytes) -> float:
    """Returns Vela's estimate of the cycles of one inference on an Ethos-U55-128.

    Args:
      model: content of an int8 .tflite file.

    Raises:
      UserError: Vela is not installed or cannot compile the model.
    """
    return compile_model(model)[1].cycles


def compile_model(model: bytes, accelerator: str = ACCELERATOR) -> tuple[bytes, Report]:
    """Compiles a model for an accelerator.

    Args:
      model: content of an int8 .tflite file.
      accelerator: one of `ACCELERATORS`.

    Returns:
      The content of the .tflite file that runs on the accelerator, and Vela's estimates.

    Raises:
      UserError: Vela is not installed or cannot compile the model, or there is no such accelerator.
    """
    check_available()
    if accelerator not in ACCELERATORS:
        known = ", ".join(ACCELERATORS)
        raise UserError(f"there is no accelerator {accelerator!r}: choose from {known}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.tflite")
        source.write_bytes(model)
        options = [f"--accelerator-config={accelerator}", f"--output-dir={folder}", str(source)]
        command = [sys.executable, "-P", "-c", _PROGRAM, *options]
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"Vela took longer than {_TIMEOUT_SECONDS:g} s and was stopped"
            ) from None
        result, summaries = source.with_stem("model_vela"), list(Path(folder).glob("*_summary_*"))
        if process.returncode or not summaries or not result.is_file():
            output = (process.stderr.strip() or process.stdout.strip()).splitlines()
            raise UserError(
                f"Vela cannot compile the model: {output[-1] if output else 'no reason given'}"
            )
        with summaries[0].open(encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        content = result.read_bytes()
    return content, _report(accelerator, row, content)


def write_ethos_u_package(
    model: bytes, *, name: str, labels: list[str], out_dir: Path, accelerator: str = ACCELERATOR
) -> Report:
    """Writes an Ethos-U package: ``NAME.vela.tflite``, ``vela.json`` and ``labels.txt``.

    Args:
      model: content of an int8 .tflite file whose input (1, height, width, 3) is pixel - 128.
      name: name of the network.
      labels: names of the classes, in the order of the outputs.
      out_dir: folder of the package. Existing files of the same names are replaced.
      accelerator: one of `ACCELERATORS`.

    Returns:
      Vela's estimates, which ``vela.json`` holds as well.

    Raises:
      UserError: Vela is not installed or cannot compile the model, or the model is not int8
        throughout.
    """
    contents = inspect.read(model)
    masks = inspect.gives_masks(contents)
    inspect.check_pixel_classifier(contents, len(labels), per_pixel=masks, exact=False)
    content, report = compile_model(model, accelerator)
    files.replace_all(
        {
            out_dir / f"{name}.vela.tflite": content,
            out_dir / labels_file.FILE_NAME: labels_file.file_content(labels),
            out_dir / "vela.json": json.dumps(asdict(report), indent=2).encode() + b"\n",
        }
    )
    return report


def _report(accelerator: str, row: dict[str, str], content: bytes) -> Report:
    """Makes a report of a row of Vela's summary and the content of the compiled file."""
    cycles, macs = float(row["cycles_total"]), float(row["nn_macs"])
    cpu_operators = inspect.operators(content)
    cpu_operators.pop(NPU_OPERATOR, None)
    multipliers = int(accelerator.rpartition("-")[2])
    return Report(
        accelerator=accelerator,
        vela=version("ethos-u-vela"),
        cycles=cycles,
        sram_bytes=float(row["sram_memory_used"]) * 1024,
        flash_bytes=float(row["off_chip_flash_memory_used"]) * 1024,
        macs=macs,
        utilisation=macs / (cycles * multipliers),
        milliseconds=float(row["inference_time"]) * 1000,
        cpu_operators=cpu_operators,
    )

"""Arm Ethos-U: Vela compiles an int8 file for the accelerator and estimates what it will take.

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

from .targets import ACCELERATOR

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *("ethos-u65-256", "ethos-u65-512"),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
INSTALL = "pip install ethos-u-vela"
# What is left of the graph where all of it runs on the accelerator.
NPU_OPERATOR = "ethos-u"

_TIMEOUT_SECONDS = 600.0
_PROGRAM = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Report:
    """Vela's estimates, with its default memories.

    Attributes:
      accelerator: its configuration.
      vela: the compiler's version.
      cycles: of one inference.
      sram_bytes: greatest use of on-chip memory.
      flash_bytes: of weights and commands off the chip.
      macs: multiply-accumulates of one inference.
      utilisation: share of the accelerator's multipliers' cycles that are used.
      milliseconds: of one inference at the configuration's clock.
      cpu_operators: operators that the accelerator leaves to the processor, by how often.
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
    """Whether Vela is installed."""
    return find_spec("ethosu") is not None


def check() -> None:
    """UserError where Vela is not installed."""
    if not available():
        raise UserError(f"Ethos-U cycles are estimated by Vela: {INSTALL}")


def cycles(model: bytes) -> float:
    """Cycles of one inference of an int8 file (its content) on an Ethos-U55-128.

    UserError where Vela is missing or cannot compile the model.
    """
    return compiled(model)[1].cycles


def compiled(model: bytes, accelerator: str = ACCELERATOR) -> tuple[bytes, Report]:
    """The file that runs on the accelerator, and what it will take.

    Args:
      model: content of an int8 .tflite file.
      accelerator: one of `ACCELERATORS`.

    Raises:
      UserError: Vela is missing or cannot compile the model.
    """
    check()
    if accelerator not in ACCELERATORS:
        known = ", ".join(ACCELERATORS)
        raise UserError(f"there is no accelerator {accelerator!r}: choose from {known}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.tflite")
        source.write_bytes(model)
        options = [f"--accelerator-config={accelerator}", f"--output-dir={folder}", str(source)]
        command = [sys.executable, "-P", "-c", _PROGRAM, *options]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"Vela took longer than {_TIMEOUT_SECONDS:g} s") from None
        result, summaries = source.with_stem("model_vela"), list(Path(folder).glob("*_summary_*"))
        if done.returncode or not summaries or not result.is_file():
            output = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise UserError(f"Vela cannot compile the model: {output[-1] if output else 'silent'}")
        with summaries[0].open() as file:
            (row,) = csv.DictReader(file)
        content = result.read_bytes()
    return content, _report(accelerator, row, content)


def write(
    model: bytes, *, name: str, labels: list[str], out_dir: Path, accelerator: str = ACCELERATOR
) -> Report:
    """Writes ``NAME.vela.tflite``, ``vela.json`` (a `Report`) and ``labels.txt`` to a folder.

    Args:
      model: content of an int8 file whose input is pixel - 128.
      name: of the network.
      labels: names of the classes, in the order of the outputs.
      out_dir: the folder.
      accelerator: one of `ACCELERATORS`.

    Raises:
      UserError: Vela is missing or cannot compile the model, which may not be int8 throughout.
    """
    contents = inspect.read(model)
    masks = inspect.gives_masks(contents)
    inspect.check_pixel_classifier(contents, len(labels), per_pixel=masks)
    content, report = compiled(model, accelerator)
    files.write(
        {
            out_dir / f"{name}.vela.tflite": content,
            out_dir / "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
            out_dir / "vela.json": json.dumps(asdict(report), indent=2).encode() + b"\n",
        }
    )
    return report


def _report(accelerator: str, row: dict[str, str], content: bytes) -> Report:
    cycles, macs = float(row["cycles_total"]), float(row["nn_macs"])
    left = {name: n for name, n in inspect.operators(content).items() if name != NPU_OPERATOR}
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
        cpu_operators=left,
    )

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
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect, layers, macs

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
    """Vela's estimates for one inference.

    Attributes:
      accelerator: the accelerator's configuration, one of `ACCELERATORS`.
      vela: version of Vela.
      system, memory_mode: Vela's configuration of clock and memories, and where tensors lie.
      megahertz: clock of the accelerator in that configuration.
      cycles: clock cycles of the accelerator; operators on the processor take none of them.
      sram_bytes: peak use of on-chip memory (SRAM).
      flash_bytes: flash memory for weights and commands. With ``Sram_Only`` they may lie in SRAM
        instead; Vela counts them here in any case.
      dram_bytes: off-chip memory that can be written, where the configuration has it.
      macs: multiply-accumulate operations on the accelerator.
      utilisation: fraction (0..1) of the accelerator's MAC capacity that is used,
        macs / (cycles * MAC units).
      milliseconds: cycles at the clock frequency.
      cpu_operators: operators that stay on the processor, name to number of occurrences.
      cpu_layers: the layers that they come from, in the order of execution.
      operator_share, mac_share: of the model's operators and multiply-accumulates, as the shapes
        give them, the fraction (0..1) that runs on the accelerator.
    """

    accelerator: str
    vela: str
    system: str
    memory_mode: str
    megahertz: float
    cycles: float
    sram_bytes: float
    flash_bytes: float
    dram_bytes: float
    macs: float
    utilisation: float
    milliseconds: float
    cpu_operators: dict[str, int]
    cpu_layers: tuple[str, ...]
    operator_share: float
    mac_share: float


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


def compile_model(
    model: bytes,
    accelerator: str = ACCELERATOR,
    system: str | None = None,
    memory_mode: str | None = None,
) -> tuple[bytes, Report]:
    """Compiles a model for an accelerator.

    Args:
      model: content of an int8 .tflite file.
      accelerator: one of `ACCELERATORS`.
      system: clock and memories, by a name of the configuration file that comes with Vela; None
        for Vela's default.
      memory_mode: where tensors lie, by a name of that file; None for Vela's default.

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
        options = [f"--accelerator-config={accelerator}", f"--output-dir={folder}"]
        options += [f"--system-config={system}"] if system else []
        options += [f"--memory-mode={memory_mode}"] if memory_mode else []
        command = [sys.executable, "-P", "-c", _PROGRAM, *options, str(source)]
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
    return content, _report(accelerator, row, model, content)


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


def _report(accelerator: str, row: dict[str, str], model: bytes, content: bytes) -> Report:
    """Makes a report of a row of Vela's summary, the model, and the compiled file."""
    cycles, on_npu = float(row["cycles_total"]), float(row["nn_macs"])
    original, compiled = inspect.read(model), inspect.read(content)
    left = [step for step in compiled.steps if step.operator != NPU_OPERATOR]
    all_macs, left_macs = (
        sum(macs.of_step(contents, step) for step in steps)
        for contents, steps in ((original, original.steps), (compiled, left))
    )
    multipliers = int(accelerator.rpartition("-")[2])
    names = [layers.layer_of(compiled.tensors[step.outputs[0]].name) for step in left]
    return Report(
        accelerator=accelerator,
        vela=version("ethos-u-vela"),
        system=row["system_config"],
        memory_mode=row["memory_mode"],
        megahertz=float(row["core_clock"]) / 1e6,
        cycles=cycles,
        sram_bytes=float(row["sram_memory_used"]) * 1024,
        flash_bytes=1024
        * (float(row["on_chip_flash_memory_used"]) + float(row["off_chip_flash_memory_used"])),
        dram_bytes=float(row["dram_memory_used"]) * 1024,
        macs=on_npu,
        utilisation=on_npu / (cycles * multipliers) if cycles else 0.0,
        milliseconds=float(row["inference_time"]) * 1000,
        cpu_operators=dict(sorted(Counter(step.operator for step in left).items())),
        cpu_layers=tuple(dict.fromkeys(names)),
        operator_share=max(0.0, 1 - len(left) / max(1, len(original.steps))),
        mac_share=1 - left_macs / all_macs if all_macs else float(not left),
    )

"""Arm's Ethos-U accelerators as boards, whose cycles and memory Vela estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from efficientnet_elite.benchmarks.host import Host
from efficientnet_elite.benchmarks.latency import Options, Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import ethos_u
from efficientnet_elite.job.boards.definitions import Board, Kind, Result

# Systems and memory modes of the configuration file that comes with Vela: those with flash keep
# weights there, and those with DRAM also what does not fit into SRAM.
_CONFIGURATIONS = {
    "ethos-u55": (
        ("Ethos_U55_High_End_Embedded", "Sram_Only"),
        ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    ),
    "ethos-u65": (
        ("Ethos_U65_Embedded", "Sram_Only"),
        ("Ethos_U65_Embedded", "Shared_Sram"),
        ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    ),
    "ethos-u85": (
        ("Ethos_U85_SYS_Flash_High", "Sram_Only"),
        ("Ethos_U85_SYS_Flash_High", "Shared_Sram"),
        ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    ),
}


@dataclass(frozen=True)
class Estimate:
    """What Vela estimates for an inference; fields of a row, beside those of `Row`.

    Attributes:
      npu_cycles, npu_mhz, npu_ms: clock cycles of the accelerator, its clock, and both as
        milliseconds. Operators on the processor are not in them.
      npu_operators, npu_macs: fractions (0..1) of the operators and of the multiply-accumulates
        that run on the accelerator.
      sram_bytes, flash_bytes, dram_bytes: memory; see `export.packages.ethos_u.Report`.
      cpu_layers: the layers that are left to the processor, separated by ``; ``.
    """

    npu_cycles: float | None = None
    npu_mhz: float | None = None
    npu_ms: float | None = None
    npu_operators: float | None = None
    npu_macs: float | None = None
    sram_bytes: float | None = None
    flash_bytes: float | None = None
    dram_bytes: float | None = None
    cpu_layers: str | None = None


def configurations(kind: Kind) -> list[Board]:
    """A board for each of Vela's accelerators and each memory mode, such as u55-128-sram_only."""
    boards = []
    for accelerator in ethos_u.ACCELERATORS:
        name = accelerator.removeprefix("ethos-")
        for system, mode in _CONFIGURATIONS[accelerator.rpartition("-")[0]]:
            settings = {"accelerator": accelerator, "system": system, "memory_mode": mode}
            boards.append(Board(f"{name}-{mode.lower()}", kind, settings, Path()))
    return boards


def check(board: Board) -> str:
    """See `Kind.check`."""
    ethos_u.check_available()
    settings = board.settings
    system = settings.get("system", "Vela's default system")
    mode = settings.get("memory_mode", "Vela's default memory mode")
    return f"{settings['accelerator']}, {system}, {mode}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`.

    A row has a latency, ``median_ms``, only where the accelerator runs the whole model: how long a
    processor takes for the rest, Vela does not know.
    """
    ethos_u.check_available()
    rows: list[dict[str, Any]] = []
    reports = []
    for model in models:
        try:
            row, report = _estimated(board, model)
            reports.append(report)
            rows.append(asdict(row) | asdict(_estimate(report)))
        except (UserError, OSError) as error:
            rows.append(asdict(Row(model=str(model), error=str(error))) | asdict(Estimate()))
    first = next((row["median_ms"] for row in rows if row["median_ms"]), None)
    for place, row in enumerate(rows):
        if row["median_ms"] and first:
            rows[place] = row | {"ratio": row["median_ms"] / first}
    about = Host(
        cpu=_name(reports[0]) if reports else board.settings["accelerator"],
        cores=1,
        system="estimated, not run",
        python="",
        runtime=f"Vela {reports[0].vela}" if reports else "Vela",
        peak_rss_mb=None,
    )
    done = {"runs": 0, "threads": 1, "seed": options.seed}
    return {"host": asdict(about), "conditions": {}, "options": done, "rows": rows}


def _estimated(board: Board, model: Path) -> tuple[Row, ethos_u.Report]:
    content = inspect.load(model)
    contents = inspect.read(content)
    _, report = ethos_u.compile_model(
        content,
        board.settings["accelerator"],
        board.settings.get("system"),
        board.settings.get("memory_mode"),
    )
    shapes = [f"{'x'.join(map(str, each.shape))} {each.type.lower()}" for each in contents.inputs]
    row = Row(model=str(model), file_bytes=len(content), input=", ".join(shapes), threads=1)
    whole = not report.cpu_operators
    return replace(row, median_ms=report.milliseconds if whole else None), report


def _estimate(report: ethos_u.Report) -> Estimate:
    return Estimate(
        npu_cycles=report.cycles,
        npu_mhz=report.megahertz,
        npu_ms=report.milliseconds,
        npu_operators=report.operator_share,
        npu_macs=report.mac_share,
        sram_bytes=report.sram_bytes,
        flash_bytes=report.flash_bytes,
        dram_bytes=report.dram_bytes,
        cpu_layers="; ".join(report.cpu_layers),
    )


def _name(report: ethos_u.Report) -> str:
    return f"{report.accelerator}, {report.system}, {report.memory_mode}"

"""The results of boards as rows, JSON, CSV and a table of the networks by board."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from efficientnet_elite.benchmarks.host import Conditions, Host
from efficientnet_elite.benchmarks.latency import Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside
from efficientnet_elite.job.boards.definitions import Result
from efficientnet_elite.job.boards.ethos_u import Estimate
from efficientnet_elite.text import percent

COLUMNS = (
    *("board", "kind", "measured_at"),
    *(field.name for field in fields(Row)),
    *(field.name for field in fields(Estimate)),
    "accuracy",
    *(field.name for field in fields(Host)),
    *(field.name for field in fields(Conditions)),
)
"""Of the CSV: `Row`, `Estimate`, `Host` and `Conditions` explain theirs."""


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each board and model, with all of `COLUMNS`; one for a board that failed."""
    table = []
    for result in results:
        about = {name: result[name] for name in ("board", "kind", "measured_at")}
        about |= result["host"] | result["conditions"]
        for row in result["rows"] or [{"error": result["error"]}]:
            whole = about | row
            if whole.get("sustained_ms"):
                whole["sustained_ms"] = " ".join(f"{ms:.4g}" for ms in whole["sustained_ms"])
            if "model" in row:
                whole["accuracy"] = accuracy(Path(row["model"]))
            table.append({column: whole.get(column) for column in COLUMNS})
    return table


def as_json(content: Any) -> str:
    """A result, or several, as indented JSON."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(results))
    return text.getvalue()


def whole(results: Sequence[Result]) -> str:
    """All results as JSON: ``{"boards": [...]}``, rows with the ``accuracy`` that is known."""
    known = [
        result
        | {"rows": [row | {"accuracy": accuracy(Path(row["model"]))} for row in result["rows"]]}
        for result in results
    ]
    return as_json({"boards": known})


def accuracy(model: Path) -> float | None:
    """Test accuracy, 0..1, of an exported file; None where the sidecar is not about this file."""
    try:
        sidecar = beside.sidecar_of(model)
        verification, files = sidecar["verification"], sidecar["files"]
        found = hashlib.sha256(model.read_bytes()).hexdigest()
        kinds = [kind for kind, file in files.items() if file["sha256"] == found]
        key = {"int8": "int8_accuracy", "float32": "float_accuracy"}.get((kinds or [""])[0])
        return None if key is None else float(verification[key])
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None


def by_board(results: Sequence[Result]) -> list[list[str]]:
    """Cells of a table with a line for each model and a column for each board, after heads.

    A board's column is in milliseconds, or in millions of instructions; a model that a board could
    not run has a dash. Accelerators have a table of their own (`by_accelerator`).
    """
    sound = [r for r in results if r["error"] is None and not is_estimated(r)]
    heads = ["model", *(f"{result['board']} {unit(result)}" for result in sound)]
    models = [row["model"] for row in sound[0]["rows"]] if sound else []
    lines = [
        [model, *(_figure(result["rows"][index]) for result in sound)]
        for index, model in enumerate(models)
    ]
    return [heads, *lines]


def is_estimated(result: Result) -> bool:
    """Whether a board is an accelerator, of which there are estimates."""
    return any("npu_cycles" in row for row in result["rows"])


def by_accelerator(results: Sequence[Result]) -> list[list[str]]:
    """Cells of a table with a line for each model and accelerator, after heads; empty if none."""
    heads = ["model", "board", "M cycles", "MHz", "ms", "SRAM kB", "flash kB", "DRAM kB",
             "operators", "MACs"]  # fmt: skip
    boards = [r for r in results if r["error"] is None and is_estimated(r)]
    count = len(boards[0]["rows"]) if boards else 0
    lines = [
        [row["model"], board["board"], *_estimated(row)]
        for index in range(count)
        for board in boards
        for row in [board["rows"][index]]
    ]
    return [heads, *lines] if lines else []


def _estimated(row: dict[str, Any]) -> list[str]:
    if row["npu_cycles"] is None:
        return ["-"] * 8
    kilobytes = [f"{row[name] / 1e3:.1f}" for name in ("sram_bytes", "flash_bytes", "dram_bytes")]
    return [
        f"{row['npu_cycles'] / 1e6:.3f}",
        f"{row['npu_mhz']:.0f}",
        f"{row['npu_ms']:.3f}",
        *kilobytes,
        *(percent(row[name]) for name in ("npu_operators", "npu_macs")),
    ]


def unit(result: Result) -> str:
    """What a board measures: ``ms``, or ``M instr.`` where it counts instructions."""
    return "M instr." if any(row["instructions"] for row in result["rows"]) else "ms"


def _figure(row: dict[str, Any]) -> str:
    if row["instructions"] is not None:
        return f"{row['instructions'] / 1e6:.2f}"
    return "-" if row["median_ms"] is None else f"{row['median_ms']:.3f}"


def remarks(results: Sequence[Result]) -> list[str]:
    """A line for each board, model and mark that limits what the table says."""
    lines = []
    alike: dict[str, list[str]] = {}  # what accelerators have in common, which are often many
    for result in results:
        if result["error"] is not None:
            lines.append(f"{result['board']}: {result['error']}")
        if marks := result["conditions"].get("marks"):
            lines.append(f"{result['board']}: not to be trusted: {marks}")
        for row in result["rows"]:
            if row["error"] is not None and not is_estimated(result):
                lines.append(f"{result['board']}: {row['model']}: {row['error']}")
            elif row["error"] is not None:
                alike.setdefault(f"{row['model']}: {row['error']}", []).append(result["board"])
            elif row.get("cpu_layers"):
                text = f"{row['model']}: left to the processor: {row['cpu_layers']}"
                alike.setdefault(text, []).append(result["board"])
    return [*lines, *(f"{_counted(boards)}: {text}" for text, boards in alike.items())]


def _counted(boards: Sequence[str]) -> str:
    return ", ".join(boards) if len(boards) < 4 else f"{len(boards)} accelerators"

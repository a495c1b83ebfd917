"""What the page of a web package measured on a device, from the files that it offers there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from efficientnet_elite.benchmarks.latency import Options, Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards.definitions import Board, Result


def check(board: Board) -> str:
    """See `Kind.check`."""
    found = _read(board)
    host = found[0]["host"]
    rows = sum(len(result["rows"]) for result in found)
    return f"{host['cpu']}, {host['runtime']}, {rows} measurements"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`; a file belongs to a model of the same name and size."""
    found = _read(board)
    known = {row["model"]: row for result in found for row in result["rows"]}
    names = {field.name for field in fields(Row)}
    rows = []
    for model in models:
        row = known.get(model.name)
        fault = None
        if row is None:
            fault = "none of the page's files is about it"
        elif row["file_bytes"] != model.stat().st_size:
            fault = "the page measured another file of this name"
        if row is None or fault:
            rows.append(asdict(Row(model=str(model), error=fault)))
        else:
            whole = asdict(Row(model=str(model)))
            rows.append(whole | {k: v for k, v in row.items() if k in names - {"model", "ratio"}})
    _add_ratios(rows)
    return {
        "host": found[0]["host"],
        "conditions": {},
        "options": found[0]["options"],
        "rows": rows,
    }


def _add_ratios(rows: Sequence[Result]) -> None:
    """Each page measured alone: these ratios are between runs, not within rounds."""
    medians = [row["median_ms"] for row in rows if row["median_ms"]]
    for row in rows:
        row["ratio"] = row["median_ms"] / medians[0] if row["median_ms"] else None


def _read(board: Board) -> list[Result]:
    found = []
    for name in board.settings["results"]:
        path = board.folder / Path(name).expanduser()
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            for row in result["rows"]:
                float(row["median_ms"]), int(row["file_bytes"]), str(row["model"])
            str(result["host"]["cpu"]), str(result["host"]["runtime"]), result["options"]
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no measurement of a web package") from error
        found.append(result)
    if not found:
        raise UserError("`results` names no file")
    return found

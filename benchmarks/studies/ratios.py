"""Latencies relative to one file's, timed in turns and kept in a file.

Unlike `latency`, this needs the whole package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.search.workdir import write_bytes


@dataclass(frozen=True)
class Timing:
    """Latency of a file divided by the first one's, or why it has none."""

    ratio: float | None
    error: str | None = None


def kept(record: Path, files: Sequence[Path], runs: int) -> dict[str, Timing]:
    """Timings of int8 files by their names; one thread.

    All are timed in one run, so that what slows the machine down slows all of them down: where the
    record lacks one, all are timed again.

    Args:
      record: where the figures are kept (as `latency.as_json` writes them).
      files: their names differ.
      runs: timed inferences a file; 0 to take from the record what it has.

    Returns:
      Those that were timed; nothing where the record is relative to another file.
    """
    if not files:
        return {}
    names = [file.name for file in files]
    known = _read(record)
    if runs and (next(iter(known), None) != names[0] or not known.keys() >= set(names)):
        options = latency.Options(runs=runs, warmup=3)
        rows = latency.measure(files, options)
        write_bytes(record, latency.as_json(rows, options, latency.host()).encode())
        known = _read(record)
    if next(iter(known), None) != names[0]:
        return {}
    return {name: known[name] for name in names if name in known}


def _read(record: Path) -> dict[str, Timing]:
    if not record.is_file():
        return {}
    rows = json.loads(record.read_text())["rows"]
    return {Path(row["model"]).name: Timing(row["ratio"], row["error"]) for row in rows}

"""Latencies of int8 files relative to one of them, kept in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.host import describe_host
from efficientnet_elite.search.workdir import write_bytes


@dataclass(frozen=True)
class RelativeLatency:
    """Latency of a file divided by that of the first file, or the reason why it has none."""

    ratio: float | None
    error: str | None = None


def relative_latencies(
    record: Path, files: Sequence[Path], runs: int
) -> dict[str, RelativeLatency]:
    """Returns relative latencies of int8 files, measured now or in an earlier run of a study.

    Each is measured with one thread, and all in one run, because only ratios within a run are
    reliable. If the record lacks one of the files, all files are therefore measured again.

    Args:
      record: JSON file that keeps the latencies, in the format of `latency.as_json`.
      files: the .tflite files; their names must differ.
      runs: number of timed inferences of each file; 0 measures nothing and reads the record only.

    Returns:
      File name to latency relative to the first file, for all files that have been measured. It is
      empty if the record is relative to another file.
    """
    if not files:
        return {}
    names = [file.name for file in files]
    recorded = _read_record(record)
    if runs and (next(iter(recorded), None) != names[0] or not recorded.keys() >= set(names)):
        options = latency.Options(runs=runs, warmup=3)
        rows = latency.measure_latencies(files, options)
        write_bytes(record, latency.as_json(rows, options, describe_host()).encode())
        recorded = _read_record(record)
    if next(iter(recorded), None) != names[0]:
        return {}
    return {name: recorded[name] for name in names if name in recorded}


def _read_record(record: Path) -> dict[str, RelativeLatency]:
    if not record.is_file():
        return {}
    rows = json.loads(record.read_text(encoding="utf-8"))["rows"]
    return {Path(row["model"]).name: RelativeLatency(row["ratio"], row["error"]) for row in rows}

"""Measures latency, all models interleaved in one run so that their ratios hold on a noisy
machine. With --workdir: the champions' files, into benchmark.json and benchmark.csv there, where
report.html finds them. Otherwise the arguments are .tflite files. On a board copy the repository's
folder `benchmarks` and run `python -m benchmarks MODEL.tflite ...`: it is the same code.

  elite benchmark --workdir=runs/digits
  elite benchmark a.tflite b.tflite --threads=4 --json=rows.json
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Ledger

FLAGS = latency.new_flags()
absl_flags.DEFINE_string("workdir", None, "Work directory of a search.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints a table to stdout; returns the exit status."""
    values = common.given(flags, "runs", "warmup", "threads", "seed", "json", "csv")
    options = [f"--{name}={value}" for name, value in values.items()]
    if flags.workdir:
        common.no_arguments(arguments)
        return of_champions(common.workdir(flags), options)
    if not arguments:
        raise UserError("name .tflite files, or give --workdir")
    return latency.main(["elite benchmark", *options, *arguments])


def of_champions(workdir: Path, options: list[str] | None = None) -> int:
    """Benchmarks the exported files of a work directory; returns the exit status.

    UserError where nothing has been exported yet.
    """
    files = sorted(map(str, (workdir / "export").glob("*/*.tflite")))
    if not files:
        raise UserError(f"nothing is exported in {workdir}: run `elite export --workdir={workdir}`")
    outputs = [f"--json={workdir / 'benchmark.json'}", f"--csv={workdir / 'benchmark.csv'}"]
    started = time.perf_counter()
    status = latency.main(["elite benchmark", *outputs, *(options or []), *files])
    with Ledger(workdir) as ledger:
        ledger.record_timing("benchmark", "", time.perf_counter() - started)
    return status

"""Measures latency. The models take turns in one run, so that their ratios can be trusted on a busy
machine. With --workdir the exported champions are measured, and the result is written to
benchmark.json and benchmark.csv in that folder, from which report.html takes it. Otherwise the
arguments are .tflite files. `elite boards` measures on boards and phones, with the same code.

  elite benchmark --workdir=runs/digits
  elite benchmark a.tflite b.tflite --threads=4 --json=rows.json
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import latencies

FLAGS = latency.new_flags()
absl_flags.DEFINE_string(
    "workdir", None, "Work directory of the search to measure.", flag_values=FLAGS
)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints a table to stdout; returns the exit status."""
    values = common.given(flags, "runs", "warmup", "threads", "seed", "json", "csv")
    options = [f"--{name}={value}" for name, value in values.items()]
    if flags.workdir:
        common.no_arguments(arguments)
        measurement = latencies.measure_exported(common.workdir(flags), options)
    elif arguments:
        measurement = latencies.measure_files(arguments, options)
    else:
        raise UserError("name .tflite files, or give --workdir")
    for fault in measurement.faults:
        print(f"elite benchmark: {fault}", file=sys.stderr)
    print(measurement.text, end="")
    return measurement.status

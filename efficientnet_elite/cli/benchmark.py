"""Measures latency. All models are measured interleaved in one run, so that their ratios hold on a
noisy machine. With --workdir the champions' files are measured, and the result goes into
benchmark.json and benchmark.csv there, where report.html finds it. Otherwise the arguments are
.tflite files. On a board copy the repository's folder `benchmarks` and run
`python -m benchmarks MODEL.tflite ...`: it is the same code.

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
absl_flags.DEFINE_string("workdir", None, "Work directory of a search.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints a table to stdout; returns the exit status."""
    values = common.given(flags, "runs", "warmup", "threads", "seed", "json", "csv")
    options = [f"--{name}={value}" for name, value in values.items()]
    if flags.workdir:
        common.no_arguments(arguments)
        measurement = latencies.measure_champions(common.workdir(flags), options)
    elif arguments:
        measurement = latencies.measure_files(arguments, options)
    else:
        raise UserError("name .tflite files, or give --workdir")
    for fault in measurement.faults:
        print(f"elite benchmark: {fault}", file=sys.stderr)
    print(measurement.text, end="")
    return measurement.status

"""Measures latency. The models take turns in one run, so that their ratios can be trusted on a busy
machine. With --workdir the exported champions are measured, and the result is written to
benchmark.json and benchmark.csv in that folder, from which report.html takes it. Otherwise the
arguments are .tflite files. `elite boards` measures on boards and phones, with the same code.

--profile shows where the time of an inference goes: each operator of a file is measured alone, in
turns with the whole file, and their sum is compared with the whole (docs/boards.md).

  elite benchmark --workdir=runs/digits
  elite benchmark a.tflite b.tflite --threads=4 --json=rows.json
  elite benchmark a.tflite --profile --csv=operators.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import latencies
from efficientnet_elite.text import percent, quantity

if TYPE_CHECKING:
    from efficientnet_elite.job.profiling import Profile

FLAGS = latency.new_flags()
absl_flags.DEFINE_string(
    "workdir", None, "Work directory of the search to measure.", flag_values=FLAGS
)
absl_flags.DEFINE_boolean(
    "profile",
    False,
    "Measure each operator of a file alone, and show the time by kind of operator. --json and "
    "--csv then have a row for each operator.",
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints a table to stdout; returns the exit status."""
    if flags.profile:
        return _profile(flags, arguments)
    values = common.given(flags, "runs", "warmup", "threads", "seed", "sustained", "json", "csv")
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


def _profile(flags: Any, arguments: list[str]) -> int:
    from efficientnet_elite.job import profiling

    if flags.sustained:
        raise UserError("--sustained measures whole files: leave it or --profile out")
    if flags.workdir:
        common.no_arguments(arguments)
        files = latencies.exported_files(common.workdir(flags))
    elif arguments:
        files = arguments
    else:
        raise UserError("name .tflite files, or give --workdir")
    if flags.json and flags.json == flags.csv:
        raise UserError("--json and --csv must name different files")
    options = latency.Options(flags.runs, flags.warmup, flags.threads, flags.seed)
    found, status = [], 0
    for file in files:
        try:
            found.append(profiling.profile(Path(file), options))
        except (OSError, UserError) as error:
            print(f"elite benchmark: {file}: cannot be run: {error}", file=sys.stderr)
            status = 1
    if "-" not in (flags.json, flags.csv):
        print("\n".join(map(_text, found)), end="")
    _write(flags, found)
    return status


def _text(profile: Profile) -> str:
    """The table of a file, and how far it may be trusted."""
    delegate = profile.delegate or "no delegate"
    share = percent(profile.delegated, 0) or "an unknown share"
    cells = [["operator", "count", "delegated", "MACs", "ms", "share"]]
    cells += [
        [
            kind.operator,
            str(kind.count),
            "-" if kind.delegated is None else str(kind.delegated),
            quantity(kind.macs),
            f"{kind.ms:.4f}",
            percent(kind.share),
        ]
        for kind in profile.kinds()
    ]
    alone = len(profile.operators) - profile.not_run
    lines = [
        f"{profile.model}: {len(profile.operators)} operators, {share} run by {delegate}",
        common.table(cells).rstrip("\n"),
        f"sum of {alone} operators alone {profile.sum_ms:.4f} ms, the whole file "
        f"{profile.whole_ms:.4f} ms: {profile.sum_ms / profile.whole_ms:.2f} of it",
    ]
    if profile.not_run:
        lines.append(f"{profile.not_run} operators cannot be run alone")
    return "\n".join(lines) + "\n"


def _write(flags: Any, found: Sequence[Profile]) -> None:
    rows = [
        {
            "model": profile.model,
            **asdict(operator),
            "output": "x".join(map(str, operator.output)),
        }
        for profile in found
        for operator in profile.operators
    ]
    columns = ("model", "place", "operator", "layer", "output", "macs", "median_ms", "share",
               "delegated")  # fmt: skip
    common.write_texts(
        {
            flags.json: lambda: common.as_json({"profiles": [asdict(each) for each in found]}),
            flags.csv: lambda: common.as_csv(rows, columns),
        }
    )

"""Measures how well sizes and arenas are estimated from specs, and how well MACs predict latency.

    python -m benchmarks.studies.estimates --workdir=runs/estimates elite hf

The arguments are pools. The program converts their untrained candidates to int8 and compares each
file with the estimates of `device.costs`, which need no conversion: the operators, the file size
and, if TFLM is installed, the arena. Then it measures the latencies of all files, which take turns,
and prints the rank correlations of MACs and parameters with latency. It keeps files and figures in
the work directory, so the same command continues after an interruption. docs/metrics.md shows the
results.

The files can also be measured on a board, because they are named after their networks: copy them
there and run ``python -m benchmarks *.tflite --json=board.json``. Then pass the JSON file to
``elite search --metric_table=board.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.host import describe_host
from efficientnet_elite.benchmarks.studies import command, figures
from efficientnet_elite.networks.spec import ArchSpec

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Folder for the int8 files and the figures.")
flags.DEFINE_integer(
    "sample",
    None,
    "Number of candidates that are drawn from each pool; all by default.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Seed of the drawn sample, the random weights and the order of turns.",
    flag_values=FLAGS,
)
command.define_network_size(FLAGS)
command.define_runs(FLAGS, default=20)
flags.DEFINE_boolean(
    "fit",
    False,
    "Print the constants of efficientnet_elite/device/memory.py that fit these networks best.",
    flag_values=FLAGS,
)

# Square root of the ridge penalty with which fitted constants are pulled towards their mean.
_REGULARIZATION = 3.0


def main(pools: list[str]) -> None:
    """Measures what is missing and prints the comparison to stdout.

    Args:
      pools: names of pools; elite and hf by default.
    """
    from efficientnet_elite.search.candidates import pool_candidates, sample_candidates

    folder = Path(FLAGS.workdir)
    rows = []
    for pool in pools or ["elite", "hf"]:
        candidates = pool_candidates(
            pool, base_resolution=FLAGS.base_resolution, classes=FLAGS.classes
        )
        sample = sample_candidates(candidates, FLAGS.sample or len(candidates), FLAGS.seed)
        progress = tqdm(sample, desc=pool, disable=not sys.stderr.isatty())
        rows += [_row(candidate.spec, folder) for candidate in progress]
    print(_summary(rows), end="")
    if FLAGS.fit:
        constants = {"file": _fit_file_constants(rows), "arena": _fit_arena_constants(rows)}
        print(json.dumps(constants, indent=2))
    if FLAGS.runs:
        print(_latency_summary(rows, folder), end="")


def _row(spec: ArchSpec, folder: Path) -> dict[str, Any]:
    """Returns estimated and measured figures of a network; `folder` keeps the measured ones."""
    from efficientnet_elite.device import costs, memory
    from efficientnet_elite.device.lowering import lower
    from efficientnet_elite.export import measure

    measured = figures.int8_figures(spec, folder, FLAGS.seed)
    program = lower(spec.graph)
    names = ("params", "macs", "peak_bytes", "size_bytes", "arena_bytes")
    return {
        "name": spec.name,
        "file": measure.int8_path(spec, folder).name,
        "kinds": program.operator_counts(),
        "constants": len(program.constants),
        "unknown_file": measured["bytes"] - memory.known_file_bytes(program),
        "unknown_arena": measured.get("tail", 0) - memory.known_tail_bytes(program),
        **{f"estimated_{name}": costs.of(spec, name) for name in names},
        **measured,
    }


def _summary(rows: list[dict[str, Any]]) -> str:
    correct = sum(row["kinds"] == row["operators"] for row in rows)
    lines = [f"{len(rows)} networks; operators predicted correctly for {correct} of them"]
    sizes = [(row["estimated_size_bytes"], row["bytes"]) for row in rows]
    lines.append(_error_line("file size", sizes))
    with_arena = [row for row in rows if "head" in row]
    if with_arena:
        arenas = [(row["estimated_arena_bytes"], row["head"] + row["tail"]) for row in with_arena]
        lines.append(_error_line("arena", arenas))
        peaks = [(row["estimated_peak_bytes"], row["head"]) for row in with_arena]
        lines.append(_error_line("peak activations, compared with the arena's head", peaks))
    return "\n".join(lines) + "\n"


def _error_line(name: str, pairs: list[tuple[float, float]]) -> str:
    """Returns a line with the errors of an estimate, from (estimate, measured value) pairs."""
    errors = [100 * (estimate / measured - 1) for estimate, measured in pairs]
    mean, worst = np.mean(np.abs(errors)), max(errors, key=abs)
    return f"{name}: mean error {mean:.3f} %, bias {np.mean(errors):+.3f} %, worst {worst:+.3f} %"


def _fit_file_constants(rows: list[dict[str, Any]]) -> list[int]:
    """Fits the bytes of a file that are not counted exactly, by least squares.

    Returns:
      Bytes of every file, bytes of each operator, bytes of each constant.
    """
    counts = np.array([[1, sum(row["kinds"].values()), row["constants"]] for row in rows], float)
    unknown = np.array([row["unknown_file"] for row in rows], float)
    return [round(value) for value in np.linalg.lstsq(counts, unknown, rcond=None)[0]]


def _fit_arena_constants(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Fits the bytes of the arena's tail that are not counted exactly, by ridge regression.

    Each constant is pulled slightly towards the mean of all. So where the networks do not determine
    the constants (two kinds of operators always occur together), the bytes are shared evenly.

    Returns:
      Kind of operator to bytes of each operator of this kind; "" to bytes of every network.
    """
    kinds = sorted({kind for row in rows for kind in row["kinds"]})
    counts = np.array([[row["kinds"].get(kind, 0) for kind in kinds] + [1] for row in rows], float)
    unknown = np.array([row["unknown_arena"] for row in rows], float)
    mean = unknown.sum() / counts.sum()
    equations = np.vstack([counts, _REGULARIZATION * np.eye(len(kinds) + 1)])
    residuals = np.append(unknown - counts.sum(1) * mean, np.zeros(len(kinds) + 1))
    deviations = np.linalg.lstsq(equations, residuals, rcond=None)[0]
    return {kind: round(mean + d) for kind, d in zip([*kinds, ""], deviations, strict=True)}


def _latency_summary(rows: list[dict[str, Any]], folder: Path) -> str:
    """Measures the latencies of all files in one run and correlates them with MACs and params."""
    from efficientnet_elite.search.workdir import write_bytes

    options = latency.Options(runs=FLAGS.runs, warmup=2, seed=FLAGS.seed)
    results = latency.measure_latencies([folder / row["file"] for row in rows], options)
    host = describe_host()
    write_bytes(folder / "latency.json", latency.as_json(results, options, host).encode())
    milliseconds = [result.median_ms or float("nan") for result in results]
    lines = [f"{host.cpu}; {host.runtime}; {FLAGS.runs} runs, one thread"]
    for name in ("macs", "params"):
        correlation = spearman([row[f"estimated_{name}"] for row in rows], milliseconds)
        lines.append(f"rank correlation of {name} with latency: {correlation:.3f}")
    return "\n".join(lines) + "\n"


def spearman(first: list[float], second: list[float]) -> float:
    """Returns Spearman's rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(np.asarray(first)), _ranks(np.asarray(second)))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)

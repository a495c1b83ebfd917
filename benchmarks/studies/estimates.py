"""How well sizes and arenas are estimated from specs, and whether MACs foretell latency.

    python -m benchmarks.studies.estimates --workdir=runs/estimates elite hf

Converts (untrained) candidates to int8, one after the other, and compares each file with what
`costs` says without converting: the operators, the file's size, the arena (where TFLM is
installed). Then it times all files, interleaved, and gives the rank correlation of MACs with
latency. Files and figures stay in --workdir: the same command goes on where it was stopped. The
files are named after their networks: copied to a board and timed there (`python -m benchmarks
*.tflite --json=board.json`), they make the table for ``--metric_table=board.json``.

Unlike `latency`, this needs the whole package and TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.studies import figures, program
from efficientnet_elite.errors import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "For files and figures.", required=True, flag_values=FLAGS)
flags.DEFINE_integer("sample", None, "Only this many of each pool.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of the sample, weights and order of turns.", flag_values=FLAGS)
flags.DEFINE_integer("base_resolution", 224, "Input side at coefficient 1.", flag_values=FLAGS)
flags.DEFINE_integer("classes", 1000, "Number of classes.", flag_values=FLAGS)
flags.DEFINE_integer(
    "runs", 20, "Timed inferences a network; 0 for no timing.", lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_boolean(
    "fit", False, "Print the constants of `footprint` that fit these networks.", flag_values=FLAGS
)

_GENTLY = 3.0  # operators of each kind that pull a fitted number towards the mean of all


def main(argv: list[str]) -> int:
    """Measures what is missing and prints the comparison; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from efficientnet_elite.search.candidates import pool_candidates, sample_candidates

    folder = Path(FLAGS.workdir)
    rows = []
    try:
        for pool in argv[1:] or ["elite", "hf"]:
            candidates = pool_candidates(
                pool, base_resolution=FLAGS.base_resolution, classes=FLAGS.classes
            )
            chosen = sample_candidates(candidates, FLAGS.sample or len(candidates), FLAGS.seed)
            rows += [_row(candidate.spec, folder) for candidate in _progress(chosen, pool)]
        print(_summary(rows), end="")
        if FLAGS.fit:
            print(json.dumps({"file": _fit_file(rows), "arena": _fit_arena(rows)}, indent=2))
        if FLAGS.runs:
            print(_timed(rows, folder), end="")
    except UserError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1
    return 0


def _progress(items: list[Any], label: str) -> Any:
    from tqdm import tqdm

    return tqdm(items, desc=label, disable=not sys.stderr.isatty())


def _row(spec: Any, folder: Path) -> dict[str, Any]:
    """Figures of one network, from the work directory where they are there."""
    from efficientnet_elite.device import costs, memory
    from efficientnet_elite.device.lowering import lower
    from efficientnet_elite.export import measure

    measured = figures.of(spec, folder, FLAGS.seed)
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
    equal = sum(row["kinds"] == row["operators"] for row in rows)
    lines = [f"{len(rows)} networks, the operators as foretold in {equal}"]
    lines.append(_errors("file size", [(r["estimated_size_bytes"], r["bytes"]) for r in rows]))
    timed = [row for row in rows if "head" in row]
    if timed:
        arenas = [(row["estimated_arena_bytes"], row["head"] + row["tail"]) for row in timed]
        lines.append(_errors("arena", arenas))
        peaks = [(row["estimated_peak_bytes"], row["head"]) for row in timed]
        lines.append(_errors("peak activations against the arena's head", peaks))
    return "\n".join(lines) + "\n"


def _errors(what: str, pairs: list[tuple[float, float]]) -> str:
    errors = [100 * (estimate / measured - 1) for estimate, measured in pairs]
    mean, worst = np.mean(np.abs(errors)), max(errors, key=abs)
    return f"{what}: mean error {mean:.3f} %, bias {np.mean(errors):+.3f} %, worst {worst:+.3f} %"


def _fit_file(rows: list[dict[str, Any]]) -> list[int]:
    """Bytes not counted one by one: of every file, an operator, a constant. Least squares."""
    counts = np.array([[1, sum(row["kinds"].values()), row["constants"]] for row in rows], float)
    unknown = np.array([row["unknown_file"] for row in rows], float)
    return [round(value) for value in np.linalg.lstsq(counts, unknown, rcond=None)[0]]


def _fit_arena(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Bytes not counted one by one: an operator of a kind, "" of every network.

    Least squares, drawn gently towards the same for all kinds: what these networks leave open (two
    kinds that always occur together) is shared evenly.
    """
    kinds = sorted({kind for row in rows for kind in row["kinds"]})
    counts = np.array([[row["kinds"].get(kind, 0) for kind in kinds] + [1] for row in rows], float)
    unknown = np.array([row["unknown_arena"] for row in rows], float)
    typical = unknown.sum() / counts.sum()
    drawn = np.vstack([counts, _GENTLY * np.eye(len(kinds) + 1)])
    rest = np.append(unknown - counts.sum(1) * typical, np.zeros(len(kinds) + 1))
    change = np.linalg.lstsq(drawn, rest, rcond=None)[0]
    return {kind: round(typical + c) for kind, c in zip([*kinds, ""], change, strict=True)}


def _timed(rows: list[dict[str, Any]], folder: Path) -> str:
    """Times all files in one run and correlates."""
    from efficientnet_elite.search.workdir import write_bytes

    options = latency.Options(runs=FLAGS.runs, warmup=2, seed=FLAGS.seed)
    results = latency.measure([folder / row["file"] for row in rows], options)
    host = latency.host()
    write_bytes(folder / "latency.json", latency.as_json(results, options, host).encode())
    times = [result.median_ms or float("nan") for result in results]
    lines = [f"{host.cpu}; {host.runtime}; {FLAGS.runs} runs, one thread"]
    for name in ("macs", "params"):
        correlation = spearman([row[f"estimated_{name}"] for row in rows], times)
        lines.append(f"rank correlation of {name} with latency: {correlation:.3f}")
    return "\n".join(lines) + "\n"


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank."""
    return float(np.corrcoef(_ranks(np.asarray(first)), _ranks(np.asarray(second)))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


if __name__ == "__main__":
    sys.exit(main(program.parse(FLAGS, sys.argv)))

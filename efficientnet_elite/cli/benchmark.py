"""Measures latency, all models interleaved in one run so that their ratios hold on a noisy
machine. With --workdir: the champions' files, into benchmark.json and benchmark.csv there, where
report.html finds them. Otherwise the arguments are .tflite files. On a board copy the repository's
folder `benchmarks` and run `python -m benchmarks MODEL.tflite ...`: it is the same code.

  elite benchmark --workdir=runs/digits
  elite benchmark a.tflite b.tflite --threads=4 --json=rows.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.runtimes import isolated
from efficientnet_elite.search.ledger import Ledger

_PROGRAM = (
    "import sys; from efficientnet_elite.benchmarks import latency; "
    "sys.exit(latency.main(['elite benchmark', *sys.argv[1:]]))"
)

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
    return _measured(options, arguments)


def of_champions(workdir: Path, options: list[str] | None = None) -> int:
    """Benchmarks the exported files of a work directory; returns the exit status.

    UserError where nothing has been exported yet.
    """
    files = _exported(workdir)
    if not files:
        raise UserError(f"nothing is exported in {workdir}: run `elite export --workdir={workdir}`")
    outputs = [f"--json={workdir / 'benchmark.json'}", f"--csv={workdir / 'benchmark.csv'}"]
    started = time.perf_counter()
    status = _measured([*outputs, *(options or [])], files)
    with Ledger(workdir) as ledger:
        ledger.record_timing("benchmark", "", time.perf_counter() - started)
    return status


def _exported(workdir: Path) -> list[str]:
    """The files that the sidecars name: any other beside them is of an earlier export."""
    found = []
    for path in sorted((workdir / "export").glob("*/*.json")):
        try:
            entries = json.loads(path.read_text())["files"].values()
            found += [str(path.with_name(entry["file"])) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            again = f"run `elite export --workdir={workdir}`"
            raise UserError(f"{path} is damaged: {again}") from error
    return sorted(found)


def _measured(options: Sequence[str], files: Sequence[str]) -> int:
    """The exit status of the latency program in a process of its own.

    Each file is looked at and runs once by itself before: one that is damaged or brings its process
    down costs a line, not the others' figures.
    """
    sound = []
    for file in files:
        try:
            inspect.read(inspect.load(Path(file)))
            isolated.call(_try_once, {"path": file})
        except (OSError, UserError) as error:
            print(f"elite benchmark: {file}: cannot be run: {error}", file=sys.stderr)
        else:
            sound.append(file)
    if not sound:
        return 1
    program = [sys.executable, "-P", "-c", _PROGRAM, *options, "--", *sound]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode < 0:
        raise UserError(f"the measurement was ended by signal {-done.returncode}")
    return max(done.returncode, int(len(sound) < len(files)))


def _try_once(arguments: isolated.Arrays) -> isolated.Arrays:
    (row,) = latency.measure_latencies([str(arguments["path"])], latency.Options(runs=1, warmup=0))
    if row.error is not None:
        raise UserError(row.error)
    return {}

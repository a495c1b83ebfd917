"""Latencies of .tflite files and of exported networks, measured by the latency program."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside, inspect
from efficientnet_elite.export.runtimes import isolated
from efficientnet_elite.report import card
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.trainings import holds_trainings

# XNNPACK says that it was loaded, once a process; the program itself knows nothing of this package.
_PROGRAM = """
import sys
from pathlib import Path
from efficientnet_elite.benchmarks import alone, latency
from efficientnet_elite.export.runtimes.isolated import captured
with captured():
    alone.load(Path(sys.argv[-1]), 1, 0)
sys.exit(latency.main(["elite benchmark", *sys.argv[1:]]))
"""


@dataclass(frozen=True)
class Measurement:
    """The output of the latency program.

    Attributes:
      text: its standard output, as a rule a table with a line for each file.
      faults: a line for each file that cannot be run.
      status: its exit status; 1 also where a file could not be run.
    """

    text: str
    faults: tuple[str, ...]
    status: int


def measure_exported(workdir: Path, options: Sequence[str] = ()) -> Measurement:
    """Measures the exported files of a work directory, into ``benchmark.json`` and ``.csv`` there.

    The model cards are written again.

    Args:
      workdir: of a search or of trainings that have been exported.
      options: flags of the latency program, such as ``--runs=10``.

    Raises:
      UserError: nothing has been exported yet, or a sidecar is damaged.
    """
    files = exported_files(workdir)
    outputs = [f"--json={workdir / 'benchmark.json'}", f"--csv={workdir / 'benchmark.csv'}"]
    started = time.perf_counter()
    measurement = measure_files(files, [*outputs, *options])
    if not holds_trainings(workdir):
        with Ledger(workdir) as ledger:
            ledger.record_timing("benchmark", "", time.perf_counter() - started)
    card.write_all(workdir)  # they show latencies
    return measurement


def exported_files(workdir: Path) -> list[str]:
    """The files that the sidecars name; other files beside them are of an earlier export.

    Raises:
      UserError: nothing has been exported yet, or a sidecar is damaged.
    """
    paths: list[str] = []
    for sidecar in sorted((workdir / beside.FOLDER).glob("*/*.json")):
        try:
            entries = json.loads(sidecar.read_text(encoding="utf-8"))["files"].values()
            paths += [str(sidecar.with_name(entry["file"])) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            again = f"run `elite export --workdir={workdir}`"
            raise UserError(f"{sidecar} is damaged: {again}") from error
    if not paths:
        raise UserError(f"nothing is exported in {workdir}: run `elite export --workdir={workdir}`")
    return sorted(paths)


def measure_files(files: Sequence[str], options: Sequence[str] = ()) -> Measurement:
    """Measures files, which take turns, in a separate process.

    Each file is first run once in another process. A damaged file, or one that crashes its process,
    is then reported as a fault, and the others are still measured.
    """
    sound, faults = [], []
    for file in files:
        try:
            inspect.read(inspect.load(Path(file)))
            isolated.call(run_once, {"path": file})
        except (OSError, UserError) as error:
            faults.append(f"{file}: cannot be run: {error}")
        else:
            sound.append(file)
    if not sound:
        return Measurement("", tuple(faults), 1)
    program = [sys.executable, "-P", "-c", _PROGRAM, *options, "--", *sound]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode < 0:
        raise UserError(f"the measurement was ended by signal {-done.returncode}")
    return Measurement(done.stdout, tuple(faults), max(done.returncode, int(bool(faults))))


def run_once(arguments: isolated.Arrays) -> isolated.Arrays:
    """Runs the file ``path`` once, for `isolated.call`; UserError if it cannot be run."""
    (row,) = latency.measure_latencies([str(arguments["path"])], latency.Options(runs=1, warmup=0))
    if row.error is not None:
        raise UserError(row.error)
    return {}

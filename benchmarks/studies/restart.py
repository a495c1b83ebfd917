"""Measures how long an interrupted search takes until it trains again (docs/engine.md).

    python -m benchmarks.studies.restart --workdir=runs/restart

The program starts `elite search --config=quick` with ``--candidates`` networks in ``--workdir`` and
records invented scores for the first ``--epochs`` epochs of each network. Then it starts the search
``--times`` times and stops it each time when the first work item is handed to the executor. The
time that building this network takes is therefore not included; imports are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from absl import flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.workdir import has_checkpoints

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Work directory of the search; it must not contain a search yet.")
flags.DEFINE_integer(
    "candidates", 64, "Number of candidates from the eLite pool.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "epochs", 3, "Recorded epochs of each candidate.", lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_integer(
    "times",
    5,
    "Number of starts; the medians over them are printed.",
    lower_bound=1,
    flag_values=FLAGS,
)

# Runs `elite search` until the first work item is submitted. Then it prints the seconds since the
# time in its first argument and ends the process.
_UNTIL_FIRST_WORK_ITEM = """
import json, os, sys, time
from efficientnet_elite import cli
from efficientnet_elite.cli import common
common.quiet_tensorflow()
import efficientnet_elite.search.run  # brings TensorFlow
from efficientnet_elite.search.executors.local import LocalExecutor
imported = time.time()

def submit(*_):
    start = float(sys.argv[1])
    print(json.dumps({"imports": imported - start, "all": time.time() - start}), flush=True)
    os._exit(0)

LocalExecutor.submit = submit
sys.exit(cli.main(["search", *sys.argv[2:]]) or 1)
"""


def _start(workdir: Path, candidates: int) -> dict[str, float]:
    """Starts the search in a new process; returns ``imports`` and ``all``, in seconds.

    ``imports`` is the time until all modules are imported, ``all`` that until the first work item.

    Raises:
      UserError: the search cannot be started.
    """
    arguments = [
        f"--workdir={workdir}",
        "--config=quick",
        "--workers=0",  # the executor that is watched
        f"--max_candidates={candidates}",
        "--groups=8",
        "--noexport",
    ]
    process = subprocess.run(
        [sys.executable, "-c", _UNTIL_FIRST_WORK_ITEM, repr(time.time()), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise UserError(f"the search could not be started: {process.stderr.strip()}")
    seconds: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Prints the medians as JSON to stdout."""
    workdir = Path(FLAGS.workdir)
    if has_checkpoints(workdir):
        raise UserError(f"{workdir} contains a search with checkpoints: use another --workdir")
    _start(workdir, FLAGS.candidates)
    with Ledger(workdir) as ledger:
        for candidate in ledger.candidates():
            for epoch in range(1, FLAGS.epochs + 1):
                ledger.record_epoch(Epoch(candidate.name, epoch, 0.1 * epoch, 1.0 / epoch, 1.0))
    starts = [_start(workdir, FLAGS.candidates) for _ in range(FLAGS.times)]
    medians = {key: round(median(start[key] for start in starts), 2) for key in starts[0]}
    print(json.dumps({"seconds": medians, "starts": len(starts)}, indent=2))


if __name__ == "__main__":
    command.run(FLAGS, main)

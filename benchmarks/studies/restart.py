"""How long a search that was interrupted takes until its training goes on.

Begins `elite search --config=quick` with ``--candidates`` networks in ``--workdir``, records
invented scores for the first ``--epochs`` epochs of each, and starts it again ``--times`` times, up
to the first task that is handed out. Graph building of that network would come after.

  python -m benchmarks.studies.restart --workdir=runs/restart

Seconds are counted from the start of the interpreter, imports included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from absl import flags

from efficientnet_elite.benchmarks.studies import program
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.workdir import has_checkpoints

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Of the search.", required=True, flag_values=FLAGS)
flags.DEFINE_integer("candidates", 64, "Of the eLite pool.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("epochs", 3, "On record, of each.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_integer("times", 5, "Starts; their median counts.", lower_bound=1, flag_values=FLAGS)

# `elite search` up to the first task; prints the seconds it took and ends the process.
_UNTIL_FIRST_TASK = """
import json, os, sys, time
from efficientnet_elite import cli
from efficientnet_elite.cli import common
common.quiet_tensorflow()
from efficientnet_elite.search import run
from efficientnet_elite.search.executors.local import LocalExecutor
imported = time.time()

def submit(*_):
    began = float(sys.argv[1])
    print(json.dumps({"imports": imported - began, "all": time.time() - began}), flush=True)
    os._exit(0)

LocalExecutor.submit = submit
sys.exit(cli.main(["search", *sys.argv[2:]]) or 1)
"""


def _start(workdir: Path, candidates: int) -> dict[str, float]:
    """Starts the search in a process of its own; seconds until imported, and until a task."""
    arguments = [
        f"--workdir={workdir}",
        "--config=quick",
        f"--max_candidates={candidates}",
        "--groups=8",
        "--noexport",
    ]
    child = subprocess.run(
        [sys.executable, "-c", _UNTIL_FIRST_TASK, repr(time.time()), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise SystemExit(f"restart: the search could not be started: {child.stderr.strip()}")
    found: dict[str, float] = json.loads(child.stdout)
    return found


def main(argv: list[str]) -> None:
    """Prints medians as JSON to stdout."""
    del argv
    workdir = Path(FLAGS.workdir)
    if has_checkpoints(workdir):
        raise SystemExit(f"restart: {workdir} holds a search with checkpoints: use another one")
    _start(workdir, FLAGS.candidates)
    with Ledger(workdir) as ledger:
        for candidate in ledger.candidates():
            for epoch in range(1, FLAGS.epochs + 1):
                ledger.record_epoch(Epoch(candidate.name, epoch, 0.1 * epoch, 1.0 / epoch, 1.0))
    found = [_start(workdir, FLAGS.candidates) for _ in range(FLAGS.times)]
    figures = {key: round(median(times[key] for times in found), 2) for key in found[0]}
    print(json.dumps({"seconds": figures, "starts": len(found)}, indent=2))


if __name__ == "__main__":
    main(program.parse(FLAGS, sys.argv))

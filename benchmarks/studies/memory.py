"""Measures the memory that a search takes in one process, and what a small budget of it costs.

    python -m benchmarks.studies.memory --workdir=runs/memory --memory_gb=1.8,16

For each budget the program runs `elite search --config=quick` on the digits in a process of its
own, in a folder of ``--workdir``, and prints its peak memory, its duration and the parts of that.
``evicted`` counts the waiting trainings that were dropped, and ``rebuilt`` those of them that had
to be built again. ``rebuilding`` is the seconds that this took, which are also counted as graph
building. All searches must end with the same ledger, times apart; the program says so if one does
not.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any
from unittest import mock

from absl import flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Folder for the searches; it must not contain any yet.")
flags.DEFINE_list("memory_gb", ["1.8"], "Budgets in GB, one search for each.", flag_values=FLAGS)
flags.DEFINE_string("pool", "elite", "Pool of the candidates.", flag_values=FLAGS)
flags.DEFINE_integer("candidates", 64, "Number of candidates.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("epochs", 3, "Epochs of the training.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
    "round_epochs",
    None,
    "Epochs between two eliminations; candidates wait for the next round after each. By default "
    "that of the rule.",
    lower_bound=1,
    flag_values=FLAGS,
)


def _watched(arguments: list[str]) -> dict[str, Any]:
    """Runs `elite search`; call it in a process of its own, whose peak of memory it reads."""
    from efficientnet_elite import cli
    from efficientnet_elite.search.executors.local import LocalExecutor

    built: set[str] = set()
    counts = {"evicted": 0, "rebuilt": 0, "rebuilding": 0.0}
    make_room, record_timing = LocalExecutor._make_room, Ledger.record_timing

    def count_evictions(executor: LocalExecutor, name: str, needed: int) -> None:
        before = len(executor._trainers)
        make_room(executor, name, needed)
        counts["evicted"] += before - len(executor._trainers)

    def count_builds(
        ledger: Ledger, phase: str, name: str, seconds: float, **options: bool
    ) -> None:
        if phase == "graph building":
            if name in built:
                counts["rebuilt"] += 1
                counts["rebuilding"] += seconds
            built.add(name)
        record_timing(ledger, phase, name, seconds, **options)

    with (
        mock.patch.object(LocalExecutor, "_make_room", count_evictions),
        mock.patch.object(Ledger, "record_timing", count_builds),
    ):
        status = cli.main(["search", *arguments])
    if status:
        raise UserError(f"elite search {' '.join(arguments)} ended with status {status}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_gb": round(peak / 1e9, 2), **counts}


def _search(workdir: Path, gigabytes: str) -> dict[str, Any]:
    """Runs one search; memory in GB (1e9 bytes), times in seconds."""
    arguments = [
        f"--workdir={workdir}",
        f"--memory_gb={gigabytes}",
        "--config=quick",
        f"--pool={FLAGS.pool}",
        f"--max_candidates={FLAGS.candidates}",
        f"--groups={max(1, FLAGS.candidates // 8)}",
        f"--epochs={FLAGS.epochs}",
        "--noexport",
        "--workers=0",  # what is counted and weighed is this one process
    ]
    if FLAGS.round_epochs is not None:
        arguments += [f"--round_epochs={FLAGS.round_epochs}"]
        arguments += [f"--first_elimination={FLAGS.round_epochs}"]
    begun = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_watched, (arguments,))
    with Ledger(workdir) as ledger:
        timings = ledger.timings()
    return {
        "memory_gb": float(gigabytes),
        **{name: round(value, 2) for name, value in found.items()},
        "seconds": round(time.monotonic() - begun),
        **{name: round(seconds) for name, seconds in timings.items()},
    }


def _decided(workdir: Path) -> tuple[Any, ...]:
    """What a ledger holds, times apart."""
    with Ledger(workdir) as ledger:
        losses = {n: [e.train_loss for e in done] for n, done in ledger.epochs().items()}
        return ledger.scores(), losses, ledger.decisions(), ledger.failures()


def main() -> None:
    """Prints one object for each budget as a line of JSON to stdout, as soon as it is known."""
    folders = {gigabytes: Path(FLAGS.workdir) / gigabytes for gigabytes in FLAGS.memory_gb}
    if any(folder.exists() for folder in folders.values()):
        raise UserError(f"{FLAGS.workdir} contains searches: use another --workdir")
    for size, folder in folders.items():
        print(json.dumps(_search(folder, size)), flush=True)
    ledgers = [_decided(folder) for folder in folders.values()]
    if any(ledger != ledgers[0] for ledger in ledgers):
        raise UserError("the searches have not ended alike")


if __name__ == "__main__":
    command.run(FLAGS, main)

"""Searches killed with -9 at random moments, driver and workers, end as if undisturbed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.ledger import FILE_NAME
from tests.support.command import SEARCH_FLAGS, elite
from tests.support.invented import Invented, ledger_of
from tests.support.searches import LONG_CONFIG, LONG_GROUPS, outcome

ROOT = Path(__file__).parents[2]

# The search of this file: the same command, whether it starts or continues.
DRIVER = """
import sys
from pathlib import Path
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from efficientnet_elite.search.workdir import lock
from tests.support.invented import Invented, ledger_of
from tests.support.searches import LONG_CONFIG, LONG_GROUPS

if __name__ == "__main__":
    workdir = Path(sys.argv[1])
    with lock(workdir):
        new = not (workdir / FILE_NAME).exists()
        with ledger_of(workdir, LONG_GROUPS, LONG_CONFIG) if new else Ledger(workdir) as ledger:
            make = Invented(seconds=float(sys.argv[2]), log=workdir / "log")
            pool = ProcessPool(make, 2, workdir)
            drive(ledger, pool, workdir, progress=False)
"""


@contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("a") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def workers(driver: int) -> list[int]:
    """Process numbers of a driver's workers."""
    try:
        children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:  # ended in between
        return []


def recorded(workdir: Path) -> list[str]:
    """Candidates of the epochs on record, in order; none as long as there is no ledger."""
    if not (workdir / FILE_NAME).is_file():
        return []
    with closing(sqlite3.connect(workdir / FILE_NAME, timeout=30)) as database:
        try:
            rows = database.execute("SELECT candidate FROM epochs ORDER BY rowid").fetchall()
        except sqlite3.OperationalError:
            return []
    return [name for (name,) in rows]


def disturb(
    command: Sequence[str | Path], workdir: Path, random: Random, *, kills: int, pause: float
) -> Counter[str]:
    """Runs the command again and again, until the last kill, which is the driver's.

    Kills come in pairs: a worker, and a moment later the other one or the driver. In between two
    pairs both workers get through an epoch, because a candidate whose worker dies three times
    within one has failed, which is another story.

    Args:
      command: starts or continues the search, on two workers.
      workdir: of the search.
      random: of whom to kill when.
      kills: how many at least.
      pause: mean seconds before each kill.

    Returns:
      Victim to the number of its deaths.
    """
    killed: Counter[str] = Counter()
    log = workdir.with_suffix(".log")
    while True:
        with running(command, log) as driver:
            while True:
                before = len(recorded(workdir))
                while len(set(recorded(workdir)[before:])) < 2 and driver.poll() is None:
                    time.sleep(0.02)
                time.sleep(random.expovariate(1 / pause))
                assert driver.poll() is None, log.read_text()[-2000:]
                first, second = random.sample(workers(driver.pid), 2)
                os.kill(first, signal.SIGKILL)
                killed["worker"] += 1
                time.sleep(random.expovariate(1 / pause))
                if killed.total() >= kills - 1 or random.random() < 0.4:
                    driver.kill()
                    killed["driver"] += 1
                    break
                os.kill(second, signal.SIGKILL)
                killed["worker"] += 1
        if killed.total() >= kills:
            return killed


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_change_nothing(tmp_path, kills):
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "run"
    with ledger_of(undisturbed, LONG_GROUPS, LONG_CONFIG) as ledger:
        drive(ledger, Invented(seconds=0.0), undisturbed, progress=False)
    workdir.mkdir()
    command = [sys.executable, "-c", DRIVER, workdir]
    killed = disturb([*command, "0.05"], workdir, Random(20), kills=kills, pause=0.05)
    subprocess.run([*command, "0"], check=True, cwd=ROOT)
    assert len(killed) == 2, "only drivers or only workers were killed"

    # The times of epochs apart, everything is as it would have been.
    assert outcome(workdir) == outcome(undisturbed)
    assert not list((workdir / "checkpoints").glob("*.tmp"))
    # At most one epoch of a running candidate was lost a kill: one a worker, two a driver.
    trained = Counter(line.rsplit(" ", 1)[0] for line in (workdir / "log").read_text().splitlines())
    assert len(trained) == len(recorded(workdir))
    again = trained.total() - len(trained)
    assert again <= killed["worker"] + 2 * killed["driver"]


# Networks that take long enough to be killed eight times; of a flag given twice the last counts.
FLAGS = (
    *SEARCH_FLAGS,
    "--rule=race",
    "--pool=elite",
    "--seed=290",
    "--epochs=16",
    "--round_epochs=2",
    "--first_elimination=4",
    "--noexport",
)


@pytest.mark.slow
def test_eight_kills_of_a_real_search(tmp_path):
    """With one worker undisturbed, with two disturbed: bit for bit the same losses."""
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "run"
    done = elite("search", *FLAGS, f"--workdir={undisturbed}", timeout=900)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "efficientnet_elite", "search", *FLAGS]
    command += ["--workers=2", f"--workdir={workdir}"]
    killed = disturb(command, workdir, Random(3), kills=8, pause=0.3)
    assert len(killed) == 2
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(workdir) == outcome(undisturbed)

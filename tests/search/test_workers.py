"""Workers: the same search on one or many, whatever becomes of them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite import cli
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import automatic
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors import pool as pool_module
from efficientnet_elite.search.executors.pool import LOG_FILE, ProcessPool
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from efficientnet_elite.search.work_queue import WorkQueue
from efficientnet_elite.search.workdir import lock, worker_lock
from efficientnet_elite.training.checkpoint import PARTS, Checkpoint
from tests.support.command import SEARCH_FLAGS, elite
from tests.support.invented import Invented, Simulated, ledger_of, score
from tests.support.searches import CONFIG, GROUPS, outcome

ROOT = Path(__file__).parents[2]


def search(workdir: Path, executor, groups=GROUPS, on_message=lambda text: None) -> dict:
    with ledger_of(workdir, groups, CONFIG) as ledger:
        drive(ledger, executor, workdir, progress=False, on_message=on_message)
    return outcome(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    found = search(tmp_path_factory.mktemp("undisturbed"), Invented())
    assert [len(found["decisions"].get(group, ())) > 0 for group in GROUPS] == [1, 1, 1, 0]
    return found


# -- a pool of processes -------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same(undisturbed, tmp_path, workers):
    log = tmp_path / "log"
    pool = ProcessPool(Invented(log=log, seconds=0.01), workers, tmp_path)
    assert search(tmp_path, pool) == undisturbed
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == sum(map(len, undisturbed["epochs"].values())), "an epoch trained twice"
    # On a busy machine all is done before the last worker has started.
    assert min(workers, 2) <= len({process for *_, process in lines}) <= workers


def test_a_worker_that_dies_is_replaced(undisturbed, tmp_path):
    """Twice in a row within the same epoch: nothing else is trained again."""
    log, said = tmp_path / "log", []
    make = Invented(log=log, deadly={"0a": 2}, deaths=2)
    assert search(tmp_path, ProcessPool(make, 2, tmp_path), on_message=said.append) == undisturbed
    trained = [line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()]
    assert len(trained) == len(set(trained))
    line = "a worker died (killed, out of memory?); 0a continues from its latest epoch"
    assert said == [line, line]


@pytest.mark.slow
def test_a_candidate_that_kills_its_workers_fails(tmp_path):
    said = []
    pool = ProcessPool(Invented(deadly={"0a": 2}), 2, tmp_path)
    found = search(tmp_path, pool, on_message=said.append)
    reason = "its worker died 3 times within an epoch: killed, out of memory?"
    assert found["failures"] == {"0a": reason}
    assert said[-1] == f"0a has failed and is eliminated: {reason}"
    assert len(found["epochs"]["0a"]) == 1
    (last,) = (d for d in found["decisions"][0] if d.candidate == "0a")
    assert (last.survives, decision_text(last)) == (False, f"failed: {reason}")
    assert [champion["group"] for champion in found["champions"]] == [0, 1, 2, 3]


def test_what_stops_a_worker_stops_the_search(tmp_path, undisturbed):
    """Such as a full disk; with room again, the search goes on."""
    with pytest.raises(UserError, match="no space left"):
        search(tmp_path, ProcessPool(Invented(refused="1a"), 2, tmp_path))
    with Ledger(tmp_path) as ledger:
        pool = ProcessPool(Invented(), 2, tmp_path)
        drive(ledger, pool, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


class Stillborn:
    """No worker can be made of it."""

    def __call__(self, slot: int) -> Invented:
        print("libmissing.so: cannot open shared object file", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


def test_workers_that_cannot_be_started(tmp_path):
    with pytest.raises(UserError, match=r"cannot be started \(ended by SIGSEGV\)") as error:
        search(tmp_path, ProcessPool(Stillborn(), 2, tmp_path))
    log = tmp_path / LOG_FILE
    assert str(log) in str(error.value)
    assert "libmissing.so" in log.read_text()


def test_a_program_that_workers_cannot_import(tmp_path):
    """One from standard input, which they look for as a file."""
    done = subprocess.run(
        [sys.executable, "-", tmp_path], input=DRIVER, capture_output=True, text=True
    )
    message = done.stderr.splitlines()[-1]
    assert "workers cannot be started (ended with status 1)" in message
    assert 'under `if __name__ == "__main__":`' in message


@pytest.mark.parametrize(
    ("status", "words"), [(-9, "killed"), (-15, "SIGTERM"), (-35, "signal 35")]
)
def test_how_a_worker_ended(status, words):
    assert words in pool_module._ended(status)


def test_workers_end_with_their_driver(tmp_path):
    """However it ends; meanwhile they keep the work directory from the next one."""
    with worker_lock(tmp_path):
        started = time.monotonic()
        command = [sys.executable, "-c", DRIVER, str(tmp_path)]
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        time.sleep(0.5)
        assert driver.poll() is None
    assert driver.stdout.readline() == b"alone\n"  # not before the lock of the workers was free
    assert time.monotonic() - started > 0.5
    log = tmp_path / "log"
    while not log.exists():
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.communicate()
    with lock(tmp_path):  # waits for the workers, which are all gone then
        size = log.stat().st_size
        time.sleep(0.3)
        assert log.stat().st_size == size


def test_ctrl_c(undisturbed, tmp_path):
    """Reaches the workers too, which leave it to their driver; the search goes on later."""
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    driver = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    while not (tmp_path / "log").exists():
        assert driver.poll() is None
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGINT)
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == -signal.SIGINT
    assert said.strip().endswith(b"KeyboardInterrupt")
    assert b"KeyboardInterrupt" not in (tmp_path / LOG_FILE).read_bytes()
    with lock(tmp_path), Ledger(tmp_path) as ledger:
        drive(ledger, Invented(), tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


def test_a_checkpoint_that_does_not_fit(tmp_path):
    """The earlier one stays, and nothing beside it."""
    path, state = tmp_path / "a.npz", {part: [np.zeros(10)] for part in PARTS}
    Checkpoint("", [], state).save(path)
    before, (_, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match=r"a\.npz cannot be written .*: make room"):
            Checkpoint("", [], {**state, "weights": [np.zeros(10_000)]}).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    assert path.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(undisturbed, small_disk):
    """Whatever cannot be written: one line, nothing recorded is lost; with more room it goes on."""
    ballast, said, recorded = small_disk / "ballast", [], 0
    with ledger_of(small_disk, GROUPS, CONFIG):
        pass
    for kilobytes in range(0, 400, 16):
        ballast.unlink(missing_ok=True)
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(0, free - kilobytes * 1024)))
        try:
            with Ledger(small_disk) as ledger:
                drive(ledger, Invented(), small_disk, progress=False)
            break
        except UserError as error:
            said.append(str(error))
        ballast.unlink()
        with Ledger(small_disk) as ledger:
            scores = ledger.scores()
        assert sum(map(len, scores.values())) >= recorded
        recorded = sum(map(len, scores.values()))
    assert outcome(small_disk) == undisturbed
    assert recorded
    assert [line for line in said if "make room" not in line or "\n" in line] == []
    files = {Path(line.split()[0]).name for line in said}
    assert FILE_NAME in files
    assert any(name.endswith(".npz") for name in files)


DRIVER = """
import sys
from pathlib import Path
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors import pool as pool_module
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.workdir import lock
from tests.support.invented import Invented, ledger_of
from tests.support.searches import CONFIG, GROUPS

if __name__ == "__main__":
    workdir = Path(sys.argv[1])
    with lock(workdir), ledger_of(workdir, GROUPS, CONFIG) as ledger:
        print("alone", flush=True)
        pool = ProcessPool(Invented(seconds=0.1, log=workdir / "log"), 2, workdir)
        drive(ledger, pool, workdir, progress=False)
"""


def test_the_driver_needs_no_tensorflow():
    """A worker of its own does: its process starts in a moment, as does a simulation."""
    code = "import sys, efficientnet_elite.search.driver, efficientnet_elite.search.executors.pool;"
    code += "print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


# -- who trains what -----------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3, 20])
def test_the_order_of_events_changes_nothing(undisturbed, tmp_path, slots):
    """Candidates of all speeds, and a worker lost every now and then."""
    lost = tuple((number % slots, 9.3 * number + 0.5) for number in range(12))
    executor = Simulated(slots, lambda name: 0.3 + 10 * score(name, 0), lost)
    assert search(tmp_path, executor) == undisturbed


def test_no_worker_idles_while_there_is_work(tmp_path):
    """Sixteen groups of four on four workers: only the last champion may keep others waiting."""
    groups = dict.fromkeys(range(16), "abcd")
    executor = Simulated(4, lambda name: 1.0 + int(name[:-1]) / 8)
    search(tmp_path, executor, groups)
    assert sum(executor.busy) / (4 * executor.now) > 0.95


def test_a_graph_is_built_once_where_waiting_is_cheap(tmp_path):
    """Two workers, short rounds: a candidate returns to where it was built."""
    executor = Simulated(2, lambda name: 1.0)
    found = search(tmp_path, executor, dict.fromkeys(range(6), "abcd"))
    assert len(executor.built) < 1.25 * len(found["epochs"])


def test_a_group_does_not_wait_for_another(tmp_path):
    """The light group has its champion before the heavy one is through its first round."""
    executor = Simulated(2, lambda name: 100.0 if name[0] == "0" else 1.0)
    order: list[str] = []
    with ledger_of(tmp_path, {0: "a", 1: "abcd"}, CONFIG) as ledger:
        record = ledger.record_epoch
        ledger.record_epoch = lambda epoch: (order.append(epoch.candidate), record(epoch))
        drive(ledger, executor, tmp_path, progress=False)
    assert order.index("0a") == len(order) - 6


@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=9
    ),
    st.integers(0, 3),
)
def test_the_queue_gives_out_everything_once(entries, slot):
    queue = WorkQueue()
    for number, (work, home) in enumerate(entries):
        queue.push(str(number), work, home)
    given_out: list[str] = []
    while (name := queue.pop(slot, lambda home: False)) is not None:
        given_out.append(name)
    own = [(w, h) for w, h in entries if h in (slot, None)]
    works = [entries[int(name)][0] for name in given_out]
    assert works == sorted((w for w, _ in own), reverse=True)
    for home in range(4):
        queue.evict(home)
    while (name := queue.pop(slot, lambda home: False)) is not None:
        given_out.append(name)
    assert sorted(map(int, given_out)) == list(range(len(entries)))
    assert not queue


@pytest.mark.slow
def test_by_default_each_core_has_a_worker(tmp_path):
    flags = [flag for flag in SEARCH_FLAGS if not flag.startswith("--workers")]
    flags += ["--max_candidates=6", "--epochs=2", "--noexport"]
    done = {
        name: elite("search", *flags, *more, f"--workdir={tmp_path / name}")
        for name, more in {"default": [], "alone": ["--workers=0"]}.items()
    }
    for each in done.values():
        assert each.returncode == 0, each.stderr
    with Ledger(tmp_path / "default") as ledger:
        config = SearchConfig.from_dict(ledger.meta()["config"])
    if workers := automatic.workers(config):
        assert f"trains in {workers} processes (--workers)" in done["default"].stderr
        assert (tmp_path / "default" / LOG_FILE).exists()
    assert "trains in" not in done["alone"].stderr
    assert not (tmp_path / "alone" / LOG_FILE).exists()
    assert outcome(tmp_path / "default") == outcome(tmp_path / "alone")


def test_bad_settings(tmp_path, capsys):
    for settings in ({"name": "spark"}, {"workers": -1}, {"ray_address": "auto"}):
        with pytest.raises(UserError):
            EngineConfig(**settings)
    assert cli.main(["search", f"--workdir={tmp_path}", "--ray_address=auto"]) == 1
    assert "ray_address is for engine=ray" in capsys.readouterr().err

"""Real searches: killed and resumed, refused, and with trainings that fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import ClassVar
from weakref import WeakSet

import pytest

from efficientnet_elite import cli
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search import run as search
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors import local
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.protocol import (
    Built,
    EpochDone,
    Failed,
    Finished,
    Ready,
    Warned,
    WorkItem,
)
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.outcome import EpochResult, OutOfMemory
from tests.support import searches
from tests.support.command import SEARCH_FLAGS, elite
from tests.support.invented import Invented, ledger_of
from tests.support.photos import photo

RANDOM = Random(20090907)
COMMAND = ["search", *SEARCH_FLAGS, "--noexport"]


def outcome(workdir: Path) -> dict:
    """Everything that a crash must not change; losses are compared to the last bit."""
    with Ledger(workdir) as ledger:
        return searches.outcome(workdir) | {"candidates": ledger.candidates()}


def decisions(workdir: Path) -> dict:
    """What the search has decided, and the scores that it has decided by."""
    found = outcome(workdir)
    scores = {n: [e.validation_accuracy for e in done] for n, done in found["epochs"].items()}
    return {"scores": scores, "decisions": found["decisions"], "champions": found["champions"]}


def refused(capsys, *arguments: str | Path) -> str:
    """The one line on stderr of a command that ends with status 1."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


# -- kill -9 and resume --------------------------------------------------------------------------


def rows(workdir: Path, table: str) -> int:
    """Rows of a table of the ledger; 0 as long as there is none."""
    path = workdir / FILE_NAME
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as database:
        try:
            return database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def kill_when(
    workdir: Path,
    happened: Callable[[], bool],
    delay: float,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> None:
    """Starts the search, waits for the event and a moment more, and kills it outright."""
    log = workdir.with_suffix(".log")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "efficientnet_elite", *COMMAND, f"--workdir={workdir}"],
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        try:
            deadline = time.monotonic() + 240
            while not happened():
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.01)
            meanwhile(process.pid)
            time.sleep(delay)
        finally:
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert alive, "the search was over before it could be killed"


def forget_the_latest_epoch(workdir: Path) -> str:
    """What a crash between a checkpoint and its record in the ledger leaves behind."""
    with closing(sqlite3.connect(workdir / FILE_NAME, isolation_level=None)) as database:
        name, epoch = database.execute(
            "SELECT candidate, epoch FROM epochs ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        database.execute("DELETE FROM epochs WHERE candidate = ? AND epoch = ?", (name, epoch))
    return name


@pytest.mark.slow
def test_killed_three_times_it_ends_as_if_undisturbed(searched, tmp_path, capsys):
    workdir = tmp_path / "run"

    # While the first network is being built; a second driver is turned away meanwhile.
    def second_driver(pid):
        line = refused(capsys, *COMMAND, f"--workdir={workdir}")
        assert f"in use by another search (process {pid})" in line

    kill_when(
        workdir, lambda: rows(workdir, "candidates") > 0, RANDOM.uniform(0.2, 1.0), second_driver
    )
    assert rows(workdir, "epochs") == 0

    # In the middle of an epoch.
    kill_when(workdir, lambda: rows(workdir, "epochs") > 0, RANDOM.uniform(0.1, 0.5))
    before = rows(workdir, "epochs")
    assert 0 < before < 4
    forget_the_latest_epoch(workdir)

    # As soon as a checkpoint has been replaced after an elimination, recorded or not.
    checkpoints = workdir / "checkpoints"

    def times():
        return {path.name: path.stat().st_mtime_ns for path in checkpoints.glob("*.npz")}

    old = times()
    kill_when(workdir, lambda: rows(workdir, "decisions") > 0 and times() != old, 0.0)
    assert rows(workdir, "epochs") >= before  # the forgotten one was read from its checkpoint
    assert not (workdir / "champions.json").exists()

    # A half-written checkpoint is never looked at. Two workers finish what one has begun.
    left = checkpoints / f"{next(checkpoints.glob('*.npz')).stem}.123.tmp"
    left.write_bytes(b"half")
    done = elite(*COMMAND, "--workers=2", f"--workdir={workdir}", timeout=240)
    assert not left.exists()
    assert done.returncode == 0, done.stderr
    assert outcome(workdir) == outcome(searched)


# -- the undisturbed one -------------------------------------------------------------------------


def test_champions(searched):
    found = outcome(searched)
    champions = found["champions"]
    assert [c["group"] for c in champions] == [0, 1]
    specs = {c.name: c.spec for c in found["candidates"]}
    for champion in champions:
        spec = specs[champion["name"]]
        assert (champion["params"], champion["macs"]) == (spec.params, spec.macs)
        epochs = found["epochs"][champion["name"]]
        assert champion["epochs"] == len(epochs) == 3
        assert champion["validation_accuracy"] == epochs[-1].validation_accuracy
    macs = [spec.macs for spec in specs.values()]
    assert macs == sorted(macs), "the cheapest comes first, which a tie prefers"
    loser = set(specs) - {c["name"] for c in champions}
    assert [len(found["epochs"][name]) for name in loser] == [1]
    assert len({epoch.train_loss for epochs in found["epochs"].values() for epoch in epochs}) == 7


@pytest.fixture
def copied(searched, tmp_path):
    return Path(shutil.copytree(searched, tmp_path / "copy"))


def test_a_finished_search_run_again_trains_nothing(searched, copied, capsys):
    (copied / "champions.json").unlink()
    # One setting may be another: no result depends on it.
    assert cli.main([*COMMAND, f"--workdir={copied}", "--checkpoint_minutes=3"]) == 0
    assert outcome(copied) == outcome(searched)
    assert rows(copied, "timings") == rows(searched, "timings")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--seed=5", "data.seed=357, not 5"),
        ("--epochs=4", "train.epochs=3, not 4"),
        ("--groups=3", "groups=2, not 3"),
        ("--threads=2", "threads=1, not 2"),
        ("--precision=bfloat16", "train.precision=float32, not bfloat16"),
        ("--nodeterministic", "train.deterministic=True, not False"),
        ("--dataset=rendered", "data.dataset=digits, not rendered"),
    ],
)
def test_other_settings_on_an_old_work_directory(copied, capsys, flag, said):
    line = refused(capsys, *COMMAND, flag, f"--workdir={copied}")
    assert said in line
    assert "another --workdir" in line


def test_checkpoints_that_no_ledger_explains(copied, capsys):
    """They would pass for the new search's own, with scores of other settings."""
    (copied / FILE_NAME).unlink()
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.npz")}
    assert "holds checkpoints, but no ledger.sqlite" in refused(
        capsys, *COMMAND, "--learning_rate=0.02", f"--workdir={copied}"
    )
    assert "holds other trainings" in refused(
        capsys, "train", "elite9@8", "--epochs=1", f"--workdir={copied}"
    )
    assert before == {path: path.stat().st_mtime_ns for path in copied.rglob("*.npz")}
    assert not (copied / FILE_NAME).exists()
    for path in before:  # as if all had been killed in their first epochs
        path.rename(path.with_suffix(".epoch"))
    assert "holds checkpoints" in refused(capsys, *COMMAND, f"--workdir={copied}")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside(searched, copied):
    """A champion that is one epoch short is trained on from its file; here it begins again."""
    name = forget_the_latest_epoch(copied)
    path = copied / "checkpoints" / f"{name}.npz"
    path.write_bytes(path.read_bytes()[:1000])
    done = elite(*COMMAND, f"--workdir={copied}", timeout=240)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert len(said) == 1
    assert f"{name}.npz is damaged: kept as {name}.damaged, trained anew" in said[0]
    assert path.with_suffix(".damaged").stat().st_size == 1000
    assert decisions(copied) == decisions(searched)


# -- small searches in this process --------------------------------------------------------------


def search_of(images):
    """The settings of a quick search."""
    return SearchConfig(
        pool="tests.support.fragile:networks",
        groups=1,
        group_by=("params",),
        round_epochs=1,
        base_resolution=8,
        max_candidates=1,
        data=DataConfig(dataset=f"folder:{images}"),
        train=TrainConfig(epochs=1, batch_size=8),
    )


def test_images_that_moved_and_images_that_changed(tmp_path):
    """The search was begun by a version that did not keep near duplicates together."""
    for number in range(40):  # each has one that looks alike
        path = tmp_path / "images" / ("cat", "dog")[number // 20] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(12 + number % 2, 12, seed=number // 2).save(path)
    config = search_of(tmp_path / "images")
    alone = replace(config, data=replace(config.data, group_duplicates=False))
    together, apart = (data_lib.load(c.data, progress=False) for c in (config, alone))
    assert together.fingerprint != apart.fingerprint
    workdir = tmp_path / "run"
    (champion,) = search.run(alone, workdir, progress=False)
    with Ledger(workdir) as ledger:
        recorded = ledger.meta()["config"]
        del recorded["data"]["group_duplicates"]
        ledger.replace_meta("config", recorded)
    assert search.run(config, workdir, progress=False) == [champion]

    (tmp_path / "images").rename(tmp_path / "moved")
    moved = search_of(tmp_path / "moved")
    assert search.run(moved, workdir, progress=False) == [champion]
    with Ledger(workdir) as ledger:  # where commands that name the work directory alone find them
        recorded, data = search.recorded(ledger, trusted=("tests.support.fragile",), progress=False)
    assert recorded.data.dataset == moved.data.dataset and data.fingerprint == apart.fingerprint
    (tmp_path / "moved" / "cat" / "0.png").rename(tmp_path / "moved" / "cat" / "other.png")
    with pytest.raises(
        UserError, match=r"with the images of folder:.*moved, and those of .*others"
    ):
        shutil.copytree(tmp_path / "moved", tmp_path / "third")
        search.run(search_of(tmp_path / "third"), workdir, progress=False)


def test_a_real_training_that_diverges(tmp_path, capsys):
    """It is recorded, and nobody is left: the command says so in one line."""
    workdir = tmp_path / "run"
    command = ["search", "--config=quick", "--pool=tests.support.fragile:networks",
               "--group_by=params", "--base_resolution=8", "--max_candidates=1", "--groups=1",
               "--epochs=1", "--round_epochs=1"]  # fmt: skip
    command += ["--learning_rate=1e30", f"--workdir={workdir}"]
    assert cli.main(command) == 1
    assert "no candidate could be trained" in capsys.readouterr().err.strip().splitlines()[-1]
    with Ledger(workdir) as ledger:
        (reason,) = ledger.failures().values()
    assert "learning_rate" in reason
    assert json.loads((workdir / "champions.json").read_text()) == []


def four_candidates(workdir: Path) -> Ledger:
    """A ledger with one group of four, 0a to 0d, for six epochs in rounds of two."""
    config = SearchConfig(rule="average", round_epochs=2, train=TrainConfig(epochs=6))
    return ledger_of(workdir, {0: "abcd"}, config)


ACCURACIES = {"0a": 0.9, "0b": 0.8, "0c": 0.7, "0d": 0.6}


@pytest.mark.parametrize(
    ("failing", "failed", "champions"),
    [
        ({}, [], ["0a"]),
        ({"0a": 0}, ["0a"], ["0b"]),
        ({"0a": 3, "0d": 0}, ["0a", "0d"], ["0b"]),
        ({"0b": 5}, [], ["0a"]),  # eliminated before it gets there
        ({"0a": 5}, ["0a"], ["0b"]),  # when all others have left: the runner-up takes over
        ({"0a": 5, "0b": 5, "0d": 1}, ["0a", "0b", "0d"], ["0c"]),
        (dict.fromkeys(ACCURACIES, 5), ["0a", "0b", "0c", "0d"], []),
    ],
)
def test_a_failure_is_recorded_and_the_search_goes_on(tmp_path, failing, failed, champions):
    executor, said = Invented(ACCURACIES, failing), []
    with four_candidates(tmp_path) as ledger:
        found = drive(ledger, executor, tmp_path, progress=False, on_message=said.append)
        assert ledger.failures() == dict.fromkeys(failed, "the loss became nan")
        decisions = ledger.decisions()[0]
        assert audit(read_record(ledger)).difference is None
    assert [(c["name"], c["epochs"]) for c in found] == [(name, 6) for name in champions]
    blamed = sorted(
        d.candidate for d in decisions if decision_text(d) == "failed: the loss became nan"
    )
    assert set(failed) - set(blamed) == (set() if champions else {"0d"})  # nobody is left to follow
    lines = [f"{name} has failed and is eliminated: the loss became nan" for name in failed]
    assert sorted(said) == lines
    assert set(executor.retired) == {"0a", "0b", "0c", "0d"}
    heirs = {d.candidate for d in decisions if decision_text(d).startswith("takes over")}
    assert set(executor.too_late) == heirs


def test_an_unexpected_error_costs_one_candidate(tmp_path):
    """Also if it is the first to be trained, before it is known that others work."""
    executor, said = Invented(ACCURACIES, broken=("0a", "0c")), []
    with four_candidates(tmp_path) as ledger:
        found = drive(ledger, executor, tmp_path, progress=False, on_message=said.append)
        assert ledger.failures() == dict.fromkeys(("0a", "0c"), "division by zero")
        assert audit(read_record(ledger)).difference is None
    assert [champion["name"] for champion in found] == ["0b"]
    assert len(said) == 2


@pytest.mark.parametrize(
    ("broken", "failing", "line"),
    [
        (("0a", "0b", "0c", "0d"), {}, "the first 3 trainings have failed, and none has worked"),
        (("0a",), {"0b": 0, "0c": 0, "0d": 0}, "the only training has failed"),
    ],
)
def test_an_error_of_all_candidates_ends_the_search(tmp_path, broken, failing, line):
    with four_candidates(tmp_path) as ledger:
        with pytest.raises(UserError, match=line):
            drive(ledger, Invented(ACCURACIES, failing, broken), tmp_path, progress=False)
        assert ledger.failures() == dict.fromkeys(failing, "the loss became nan")
        found = drive(ledger, Invented(ACCURACIES, failing), tmp_path, progress=False)
    assert [champion["name"] for champion in found] == ["0a"]


def test_the_executor_tells_its_errors_from_those_of_the_driver(tmp_path, monkeypatch):
    class Broken(Hoarder):
        def run(self, until, on_epoch, on_step):
            on_epoch(EpochResult(until, 0.5, 1.0, 1.0))
            raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(local, "Trainer", Broken)
    executor = LocalExecutor(TrainConfig(), None, base_resolution=8, seed=0)
    spec = ArchSpec("s", (8, 8, 3), (ConvBlock("stem", 8, stride=2), Classifier("p", 10)))
    item, events = WorkItem(spec, 0, 1, tmp_path / "s.npz"), []
    executor.submit(0, item)
    executor.wait(lambda slot, event: events.append(event))
    reason = f"ZeroDivisionError: division by zero (see {tmp_path.name}/s.error.txt)"
    assert events[-1] == Failed(reason, unexpected=True)
    assert "in run" in (tmp_path / "s.error.txt").read_text()

    def fails(slot, event):
        raise KeyError("the driver's own")

    executor.submit(0, item)
    with pytest.raises(KeyError):
        executor.wait(fails)


def test_a_lost_checkpoint_of_a_champion_is_trained_anew(tmp_path):
    """The file comes back; scores and decisions stand, whatever the second training gives."""
    with four_candidates(tmp_path) as ledger:
        drive(ledger, Invented(ACCURACIES), tmp_path, progress=False)
        before = outcome(tmp_path)
        path = tmp_path / "checkpoints" / "0a.npz"
        path.unlink()
        drive(ledger, Invented({**ACCURACIES, "0a": 0.1}), tmp_path, progress=False)
        assert len(Checkpoint.load(path).history) == 6
        assert outcome(tmp_path) == before

        path.unlink()
        drive(ledger, Invented(ACCURACIES, {"0a": 0}), tmp_path, progress=False)
        assert not path.exists()  # tried once, not for ever
        assert ledger.failures() == {"0a": "the loss became nan"}


def test_decisions_of_other_rules_are_not_overruled(tmp_path):
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=6))
    with ledger_of(tmp_path, {0: "ab"}, config) as ledger:
        drive(ledger, Invented(ACCURACIES), tmp_path, progress=False)
        ledger._db.execute("UPDATE decisions SET rank = 3 - rank, survives = 1 - survives")
        before = ledger.decisions(), ledger.epochs()
        with pytest.raises(UserError, match=r"do not follow from .*: continue with the version"):
            drive(ledger, Invented(ACCURACIES), tmp_path, progress=False)
        assert (ledger.decisions(), ledger.epochs()) == before


def test_other_versions_are_told(copied, capsys):
    with closing(sqlite3.connect(copied / FILE_NAME)) as database, database:
        database.execute(
            "UPDATE meta SET value = json_set(value, '$.tensorflow', '2.19.0')"
            " WHERE key = 'versions'"
        )
    assert cli.main([*COMMAND, f"--workdir={copied}"]) == 0
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("begun with tensorflow 2.19.0, continued with 2.")


class Hoarder:
    """A trainer in a memory that holds so many of them."""

    room = 2
    living: ClassVar[WeakSet[Hoarder]] = WeakSet()

    def __init__(self, spec, *_, **__):
        self.history, self.epochs_done, self.build_seconds = [], 0, 0.1
        self.living.add(self)

    def run(self, until, on_epoch, on_step):
        if len(self.living) > self.room:
            raise OutOfMemory("out of memory")
        on_epoch(EpochResult(until, 0.5, 1.0, 1.0))


@pytest.mark.slow
def test_memory_that_others_hold_is_nobodys_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "Trainer", Hoarder)
    executor = LocalExecutor(TrainConfig(), None, base_resolution=8, seed=0)
    spec = ArchSpec("s", (8, 8, 3), (ConvBlock("stem", 8, stride=2), Classifier("p", 10)))

    def run(name):
        events = []
        executor.submit(0, WorkItem(replace(spec, name=name), 0, 1, tmp_path / name))
        executor.wait(lambda slot, event: events.append(event))
        return events[-1]

    assert [run(name) for name in "abcde"] == [Finished()] * 5
    monkeypatch.setattr(Hoarder, "room", 0)
    assert run("f") == Failed("out of memory")


def test_the_executor_keeps_what_it_has_built(tmp_path):
    """Graph building is paid once a candidate, however many rounds it survives."""
    spec = ArchSpec("s", (8, 8, 3), (ConvBlock("stem", 8, stride=2), Classifier("p", 10)))
    config = TrainConfig(epochs=2, batch_size=256)
    data = data_lib.load(DataConfig(), max_side=12, progress=False)
    executor = LocalExecutor(config, data, base_resolution=8, seed=0)
    path = tmp_path / "s.npz"

    def run(until):
        events = []
        executor.submit(0, WorkItem(spec, 0, until, path))
        executor.wait(lambda slot, event: events.append(event))
        return [event for event in events if isinstance(event, Built | EpochDone | Finished)]

    greeting = []
    executor.wait(lambda slot, event: greeting.append((slot, event)))
    assert greeting == [(0, Ready())]
    built, first, _ = run(1)
    assert built.seconds > 0
    second, _ = run(2)  # no building
    assert (first.result.epoch, second.result.epoch) == (1, 2)
    executor.retire(0, "s")
    # From the file: everything is reported again, nothing trained.
    reported = [event for event in run(2) if not isinstance(event, Built)]
    assert reported == [first, second, Finished()]

    executor.retire(0, "s")
    path.write_bytes(path.read_bytes()[:-100])
    again = []
    executor.submit(0, WorkItem(spec, 2, 2, path))
    executor.wait(lambda slot, event: again.append(event))
    assert isinstance(again[0], Warned)
    scores = [event.result.train_loss for event in again if isinstance(event, EpochDone)]
    assert scores == [first.result.train_loss, second.result.train_loss]

    executor.retire(0, "s")
    executor.submit(0, WorkItem(spec, 0, 1, tmp_path / "other.npz", seed=1))
    executor.wait(lambda slot, event: again.append(event))
    (other,) = (event.result for event in again[-2:] if isinstance(event, EpochDone))
    assert other.train_loss != first.result.train_loss

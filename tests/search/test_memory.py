"""Memory: candidates that wait are dropped beyond a budget, and no result depends on it."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import ClassVar
from weakref import WeakSet

import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from efficientnet_elite import data as data_lib
from efficientnet_elite import machine
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import Candidate
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors import local
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.protocol import Built, WorkItem
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.workdir import lock
from tests.support.searches import outcome

CONFIG = SearchConfig(
    rule="best", round_epochs=1, train=TrainConfig(epochs=3, batch_size=256), threads=1
)


def spec_of(name: str, channels: int) -> ArchSpec:
    blocks = (ConvBlock("stem", channels, stride=2, activation="swish"), Classifier("p", 10))
    return ArchSpec(name, (8, 8, 3), blocks)


@pytest.fixture(scope="module")
def digits():
    return data_lib.load(DataConfig(), max_side=12, progress=False)


def executor_of(digits, memory: float) -> LocalExecutor:
    return LocalExecutor(CONFIG.train, digits, base_resolution=8, seed=0, memory=memory)


class Counting:
    """An executor that counts the networks that it builds."""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor, self.built = executor, 0
        self.submit, self.retire, self.close = executor.submit, executor.retire, executor.close

    def wait(self, on_event) -> None:
        def counted(slot, event):
            self.built += isinstance(event, Built)
            on_event(slot, event)

        self._executor.wait(counted)


@pytest.mark.slow  # it builds eight real networks
def test_a_small_budget_changes_no_result(digits, tmp_path):
    found, built = [], []
    for memory in (float("inf"), 0.0):
        workdir = tmp_path / str(memory)
        candidates = [
            Candidate(f"c{n}", "tiny", 1.0, 1.0, spec_of(f"c{n}", n), 0) for n in (4, 8, 12)
        ]
        executor = Counting(executor_of(digits, memory))
        with Ledger(workdir, create=True) as ledger:
            ledger.start(candidates, {"config": asdict(CONFIG)})
            drive(ledger, executor, workdir, progress=False)
        found.append(outcome(workdir))
        built.append(executor.built)
    assert found[0] == found[1]
    assert len(found[0]["decisions"][0]) == 5  # three, then two: each waited for the others
    assert built[0] == 3 < built[1]


class Weighing:
    """A trainer that takes 10 bytes of memory."""

    living: ClassVar[WeakSet[Weighing]] = WeakSet()

    def __init__(self, spec, *_, **__):
        self.name, self.history, self.epochs_done, self.build_seconds = spec.name, [], 0, 0.1
        self.living.add(self)

    def run(self, until, on_epoch, on_step):
        pass


@pytest.mark.slow
def test_the_least_recently_trained_are_dropped_first(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "Trainer", Weighing)
    monkeypatch.setattr(machine, "used_bytes", lambda: 100 + 10 * len(Weighing.living))
    executor = LocalExecutor(TrainConfig(), None, base_resolution=8, seed=0, memory=130)

    def after(name: str) -> str:
        executor.submit(0, WorkItem(spec_of(name, 4), 0, 1, tmp_path / name))
        executor.wait(lambda slot, event: None)
        return "".join(sorted(trainer.name for trainer in Weighing.living))

    assert [after(name) for name in "abcadea"] == ["a", "ab", "abc", "abc", "acd", "ade", "ade"]
    executor.close()
    executor = LocalExecutor(TrainConfig(), None, base_resolution=8, seed=0, memory=50)
    assert [after(name) for name in "aba"] == ["a", "b", "a"], "the one that trains is kept"


@pytest.mark.slow
def test_what_is_dropped_leaves_no_graph(digits, tmp_path):
    """Nor does a candidate that is eliminated, also with operations that have own gradients."""

    def graphs() -> int:
        gc.collect()
        return sum(isinstance(thing, FuncGraph) for thing in gc.get_objects())

    executor = executor_of(digits, float("inf"))
    before = graphs()
    executor.submit(0, WorkItem(spec_of("a", 4), 0, 1, tmp_path / "a.npz"))
    executor.wait(lambda slot, event: None)
    assert graphs() > before
    executor.retire(0, "a")
    assert graphs() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from efficientnet_elite.search.workdir import lock
with lock(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_is_reported(tmp_path, monkeypatch):
    def killed() -> None:
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL

    with lock(tmp_path) as line:
        assert line is None
    with lock(tmp_path) as line:
        assert line is None, "the run before has ended by itself"
    killed()
    with lock(tmp_path) as line:
        assert line == "the last run was killed; it is continued"
    killed()
    kills = machine.processes_killed_for_memory() or 0
    monkeypatch.setattr(machine, "processes_killed_for_memory", lambda: kills + 2)
    with lock(tmp_path) as line:
        assert "for lack of memory (the kernel killed 2 processes" in line
    killed()
    monkeypatch.setattr(machine, "start_of_system", lambda: "another")
    with lock(tmp_path) as line:
        assert "restarted" in line


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    whole = machine.memory_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    assert machine.memory_bytes() >= whole
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert machine.memory_bytes() == 1e9
    assert machine.memory_budget(None, 2) == 3e8
    assert machine.memory_budget(0.5, 2) == 2.5e8

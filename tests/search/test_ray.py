"""Real Ray clusters on this machine, of which raylets, workers and drivers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from efficientnet_elite.config import EngineConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.ray_cluster import RayCluster
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.workdir import lock
from tests.support import int8_searches as by_int8
from tests.support import invented
from tests.support.invented import Invented, ledger_of
from tests.support.searches import CONFIG, GROUPS, outcome

ray = pytest.importorskip("ray")


def test_without_a_cluster(tmp_path):
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        RayCluster(Invented(), 1, tmp_path, "127.0.0.1:1")


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "efficientnet-elite\[ray\]"'):
        RayCluster(Invented(), 1, tmp_path)
    assert EngineConfig("ray").ray_address is None


SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def cluster_of(head: Mapping[str, Any]) -> Iterator[Any]:
    """A head, and a node of one CPU."""
    from ray.cluster_utils import Cluster

    # What the nodes are to run travels with the tasks: tests are not installed there.
    ray.cloudpickle.register_pickle_by_value(invented)
    made = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    try:
        made.add_node(**SMALL)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(invented)


@pytest.fixture
def cluster():
    with cluster_of(SMALL) as made:
        yield made


@pytest.mark.slow
def test_a_worker_and_a_node_are_lost(cluster, tmp_path):
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "run"
    with ledger_of(undisturbed, GROUPS, CONFIG) as ledger:
        drive(ledger, Invented(), undisturbed, progress=False)
    workdir.mkdir()
    log, said = workdir / "log", []

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    def processes() -> set[str]:
        return {line.split()[2] for line in lines()}

    def after(number: int) -> None:
        while len(processes()) < number:
            time.sleep(0.05)

    def disturb() -> None:
        after(2)
        os.kill(int(lines()[-1].split()[2]), signal.SIGKILL)
        after(3)  # another takes its place, however long its node takes to start it
        (node,) = (node for node in cluster.list_all_nodes() if node is not cluster.head_node)
        cluster.remove_node(node, allow_graceful=False)

    with ledger_of(workdir, GROUPS, CONFIG) as ledger:
        executor = RayCluster(Invented(seconds=1.0, log=log), None, workdir, cluster.address)
        killer = Thread(target=disturb, daemon=True)
        killer.start()
        drive(ledger, executor, workdir, progress=False, on_message=said.append)
    killer.join(timeout=30)
    assert not killer.is_alive()
    assert outcome(workdir) == outcome(undisturbed)
    assert len([text for text in said if "a worker died" in text]) >= 2
    trained = [line.rsplit(" ", 1)[0] for line in lines()]
    assert len(trained) - len(set(trained)) <= 2, "more than an epoch was lost with a worker"


@pytest.mark.slow
def test_int8_is_measured_there_too(cluster, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    undisturbed = by_int8.search(here, by_int8.invented(here))
    executor = RayCluster(by_int8.invented(there), None, there, cluster.address)
    assert by_int8.search(there, executor) == undisturbed
    assert by_int8.work(there) == by_int8.work(here)


@pytest.mark.slow
def test_the_last_node_is_lost_and_another_joins(tmp_path):
    """A search goes on with nodes that come in time; without any it ends and can be continued."""
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "run"
    with ledger_of(undisturbed, GROUPS, CONFIG) as ledger:
        drive(ledger, Invented(), undisturbed, progress=False)
    workdir.mkdir()
    log, said = workdir / "log", []

    def after(number: int) -> None:
        while not log.exists() or len(log.read_text().splitlines()) < number:
            time.sleep(0.05)

    def disturb() -> None:
        for trained in (3, 6):
            after(trained)
            (node,) = (n for n in cluster.list_all_nodes() if n is not cluster.head_node)
            cluster.remove_node(node, allow_graceful=False)

    def on_message(text: str) -> None:
        said.append(text)
        if sum("no node" in text for text in said) == 1 and "no node" in text:
            cluster.add_node(**SMALL)

    with cluster_of({**SMALL, "num_cpus": 0}) as cluster:
        make = Invented(seconds=0.5, log=log)
        executor = RayCluster(make, 1, workdir, cluster.address, patience=8.0)
        killer = Thread(target=disturb, daemon=True)
        with ledger_of(workdir, GROUPS, CONFIG) as ledger:
            killer.start()
            with pytest.raises(UserError, match="none has joined within ray_patience=8 seconds"):
                drive(ledger, executor, workdir, progress=False, on_message=on_message)
            assert sum(map(len, ledger.scores().values())) >= 6
        killer.join(timeout=30)
        assert not killer.is_alive()
    assert any("has nodes for workers again" in text for text in said)
    with Ledger(workdir) as ledger:
        drive(ledger, Invented(), workdir, progress=False)
    assert outcome(workdir) == outcome(undisturbed)


def _local_search(workdir: Path, patience: float) -> subprocess.Popen[str]:
    """A process that searches on a Ray of its own; returns once that has trained an epoch."""
    code = "import sys; from tests.support.ray_search import search; search(*sys.argv[1:])"
    arguments = [sys.executable, "-c", code, str(workdir), str(patience)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    while not (workdir / "log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


def _ray_processes(driver: int, name: str = "") -> set[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(driver), "-f", f"/ray/.*{name}"], capture_output=True, text=True
    )
    return {int(line) for line in found.stdout.split()}


def _alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_the_raylet_of_this_machine_is_killed(tmp_path):
    process = _local_search(tmp_path, patience=1.0)
    (raylet,) = _ray_processes(process.pid, "raylet/raylet ")
    os.kill(raylet, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the search waits 1 s for new ones (--ray_patience)" in said
    assert "start nodes, then the same command continues from here" in said
    with lock(tmp_path), Ledger(tmp_path) as ledger:
        assert sum(map(len, ledger.scores().values())) >= 1


@pytest.mark.slow
def test_ray_ends_with_its_driver(tmp_path):
    process = _local_search(tmp_path, patience=60.0)
    worker = int((tmp_path / "log").read_text().split()[2])
    processes = {worker, *_ray_processes(process.pid)}
    assert len(processes) > 2 and all(map(_alive, processes))
    process.kill()
    process.communicate()
    for _ in range(300):
        if not any(map(_alive, processes)):
            break
        time.sleep(0.1)
    assert not any(map(_alive, processes))
    with lock(tmp_path):
        pass

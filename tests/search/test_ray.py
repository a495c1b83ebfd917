"""A real Ray cluster of two raylets on this machine, of which one is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from threading import Thread

import pytest

from efficientnet_elite.config import EngineConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.ray_cluster import RayCluster
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


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    # What the nodes are to run travels with the tasks: tests are not installed there.
    ray.cloudpickle.register_pickle_by_value(invented)
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        made.add_node(**small)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(invented)


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

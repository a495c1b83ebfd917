"""A search on a Ray of its own, in a process that tests kill or whose Ray they kill."""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.ray_cluster import RayCluster
from efficientnet_elite.search.workdir import lock
from tests.support import invented
from tests.support.invented import Invented, ledger_of
from tests.support.searches import CONFIG, GROUPS


def search(folder: str, patience: str) -> None:
    """Searches as the command does; what it says goes to stderr."""
    ray.cloudpickle.register_pickle_by_value(invented)
    workdir = Path(folder)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        with lock(workdir), ledger_of(workdir, GROUPS, CONFIG) as ledger:
            make = Invented(seconds=1.0, log=workdir / "log")
            executor = RayCluster(make, 1, workdir, patience=float(patience))
            drive(ledger, executor, workdir, progress=False, on_message=say)
    except UserError as error:
        say(str(error))
        sys.exit(1)

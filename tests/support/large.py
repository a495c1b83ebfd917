"""Makes the ledger of a large search in moments: real decisions, invented curves, no network."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import exp
from pathlib import Path
from random import Random

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.tournament import judge_of
from tests.support.invented import POOL


def write(workdir: Path, *, groups: int, size: int = 10, epochs: int = 350, seed: int = 0) -> int:
    """Writes the ledger of a finished search; returns its number of epochs.

    Args:
      workdir: gets the ledger.
      groups: number of groups.
      size: candidates of each.
      epochs: of the whole training. With 350, a group of ten has about 470.
      seed: of the curves.
    """
    random = Random(seed)
    config = SearchConfig(train=TrainConfig(epochs=epochs), round_epochs=4, first_elimination=8)
    meta = {
        "config": asdict(config),
        "validation_images": 5000,
        "data": {
            "name": "invented",
            "score": "top-1",
            "labels": ["cat", "dog"],
            "sizes": {"train": 20000, "validation": 5000, "test": 5000},
            "skipped": [],
            "fingerprint": "f00d",
        },
        "versions": {"python": "3.11.9"},
        "machine": "a board",
        "started": "2025-01-02T03:04:05+00:00",
    }
    judge, total = judge_of(meta), 0
    with Ledger(workdir, create=True) as ledger:
        ledger._db.execute("PRAGMA synchronous=OFF")
        member = POOL[0]
        names = [[f"g{group}c{place}" for place in range(size)] for group in range(groups)]
        ledger.start(
            [
                replace(member, name=name, spec=replace(member.spec, name=name), group=group)
                for group, members in enumerate(names)
                for name in members
            ],
            meta,
        )
        for group, members in enumerate(names):
            levels = {name: random.uniform(0.5, 0.9) for name in members}
            scores, losses = ({name: [] for name in members} for _ in range(2))
            while True:
                standing = judge(members, scores, losses, {}, {}, None, None, ())
                if standing.finished:
                    break
                for need in standing.pending:
                    curve, level = scores[need.candidate], levels[need.candidate]
                    for epoch in range(len(curve) + 1, need.until_epoch + 1):
                        learned = 1 - exp(-epoch / 10)
                        curve.append(level * learned + random.gauss(0, 0.01))
                        losses[need.candidate].append(3 - 2.5 * level * learned)
            ledger.record_decisions(group, standing.decisions)
            rows = [
                (name, epoch, score, losses[name][epoch - 1], 10 + random.random())
                for name, curve in scores.items()
                for epoch, score in enumerate(curve, start=1)
            ]
            total += len(rows)
            with ledger._writing():
                ledger._db.executemany(
                    "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, NULL, NULL)", rows
                )
    return total

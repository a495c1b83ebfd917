"""A search that selects by int8, over invented scores, and what comes of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.record import read_record
from tests.support.invented import Invented, ledger_of

GROUPS = {0: "abcdef", 1: "ab"}
CONFIG = SearchConfig(rule="average", select="int8", round_epochs=2, train=TrainConfig(epochs=6))
# Epoch 2 leaves a, b and c; epoch 4, in int8, a and b; epoch 6 leaves b.
ACCURACIES = {"0a": 0.9, "0b": 0.8, "0c": 0.7, "0d": 0.6, "0e": 0.5, "0f": 0.4}
CHANGES = {"0a": -0.3, "0b": -0.01, "0c": None}


def outcome(workdir: Path) -> dict:
    with Ledger(workdir) as ledger:
        assert audit(read_record(ledger)).difference is None
        return {
            "scores": ledger.scores(),
            "int8": {
                name: [replace(result, seconds=0.0) for result in own.values()]
                for name, own in ledger.int8().items()
            },
            "decisions": ledger.decisions(),
            "failures": ledger.failures(),
            "champions": json.loads((workdir / "champions.json").read_text()),
        }


def search(workdir: Path, executor, said=lambda text: None) -> dict:
    with ledger_of(workdir, GROUPS, CONFIG) as ledger:
        drive(ledger, executor, workdir, progress=False, on_message=said)
    return outcome(workdir)


def invented(workdir: Path, **settings) -> Invented:
    workdir.mkdir(exist_ok=True)
    return Invented(ACCURACIES, changes=CHANGES, log=workdir / "log", **settings)


def work(workdir: Path) -> Counter[str]:
    """How often each epoch was trained; how often each candidate was measured."""
    return Counter(line.rsplit(" ", 1)[0] for line in (workdir / "log").read_text().splitlines())

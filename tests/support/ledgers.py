"""Ledgers whose epochs are recorded by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.ledger import Epoch, Ledger

POOL = pool_candidates("elite", base_resolution=32, classes=10)
CONFIG = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=6))


def start(workdir, groups, config=CONFIG, repeats=()):
    """A ledger with so many candidates in each group, named g0a, g0b, ..., all different."""
    pool = iter(POOL)
    candidates = [
        replace(next(pool), name=f"g{number}{letter}", group=number)
        for number, letters in groups.items()
        for letter in letters
    ]
    ledger = Ledger(workdir, create=True)
    ledger.start(candidates, {"config": asdict(config)}, repeats)
    return ledger, {candidate.name: candidate.spec.macs for candidate in candidates}


def train(ledger, name, *scores, seconds=1.0, first=1):
    for epoch, score in enumerate(scores, start=first):
        ledger.record_epoch(Epoch(name, epoch, score, 1.0, seconds))

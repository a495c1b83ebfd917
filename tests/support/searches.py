"""A search over invented scores, and all that must not depend on who does the work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.ledger import Ledger
from tests.support.invented import Invented, ledger_of

GROUPS = {0: "abcd", 1: "ab", 2: "abc", 3: "a"}
CONFIG = SearchConfig(round_epochs=2, first_elimination=2, train=TrainConfig(epochs=6))

# Another one, with time to be killed again and again.
LONG_GROUPS = {0: "abcdef", 1: "abcde", 2: "abcd", 3: "ab"}
LONG_CONFIG = SearchConfig(round_epochs=2, first_elimination=3, train=TrainConfig(epochs=60))


def outcome(workdir: Path) -> dict:
    """All that must not depend on workers and crashes."""
    with Ledger(workdir) as ledger:
        return {
            "epochs": {
                name: [replace(epoch, seconds=0.0) for epoch in epochs]
                for name, epochs in ledger.epochs().items()
            },
            "decisions": ledger.decisions(),
            "failures": ledger.failures(),
            "champions": json.loads((workdir / "champions.json").read_text()),
        }


def searched(
    workdir: Path,
    executor: Any,
    groups: dict[int, str],
    config: SearchConfig,
    *,
    validation_images: int = 200,
    **options: Any,
) -> dict:
    """The outcome of a new search over invented scores."""
    with ledger_of(workdir, groups, config, validation_images=validation_images) as ledger:
        drive(ledger, executor, workdir, progress=False, **options)
    return outcome(workdir)


class Killed(Exception):
    """Ends a search."""


def killed_after(
    epochs: int, workdir: Path, groups: dict[int, str], config: SearchConfig, **options: Any
) -> None:
    """Begins a search, which ends when so many epochs are on record."""
    recorded = []

    def count(epoch: object) -> None:
        recorded.append(epoch)
        if len(recorded) == epochs:
            raise Killed

    with pytest.raises(Killed):
        searched(workdir, Invented(), groups, config, on_recorded=count, **options)

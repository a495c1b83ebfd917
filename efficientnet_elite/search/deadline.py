"""The clock of a search whose time is limited.

What a clock says decides nothing by itself: the driver records what it makes of it (`Halt`).
This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from efficientnet_elite.search.budget import Pace
from efficientnet_elite.search.tournament import Halt, Standing


class Deadline:
    """A clock that goes on where the search's earlier runs have stopped it.

    Args:
      seconds: that the search may take in all.
      spent: by its earlier runs.
      clock: seconds, from any moment on.
      began: when this run began, by the same clock.
    """

    def __init__(
        self, seconds: float, spent: float, clock: Callable[[], float], began: float
    ) -> None:
        self._seconds, self._clock, self._zero = seconds, clock, began - spent

    def spent(self) -> float:
        """Seconds that the search has been running in all."""
        return self._clock() - self._zero

    def left(self) -> float:
        """Seconds to the end; negative after it."""
        return self._seconds - self.spent()


def longest(chains: Sequence[float], workers: int) -> float:
    """Time until all chains of work are done, in whatever order (Graham's bound).

    Args:
      chains: time that each takes, one worker at a time.
      workers: that work at once, at least one.
    """
    if not chains:
        return 0.0
    return sum(chains) / workers + max(chains) * (workers - 1) / workers


RESERVE = 1.05
"""How much longer champions' training may take than their epochs so far foretell."""


class Timekeeper:
    """Says when races, and at last the training of champions, have to end.

    Args:
      deadline: of the search.
      foretold: the pace that was measured before it began.
      macs: candidate, or replica, to its multiply-accumulates.
      epochs: of the whole training.
    """

    def __init__(
        self, deadline: Deadline, foretold: Pace, macs: Mapping[str, int], epochs: int
    ) -> None:
        self.deadline, self._epochs = deadline, epochs
        self._foretold = {name: foretold.cost(number).epoch for name, number in macs.items()}

    def called(
        self,
        standings: Mapping[int, Standing],
        halts: Mapping[int, Halt],
        *,
        trained: Mapping[str, tuple[int, float]],
        running: Collection[str],
        workers: int,
    ) -> dict[int, Halt]:
        """The groups whose time is up now, and that were not told so before.

        Races end as soon as what is left is only enough for training a champion of each group to
        its end, be it the slowest of those still racing; and when nothing is left. Then champions
        end, too: after the epoch that is running, or their first one. Where races are ended, ask
        again once they have.

        Args:
          standings: group to where it stands.
          halts: what groups were told before.
          trained: candidate or replica to its epochs on record, and the seconds they took.
          running: candidates of which an epoch is being trained.
          workers: that train at once.
        """
        left = self.deadline.left()
        going = {group: table for group, table in standings.items() if not table.finished}
        racing = {group: table for group, table in going.items() if table.champion is None}
        pace = self._paces(trained)
        done = {name: epochs for name, (epochs, _) in trained.items()}
        chains = [
            max((self._epochs - done[name]) * pace[name] for name in table.survivors)
            for table in going.values()
            if table.survivors
        ]
        if racing and left <= RESERVE * longest(chains, workers):
            return {group: _end_race(table, done) for group, table in racing.items()}
        if left > 0:
            return {}
        found = {}
        for group, table in going.items():
            halt, name = halts.get(group, Halt()), table.champion
            if name is not None:
                end = done[name] + 1 if name in running else max(1, done[name])
                if end < (self._epochs + 1 if halt.end is None else halt.end):
                    found[group] = replace(halt, end=min(end, self._epochs))
        return found

    def _paces(self, trained: Mapping[str, tuple[int, float]]) -> dict[str, float]:
        """Name to the seconds an epoch takes: as so far, or as foretold and as all others are."""
        spent = sum(seconds for _, seconds in trained.values())
        foretold = sum(epochs * self._foretold[name] for name, (epochs, _) in trained.items())
        slower = spent / foretold if foretold else 1.0
        return {
            name: seconds / epochs if epochs else slower * self._foretold[name]
            for name, (epochs, seconds) in trained.items()
        }


def timekeeper(
    meta: Mapping[str, Any], macs: Mapping[str, int], clock: Callable[[], float], began: float
) -> Timekeeper | None:
    """The one of a search; None where its budget is not in hours.

    Args:
      meta: settings, from the ledger.
      macs: candidate, or replica, to its multiply-accumulates.
      clock: seconds, from any moment on.
      began: when this run of the search began, by this clock.
    """
    config = meta["config"]
    if config.get("budget_hours") is None:
        return None
    limit = Deadline(3600 * config["budget_hours"], meta.get("elapsed", 0.0), clock, began)
    return Timekeeper(limit, Pace(**meta["plan"]["pace"]), macs, config["train"]["epochs"])


def _end_race(table: Standing, done: Mapping[str, int]) -> Halt:
    number = 1 + max((decision.round for decision in table.decisions), default=0)
    begun = [done[name] for name in table.survivors if done[name]]
    return Halt(number, min(begun, default=0))


def words(halt: Halt) -> str:
    """A halt in a line."""
    if halt.end is not None:
        return f"time is up, its champion has been trained for {halt.end} epochs"
    return (
        f"time is short, its race ends in round {halt.round} by the scores of epoch {halt.epoch}: "
        "what is left is for the champion"
    )

"""The clock of a search whose time is limited.

What a clock says decides nothing by itself: the driver records what follows from it (`Halt`), and
decisions follow from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from efficientnet_elite.search.budget import Pace
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.tournament import Halt, Standing


class Deadline:
    """A clock that continues from where earlier runs of the search have stopped it.

    Args:
      seconds: time that the search may take in all.
      spent: seconds that its earlier runs have taken.
      clock: a function that returns seconds, counted from any moment.
      began: when this run began, by the same clock.
    """

    def __init__(
        self, seconds: float, spent: float, clock: Callable[[], float], began: float
    ) -> None:
        self._seconds, self._clock, self._zero = seconds, clock, began - spent

    def spent(self) -> float:
        """Seconds that the search has taken in all its runs."""
        return self._clock() - self._zero

    def left(self) -> float:
        """Seconds that are left; negative when the time is over."""
        return self._seconds - self.spent()


def longest_time(chains: Sequence[float], workers: int) -> float:
    """Greatest time until all chains of work are done, whatever their order (Graham's bound).

    Args:
      chains: seconds that each chain takes; a chain is worked on by one worker at a time.
      workers: number of workers, at least one.
    """
    if not chains:
        return 0.0
    return sum(chains) / workers + max(chains) * (workers - 1) / workers


RESERVE = 1.05
"""Factor by which the training of champions may take longer than at the pace measured so far."""


class Timekeeper:
    """Says when tournaments, and in the end the training of champions, have to end.

    Args:
      deadline: clock of the search.
      pace: the pace that was measured before the search began.
      macs: candidate or repeat to its multiply-accumulates.
      schedule: of the search.
    """

    def __init__(
        self, deadline: Deadline, pace: Pace, macs: Mapping[str, int], schedule: Schedule
    ) -> None:
        self.deadline, self._schedule = deadline, schedule
        self._expected = {name: pace.cost_of(number).epoch for name, number in macs.items()}

    def halts_due(
        self,
        standings: Mapping[int, Standing],
        halts: Mapping[int, Halt],
        *,
        trained: Mapping[str, tuple[int, float]],
        running: Collection[str],
        workers: int,
    ) -> dict[int, Halt]:
        """New halts: of groups whose time is up and that do not have a halt yet.

        Tournaments end as soon as the time that is left is only just enough to train one champion
        of each group to its end, of which each may be the slowest of its racing candidates. When
        no time is left, they end as well, and then the training of champions ends, too: after the
        epoch that is running, or after their first epoch. Where tournaments are ended, call this
        again once their champions are known.

        Args:
          standings: group to where it stands.
          halts: group to its halt so far.
          trained: candidate or repeat to its epochs on record, and the seconds they took.
          running: candidates of which an epoch is being trained.
          workers: number of workers.
        """
        left = self.deadline.left()
        unfinished = {g: standing for g, standing in standings.items() if not standing.finished}
        racing = {g: standing for g, standing in unfinished.items() if standing.champion is None}
        pace = self._paces(trained)
        done = {name: epochs for name, (epochs, _) in trained.items()}
        chains = [
            max(self._ahead(standing, name, done) * pace[name] for name in standing.survivors)
            for standing in unfinished.values()
            if standing.survivors
        ]
        if racing and left <= RESERVE * longest_time(chains, workers):
            return {group: _end_now(standing, done) for group, standing in racing.items()}
        if left > 0:
            return {}
        due = {}
        for group, standing in unfinished.items():
            halt, name = halts.get(group, Halt()), standing.training
            if name is not None:
                epochs = self._epochs(standing)
                end = done[name] + 1 if name in running else max(1, done[name])
                if end < (epochs + 1 if halt.end is None else halt.end):
                    due[group] = replace(halt, end=min(end, epochs))
        return due

    def _epochs(self, standing: Standing) -> int:
        """Epochs of the training that is exported of a champion."""
        return self._schedule.final_epochs if standing.final else self._schedule.epochs

    def _ahead(self, standing: Standing, name: str, done: Mapping[str, int]) -> int:
        """Epochs that a survivor has ahead as a champion."""
        if standing.training is not None:
            return self._epochs(standing) - done[standing.training]
        return self._schedule.final_epochs or self._schedule.epochs - done[name]

    def _paces(self, trained: Mapping[str, tuple[int, float]]) -> dict[str, float]:
        """Candidate or repeat to the seconds that an epoch of it takes.

        That is the mean of its epochs so far. Where there are none it is the expected time, times
        the factor by which all others have been slower than expected.
        """
        spent = sum(seconds for _, seconds in trained.values())
        expected = sum(epochs * self._expected[name] for name, (epochs, _) in trained.items())
        slowdown = spent / expected if expected else 1.0
        return {
            name: seconds / epochs if epochs else slowdown * self._expected[name]
            for name, (epochs, seconds) in trained.items()
        }


def timekeeper(
    meta: Mapping[str, Any], macs: Mapping[str, int], clock: Callable[[], float], began: float
) -> Timekeeper | None:
    """The timekeeper of a search; None where its budget is not in hours.

    Args:
      meta: settings of the search, from the ledger.
      macs: candidate or repeat to its multiply-accumulates.
      clock: a function that returns seconds, counted from any moment.
      began: when this run of the search began, by this clock.
    """
    config = meta["config"]
    if config.get("budget_hours") is None:
        return None
    limit = Deadline(3600 * config["budget_hours"], meta.get("elapsed", 0.0), clock, began)
    return Timekeeper(limit, Pace(**meta["plan"]["pace"]), macs, schedule_of(meta))


def _end_now(standing: Standing, done: Mapping[str, int]) -> Halt:
    trained = [done[name] for name in standing.survivors if done[name]]
    return Halt(standing.next_round, min(trained, default=0))


def halt_text(halt: Halt) -> str:
    """A halt in one line."""
    if halt.end is not None:
        return f"time is up: the champion has been trained for {halt.end} epochs"
    return (
        f"time is short: the tournament ends in round {halt.round} by the scores of epoch "
        f"{halt.epoch}, and the rest of the time is for the champion"
    )

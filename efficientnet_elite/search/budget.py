"""What a search will cost, and how to plan one within a budget.

Costs are in any unit: with a cost of 1 an epoch they are epochs, with a `Pace` seconds. How many
candidates survive a cut that is too close to call is not known ahead, nor which ones do; a forecast
therefore is a range, and a plan keeps its budget in the worst case. So nothing has to be watched
while a search runs, and its decisions go on to depend on its scores alone.

Pure functions. This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from efficientnet_elite.search.outlook import stages
from efficientnet_elite.search.tournament import Schedule

SHORTEST = 4
"""Epochs of the shortest round that a plan makes of a longer one."""


@dataclass(frozen=True)
class Cost:
    """Of a candidate: an epoch's, and what comes once, such as building its graph."""

    epoch: float = 1.0
    once: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """A search's cost, failures aside.

    Attributes:
      least: no cut is too close to call, and the cheapest survive.
      most: every cut is, and the costliest survive.
    """

    least: float
    most: float

    @property
    def expected(self) -> float:
        """The middle: off by half the range at most."""
        return (self.least + self.most) / 2


class TooSmallError(Exception):
    """A budget that suffices for no search.

    Attributes:
      least: the smallest budget that would do, in the unit of the costs.
      groups: that each need a champion.
    """

    def __init__(self, least: float, groups: int) -> None:
        super().__init__(f"{groups} groups need at least {least:g}")
        self.least, self.groups = least, groups


@dataclass(frozen=True)
class Plan:
    """A search within its budget.

    Attributes:
      schedule: with the length of the rounds.
      count: how many of the candidates take part, from the first on.
      forecast: of what it will cost.
    """

    schedule: Schedule
    count: int
    forecast: Forecast


@dataclass(frozen=True)
class Pace:
    """How long one worker takes, in seconds; a straight line over multiply-accumulates.

    Attributes:
      epoch: of an epoch, whatever the network.
      per_mac: of an epoch, for each multiply-accumulate of one image.
      build: of a graph.
    """

    epoch: float
    per_mac: float
    build: float

    def cost(self, macs: int) -> Cost:
        """Of a candidate with so many multiply-accumulates an image."""
        return Cost(self.epoch + self.per_mac * macs, self.build)

    @classmethod
    def fit(cls, samples: Mapping[int, float], build: float) -> Pace:
        """Least squares through (multiply-accumulates, seconds an epoch), neither part below 0."""
        x, y = fmean(samples), fmean(samples.values())
        variance = sum((macs - x) ** 2 for macs in samples)
        covariance = sum((macs - x) * (seconds - y) for macs, seconds in samples.items())
        slope = max(0.0, covariance / variance) if variance else y / x
        if slope * x >= y:
            return cls(0.0, y / x, build)
        return cls(y - slope * x, slope, build)


def median(costs: Sequence[Cost]) -> int:
    """Place of the candidate of a group whose noise is measured: of median cost, or just above."""
    return sorted(range(len(costs)), key=lambda place: costs[place].epoch)[len(costs) // 2]


def forecast(
    groups: Sequence[Sequence[Cost]], schedule: Schedule, *, workers: int = 1, seeds: int = 1
) -> Forecast:
    """What groups of candidates will cost, one of each group trained with so many seeds.

    With several workers it is the time until all are done: at least an equal share of everything
    and the longest champion's training; at most (Graham's bound for any order of work) an equal
    share of all but that training, and then that training.
    """
    least = sum(_total(costs, schedule, seeds, worst=False) for costs in groups)
    most = sum(_total(costs, schedule, seeds, worst=True) for costs in groups)
    if workers == 1:
        return Forecast(least, most)
    chains = [[c.once + schedule.epochs * c.epoch for c in costs] for costs in groups if costs]
    shortest = max((min(chain) for chain in chains), default=0.0)
    longest = max((max(chain) for chain in chains), default=0.0)
    return Forecast(
        max(least / workers, shortest), most / workers + longest * (workers - 1) / workers
    )


def epochs(size: int, schedule: Schedule, *, seeds: int = 1) -> Forecast:
    """Epochs that a group of ``size`` candidates will be trained for; ``seeds``: see `forecast`."""
    return forecast([[Cost()] * size], schedule, seeds=seeds)


def _total(costs: Sequence[Cost], schedule: Schedule, seeds: int, *, worst: bool) -> float:
    ordered = sorted((cost.epoch for cost in costs), reverse=worst)
    racing = stages(len(costs), schedule, close=worst, measured=seeds > 1)
    total = sum(cost.once for cost in costs)
    if seeds > 1 and len(costs) > 1:
        again = costs[median(costs)]
        total += (seeds - 1) * (again.once + schedule.cut(1) * again.epoch)
    return total + sum(length * sum(ordered[:count]) for count, length in racing)


def plan(
    entrants: Sequence[tuple[int, Cost]],
    schedule: Schedule,
    budget: float,
    *,
    workers: int = 1,
    seeds: int = 1,
) -> Plan:
    """The search of a budget: the largest that keeps it however close the cuts turn out.

    Rounds become shorter first, epoch by epoch, down to `SHORTEST`; then candidates become fewer,
    down to one a group. The training of champions is never shortened.

    Args:
      entrants: group and cost of each candidate. Who comes first stays longest: groups should take
        turns, so that none is empty before all have one.
      schedule: as asked for.
      budget: in the unit of the costs.
      workers: that train at once.
      seeds: see `forecast`.

    Raises:
      TooSmallError: one candidate in every group is too much already.
    """

    def most(schedule: Schedule, count: int) -> float:
        return _forecast(entrants[:count], schedule, workers, seeds).most

    floor = min(schedule.round_epochs, SHORTEST)
    for length in range(schedule.round_epochs, floor - 1, -1):
        shorter = replace(schedule, round_epochs=length)
        if most(shorter, len(entrants)) <= budget:
            return _plan(entrants, shorter, len(entrants), workers, seeds)
    groups = len({group for group, _ in entrants})
    counts = range(groups, len(entrants))
    # More candidates do not cost less, the choice of whom to repeat apart.
    fitting = bisect_right(counts, budget, key=lambda count: most(shorter, count))
    if not fitting:
        raise TooSmallError(most(shorter, groups), groups)
    return _plan(entrants, shorter, counts[fitting - 1], workers, seeds)


def _plan(
    entrants: Sequence[tuple[int, Cost]], schedule: Schedule, count: int, workers: int, seeds: int
) -> Plan:
    return Plan(schedule, count, _forecast(entrants[:count], schedule, workers, seeds))


def _forecast(
    entrants: Sequence[tuple[int, Cost]], schedule: Schedule, workers: int, seeds: int
) -> Forecast:
    groups: dict[int, list[Cost]] = {}
    for group, cost in entrants:
        groups.setdefault(group, []).append(cost)
    return forecast(list(groups.values()), schedule, workers=workers, seeds=seeds)

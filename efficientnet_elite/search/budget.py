"""What a search will cost, and how to plan one within a budget. Pure functions.

Costs are in any unit: with a cost of 1 per epoch they are epochs, with a `Pace` they are seconds.
It is not known before how many candidates go on after an elimination that is too close to call, nor
which ones. A forecast therefore is a range, and a plan keeps its budget in the worst case, so that
decisions during the search depend on scores alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from efficientnet_elite.search.outlook import further_epochs, stages
from efficientnet_elite.search.rules import find_rule
from efficientnet_elite.search.schedule import Schedule


@dataclass(frozen=True)
class TrainingCost:
    """What training a candidate costs, in any unit.

    Attributes:
      epoch: cost of one epoch.
      once: cost that arises once, such as that of building its graph.
    """

    epoch: float = 1.0
    once: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """The range in which the cost of a search will lie, failures aside.

    Attributes:
      least: cost if no elimination is too close to call and the cheapest candidates go on.
      most: cost if every elimination is too close to call and the costliest candidates go on.
    """

    least: float
    most: float

    @property
    def expected(self) -> float:
        """The middle of the range."""
        return (self.least + self.most) / 2


class TooSmallError(Exception):
    """A budget that is too small for any search.

    Attributes:
      least: the smallest budget that would suffice, in the unit of the costs.
      groups: number of cost groups, each of which needs a champion.
    """

    def __init__(self, least: float, groups: int) -> None:
        super().__init__(f"{groups} groups need at least {least:g}")
        self.least, self.groups = least, groups


@dataclass(frozen=True)
class SearchPlan:
    """Rounds and candidates that fit a budget.

    Attributes:
      schedule: schedule with the length of the rounds.
      count: how many of the candidates take part, from the first on.
      forecast: what the search will cost.
    """

    schedule: Schedule
    count: int
    forecast: Forecast


@dataclass(frozen=True)
class Pace:
    """Seconds that one worker takes, as a straight line over multiply-accumulates.

    Attributes:
      epoch: seconds of an epoch that do not depend on the network.
      per_mac: seconds of an epoch for each multiply-accumulate of one image.
      build: seconds for building a graph.
      workers: how many workers train at the same time at this pace.
    """

    epoch: float
    per_mac: float
    build: float
    workers: int = 1

    def cost_of(self, macs: int) -> TrainingCost:
        """Cost in seconds of a candidate with so many multiply-accumulates for one image."""
        return TrainingCost(self.epoch + self.per_mac * macs, self.build)

    @classmethod
    def fit(cls, samples: Mapping[int, float], build: float, workers: int = 1) -> Pace:
        """A fit by least squares, with no coefficient below 0.

        Args:
          samples: multiply-accumulates of one image to seconds of an epoch.
          build: seconds for building a graph.
          workers: how many workers were measured at the same time.
        """
        x, y = fmean(samples), fmean(samples.values())
        variance = sum((macs - x) ** 2 for macs in samples)
        covariance = sum((macs - x) * (seconds - y) for macs, seconds in samples.items())
        slope = max(0.0, covariance / variance) if variance else y / x
        if slope * x >= y:
            return cls(0.0, y / x, build, workers)
        return cls(y - slope * x, slope, build, workers)


def repeated_place(costs: Sequence[TrainingCost]) -> int:
    """Place of the candidate of a group that is repeated to measure noise: the one of median cost.

    Of an even number of candidates it is the costlier of the two in the middle.
    """
    return sorted(range(len(costs)), key=lambda place: costs[place].epoch)[len(costs) // 2]


def forecast(
    groups: Sequence[Sequence[TrainingCost]],
    schedule: Schedule,
    *,
    workers: int = 1,
    seeds: int = 1,
) -> Forecast:
    """What groups of candidates will cost.

    With several workers it is the time until all are done: at least an equal share of everything
    and the longest champion's training; at most (Graham's bound for any order of work) an equal
    share of all but that training, and then that training.

    Args:
      groups: costs of the candidates of each group.
      schedule: schedule of the search.
      workers: number of workers.
      seeds: with how many seeds one candidate of each group is trained, to measure noise.
    """
    least = sum(_total(costs, schedule, seeds, worst=False) for costs in groups)
    most = sum(_total(costs, schedule, seeds, worst=True) for costs in groups)
    if workers == 1:
        return Forecast(least, most)
    final = schedule.final_epochs
    chains = [[_training(c, schedule.epochs) for c in costs] for costs in groups if costs]
    finals = [[_training(c, final) for c in costs] for costs in groups if costs and final]
    shortest = max((min(chain) for chain in finals or chains), default=0.0)
    longest = max((max(chain) for chain in chains), default=0.0)
    longest += max((max(chain) for chain in finals), default=0.0)
    # A champion's training may have to wait for a further one of a finalist.
    longest += max((_further(costs, schedule, seeds, 1) for costs in groups), default=0.0)
    return Forecast(
        max(least / workers, shortest), most / workers + longest * (workers - 1) / workers
    )


def forecast_epochs(size: int, schedule: Schedule, *, seeds: int = 1) -> Forecast:
    """Epochs that a group of ``size`` candidates will be trained for, see `forecast`."""
    return forecast([[TrainingCost()] * size], schedule, seeds=seeds)


def _training(cost: TrainingCost, epochs: int) -> float:
    return cost.once + epochs * cost.epoch


def _total(costs: Sequence[TrainingCost], schedule: Schedule, seeds: int, *, worst: bool) -> float:
    ordered = sorted((cost.epoch for cost in costs), reverse=worst)
    rounds = stages(len(costs), schedule, close=worst, measured=seeds > 1)
    total = sum(cost.once for cost in costs)
    if schedule.final_epochs:
        total += max((cost.once for cost in costs), default=0.0)
    if seeds > 1 and len(costs) > 1:
        repeated = costs[repeated_place(costs)]
        until = schedule.elimination_epoch(1)
        total += (seeds - 1) * (repeated.once + until * repeated.epoch)
    if worst:
        total += schedule.further * _further(costs, schedule, seeds, 2)
    return total + sum(length * sum(ordered[:count]) for count, length in rounds)


def _further(costs: Sequence[TrainingCost], schedule: Schedule, seeds: int, count: int) -> float:
    """The most that a further training of each of so many finalists of a group costs."""
    until = further_epochs(len(costs), schedule, measured=seeds > 1)
    each = sorted((cost.once + until * cost.epoch for cost in costs), reverse=True)
    return sum(each[:count]) if until else 0.0


def plan_search(
    entrants: Sequence[tuple[int, TrainingCost]],
    schedule: Schedule,
    budget: float,
    *,
    workers: int = 1,
    seeds: int = 1,
) -> SearchPlan:
    """The largest search that keeps a budget, however close the eliminations turn out.

    First rounds become shorter, epoch by epoch, down to `Rule.shortest_round` of the rule. If that
    does not suffice, finalists get no further trainings, and as much of the rounds as possible is
    kept. Then candidates are left out, down to one in each group. The training of champions is
    never shortened, nor their final training.

    Args:
      entrants: group and cost of each candidate. Those at the end are left out first: groups should
        take turns, so that no group is empty before all have one candidate.
      schedule: the schedule that was asked for.
      budget: in the unit of the costs.
      workers: number of workers.
      seeds: see `forecast`.

    Raises:
      TooSmallError: one candidate in every group costs too much already.
    """

    def most(schedule: Schedule, count: int) -> float:
        return _forecast(entrants[:count], schedule, workers, seeds).most

    asked = schedule.round_epochs
    shortest = min(asked, find_rule(schedule.rule).shortest_round)
    for seed in dict.fromkeys((schedule.finalist_seed, None)):
        for length in range(asked, shortest - 1, -1):
            shorter = replace(schedule, round_epochs=length, finalist_seed=seed)
            if most(shorter, len(entrants)) <= budget:
                return _plan(entrants, shorter, len(entrants), workers, seeds)
    groups = len({group for group, _ in entrants})
    counts = range(groups, len(entrants))
    # The cost grows with the number of candidates, except that another one may be repeated.
    fitting = bisect_right(counts, budget, key=lambda count: most(shorter, count))
    if not fitting:
        raise TooSmallError(most(shorter, groups), groups)
    return _plan(entrants, shorter, counts[fitting - 1], workers, seeds)


def _plan(
    entrants: Sequence[tuple[int, TrainingCost]],
    schedule: Schedule,
    count: int,
    workers: int,
    seeds: int,
) -> SearchPlan:
    return SearchPlan(schedule, count, _forecast(entrants[:count], schedule, workers, seeds))


def _forecast(
    entrants: Sequence[tuple[int, TrainingCost]], schedule: Schedule, workers: int, seeds: int
) -> Forecast:
    groups: dict[int, list[TrainingCost]] = {}
    for group, cost in entrants:
        groups.setdefault(group, []).append(cost)
    return forecast(list(groups.values()), schedule, workers=workers, seeds=seeds)

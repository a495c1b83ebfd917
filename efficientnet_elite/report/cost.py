"""What the search was to cost, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.search import budget
from efficientnet_elite.search import summary as summary_lib
from efficientnet_elite.search.budget import Forecast, Pace, forecast
from efficientnet_elite.search.ledger import Epoch, Replica
from efficientnet_elite.search.summary import Group, Summary, schedule_of
from efficientnet_elite.search.tournament import Schedule, scores_by_seed


@dataclass(frozen=True)
class Planned:
    """A forecast.

    Attributes:
      of: ``epochs``, or ``seconds`` of training and graph building, all workers' together.
      least, most: the range that was forecast, failures aside.
      budget: that it had to keep; None where there was none.
      spent: so far.
      left: still to come; None where not known.
      clock: seconds that all runs of the search have taken, which a budget in hours is of; None for
        epochs.
    """

    of: str
    least: float
    most: float
    budget: float | None
    spent: float
    left: float | None
    clock: float | None = None

    @property
    def verdict(self) -> str | None:
        """How what came compares with the forecast; None where nothing can be said yet."""
        if self.left is None or (self.left and self.spent <= self.most):
            return None
        if self.spent > self.most:
            return "above"
        return "within" if self.spent >= self.least else "below"


def planned(meta: Mapping[str, Any], summary: Summary, total: Cost) -> list[Planned]:
    """What was forecast: epochs, and seconds where the pace was measured for a budget in hours.

    Args:
      meta: the ledger's settings.
      summary: where the search stands.
      total: cost of all groups together.
    """
    plan, config = meta.get("plan"), meta["config"]
    if plan is None:
        return []
    epochs = Planned(
        "epochs",
        plan["epochs"]["least"],
        plan["epochs"]["most"],
        config["budget_epochs"],
        total.epochs_trained,
        total.epochs_left,
    )
    if plan["pace"] is None:
        return [epochs]
    hours, pace, spent = config["budget_hours"], Pace(**plan["pace"]), summary.seconds
    groups = [[pace.cost(member.macs) for member in group.members] for group in summary.groups]
    # On one worker: workers that wait for each other train none the more.
    foretold = forecast(groups, schedule_of(meta), seeds=config["seeds"])
    seconds = Planned(
        "seconds",
        foretold.least,
        foretold.most,
        None if hours is None else 3600 * hours,
        spent["training"] + spent.get("graph building", 0.0),
        summary.seconds_left,
        meta.get("elapsed", 0.0),
    )
    return [epochs, seconds]


@dataclass(frozen=True)
class Repeat:
    """One of these trainings.

    Attributes:
      name: the candidate's, or the replica's.
      candidate: whose network it is.
      group: the candidate's.
      seed: added to the search's; 0 for the candidate itself.
      epoch: the first cut, after which the scores are compared.
      score: the rule's of the epochs up to then, see `scores_by_seed`; None before them.
      failure: why its training could not go on; None where it did not fail.
    """

    name: str
    candidate: str
    group: int
    seed: int
    epoch: int
    score: float | None
    failure: str | None


def repeats(
    replicas: Sequence[Replica],
    summary: Summary,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    failures: Mapping[str, str],
) -> list[Repeat]:
    """Every network's trainings, the candidate's own first; groups in their order."""
    groups = {member.name: group.number for group in summary.groups for member in group.members}
    trainings = sorted(summary_lib.repeats(replicas).items(), key=lambda t: (groups[t[0]], t[0]))
    seeds = {replica.name: replica.seed for replica in replicas}
    accuracies, losses = summary_lib.curves(epochs)
    found = []
    for candidate, names in trainings:
        scores = scores_by_seed(names, accuracies, losses, schedule)
        for name in names:
            # A candidate that failed later has been measured.
            failure = None if name in scores else failures.get(name)
            seed, score = seeds.get(name, 0), scores.get(name)
            group, epoch = groups[candidate], schedule.cut(1)
            found.append(Repeat(name, candidate, group, seed, epoch, score, failure))
    return found


@dataclass(frozen=True)
class Cost:
    """Forecast and actual cost of a group, or of all.

    Work is counted in multiply-accumulates of one image, summed over epochs: times the number of
    training images and three (forward, and twice as much backward) it is that of the training.

    Attributes:
      group: its number; None for all together.
      candidates: that took part.
      replicas: further trainings, which measure the noise; their cost is counted in.
      epochs_planned, work_planned: forecast before the first epoch, failures aside.
      epochs_trained, work_trained: recorded.
      epochs_left: still to be trained.
      seconds: of training and validation, recorded.
    """

    group: int | None
    candidates: int
    replicas: int
    epochs_planned: Forecast
    work_planned: Forecast
    epochs_trained: int
    work_trained: float
    epochs_left: int
    seconds: float

    @property
    def epochs_off(self) -> float:
        """Relative difference of the epochs, trained and still to be, from those expected."""
        return (self.epochs_trained + self.epochs_left) / self.epochs_planned.expected - 1

    @property
    def work_off(self) -> float | None:
        """Relative difference of the work from that expected; None before all is trained."""
        return None if self.epochs_left else self.work_trained / self.work_planned.expected - 1


def costs(
    summary: Summary,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    replicas: Sequence[Replica] = (),
) -> list[Cost]:
    """Costs by group, the heaviest first, and of all together.

    Args:
      summary: where the search stands.
      schedule: that it was planned with.
      epochs: candidate or replica to its recorded epochs.
      replicas: of the search.
    """
    groups = [_cost(group, schedule, epochs, replicas) for group in summary.groups]
    total = Cost(
        group=None,
        candidates=sum(c.candidates for c in groups),
        replicas=sum(c.replicas for c in groups),
        epochs_planned=_sum([c.epochs_planned for c in groups]),
        work_planned=_sum([c.work_planned for c in groups]),
        epochs_trained=sum(c.epochs_trained for c in groups),
        work_trained=sum(c.work_trained for c in groups),
        epochs_left=sum(c.epochs_left for c in groups),
        seconds=sum(c.seconds for c in groups),
    )
    return [*groups, total]


def _cost(
    group: Group,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    replicas: Sequence[Replica],
) -> Cost:
    macs = {member.name: member.macs for member in group.members}
    again = {r.name: macs[r.candidate] for r in replicas if r.candidate in macs}
    trained = {name: epochs.get(name, ()) for name in (*macs, *again)}

    def planned(costs: Sequence[budget.Cost]) -> Forecast:
        # All replicas of a group are of one candidate.
        return budget.forecast([costs], schedule, seeds=1 + len(again))

    return Cost(
        group=group.number,
        candidates=len(macs),
        replicas=len(again),
        epochs_planned=planned([budget.Cost()] * len(macs)),
        work_planned=planned([budget.Cost(float(cost)) for cost in macs.values()]),
        epochs_trained=sum(map(len, trained.values())),
        work_trained=sum(float(len(trained[n]) * cost) for n, cost in (macs | again).items()),
        epochs_left=group.epochs_left,
        seconds=sum(epoch.seconds for own in trained.values() for epoch in own),
    )


def _sum(forecasts: Sequence[Forecast]) -> Forecast:
    return Forecast(sum(f.least for f in forecasts), sum(f.most for f in forecasts))

"""What the search was to cost, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite import budget
from efficientnet_elite.budget import Forecast
from efficientnet_elite.ledger import Epoch, Replica
from efficientnet_elite.summary import Group, Summary
from efficientnet_elite.tournament import Schedule


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

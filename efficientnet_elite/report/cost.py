"""What the search was to cost, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from efficientnet_elite.ledger import Epoch
from efficientnet_elite.summary import Group, Summary


@dataclass(frozen=True)
class Cost:
    """Forecast and actual cost of a group, or of all.

    Work is counted in multiply-accumulates of one image, summed over epochs: times the number of
    training images and three (forward, and twice as much backward) it is that of the training.

    Attributes:
      group: its number; None for all together.
      candidates: that took part.
      epochs_planned, work_planned: forecast before the first epoch. Who survives was not known
        then, so that every epoch costs the mean of the group.
      epochs_trained, work_trained: recorded.
      epochs_left: still to be trained.
      seconds: of training and validation, recorded.
    """

    group: int | None
    candidates: int
    epochs_planned: int
    work_planned: float
    epochs_trained: int
    work_trained: float
    epochs_left: int
    seconds: float

    @property
    def epochs_off(self) -> float:
        """Relative difference of the epochs, trained and still to be, from those planned."""
        return (self.epochs_trained + self.epochs_left) / self.epochs_planned - 1

    @property
    def work_off(self) -> float | None:
        """Relative difference of the work from that planned; None before all is trained."""
        return None if self.epochs_left else self.work_trained / self.work_planned - 1


def costs(summary: Summary, epochs: Mapping[str, Sequence[Epoch]]) -> list[Cost]:
    """Costs by group, the heaviest first, and of all together."""
    groups = [_cost(group, epochs) for group in summary.groups]
    total = Cost(
        group=None,
        candidates=sum(c.candidates for c in groups),
        epochs_planned=sum(c.epochs_planned for c in groups),
        work_planned=sum(c.work_planned for c in groups),
        epochs_trained=sum(c.epochs_trained for c in groups),
        work_trained=sum(c.work_trained for c in groups),
        epochs_left=sum(c.epochs_left for c in groups),
        seconds=sum(c.seconds for c in groups),
    )
    return [*groups, total]


def _cost(group: Group, epochs: Mapping[str, Sequence[Epoch]]) -> Cost:
    members = group.members
    return Cost(
        group=group.number,
        candidates=len(members),
        epochs_planned=group.epochs_planned,
        work_planned=group.epochs_planned * fmean(m.macs for m in members),
        epochs_trained=sum(m.epochs_done for m in members),
        work_trained=sum(float(m.epochs_done * m.macs) for m in members),
        epochs_left=group.epochs_left,
        seconds=sum(epoch.seconds for m in members for epoch in epochs.get(m.name, ())),
    )

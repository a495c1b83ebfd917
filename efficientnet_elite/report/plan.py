"""What was planned before the search began, beside what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.budget import Pace, forecast
from efficientnet_elite.report.cost import Cost
from efficientnet_elite.summary import Summary, schedule_of


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

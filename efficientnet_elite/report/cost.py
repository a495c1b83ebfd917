"""What a search was forecast to cost, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.search.budget import Forecast, Pace, TrainingCost, forecast
from efficientnet_elite.search.ledger import Epoch
from efficientnet_elite.search.noise import Repeat, scores_by_seed, trainings_by_candidate
from efficientnet_elite.search.record import curves
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.summary import Group, Summary


@dataclass(frozen=True)
class ForecastCheck:
    """A forecast and what was spent.

    Attributes:
      unit: ``epochs``, or ``seconds`` of training and graph building, of all workers together.
      least, most: the range that was forecast, failures aside.
      budget: the budget; None where there was none.
      spent: what was spent so far.
      left: what is still to come; None where that is not known.
      clock: seconds that all runs of the search have taken, which a budget in hours limits; None
        for epochs.
    """

    unit: str
    least: float
    most: float
    budget: float | None
    spent: float
    left: float | None
    clock: float | None = None

    @property
    def verdict(self) -> str | None:
        """``below``, ``within`` or ``above`` the forecast; None where that cannot be said yet."""
        if self.left is None or (self.left and self.spent <= self.most):
            return None
        if self.spent > self.most:
            return "above"
        return "within" if self.spent >= self.least else "below"


def compare_with_forecast(
    meta: Mapping[str, Any], summary: Summary, total: GroupCost
) -> list[ForecastCheck]:
    """Forecast and actual: epochs, and seconds where the pace was measured for a budget in hours.

    Args:
      meta: settings of the search, from the ledger.
      summary: where the search stands.
      total: cost of all groups together.
    """
    plan, config = meta.get("plan"), meta["config"]
    if plan is None:
        return []
    epochs = ForecastCheck(
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
    groups = [[pace.cost_of(member.macs) for member in group.members] for group in summary.groups]
    # Forecast for one worker, since the time that workers wait for each other is not training.
    expected = forecast(groups, schedule_of(meta), seeds=config["seeds"])
    seconds = ForecastCheck(
        "seconds",
        expected.least,
        expected.most,
        None if hours is None else 3600 * hours,
        spent["training"] + spent.get("graph building", 0.0),
        summary.seconds_left,
        meta.get("elapsed", 0.0),
    )
    return [epochs, seconds]


@dataclass(frozen=True)
class Training:
    """One of the trainings that measure the noise of a score.

    Attributes:
      name: name of the candidate or repeat.
      candidate: the candidate that is trained.
      group: its group.
      seed: added to the seed of the search; 0 for the candidate itself.
      epoch: epoch of the first elimination, after which the scores are compared.
      score: score by the rule from the epochs up to then, see `scores_by_seed`; None before them.
      failure: why its training failed; None where it did not.
    """

    name: str
    candidate: str
    group: int
    seed: int
    epoch: int
    score: float | None
    failure: str | None


def noise_trainings(
    repeats: Sequence[Repeat],
    summary: Summary,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    failures: Mapping[str, str],
) -> list[Training]:
    """The trainings of each repeated candidate, its own one first; groups in their order."""
    group_of = {member.name: group.number for group in summary.groups for member in group.members}
    by_candidate = sorted(
        trainings_by_candidate(repeats).items(), key=lambda item: (group_of[item[0]], item[0])
    )
    seeds = {repeat.name: repeat.seed for repeat in repeats}
    accuracies, losses = curves(epochs)
    result = []
    for candidate, names in by_candidate:
        scores = scores_by_seed(names, accuracies, losses, schedule)
        result += [
            Training(
                name=name,
                candidate=candidate,
                group=group_of[candidate],
                seed=seeds.get(name, 0),
                epoch=schedule.elimination_epoch(1),
                score=scores.get(name),
                # A candidate that failed later has been measured.
                failure=None if name in scores else failures.get(name),
            )
            for name in names
        ]
    return result


@dataclass(frozen=True)
class GroupCost:
    """Forecast and actual cost of a group, or of all groups together.

    Work is counted in multiply-accumulates of one image, summed over epochs. The work of the whole
    training is that times the number of training images, times three, because the backward pass
    takes twice as much as the forward pass.

    Attributes:
      group: number of the group; None for all together.
      candidates: number of candidates that took part.
      repeats: number of repeats, which measure the noise; their cost is included, as that of the
        further trainings of finalists and the final ones of champions.
      epochs_forecast, work_forecast: forecast before the first epoch, failures aside.
      epochs_trained, work_trained: recorded so far.
      epochs_left: epochs still to be trained.
      seconds: recorded seconds of training and validation.
    """

    group: int | None
    candidates: int
    repeats: int
    epochs_forecast: Forecast
    work_forecast: Forecast
    epochs_trained: int
    work_trained: float
    epochs_left: int
    seconds: float

    @property
    def epochs_off(self) -> float:
        """Relative difference of the epochs, trained and left, from the middle of the forecast."""
        return (self.epochs_trained + self.epochs_left) / self.epochs_forecast.expected - 1

    @property
    def work_off(self) -> float | None:
        """Relative difference of the work from the middle of the forecast; None before the end."""
        return None if self.epochs_left else self.work_trained / self.work_forecast.expected - 1


def group_costs(
    summary: Summary,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    repeats: Sequence[Repeat] = (),
    further: Sequence[Repeat] = (),
) -> list[GroupCost]:
    """Costs of each group, the heaviest first, and at the end of all together.

    Args:
      summary: where the search stands.
      schedule: the schedule that it was planned with.
      epochs: candidate or repeat to its recorded epochs.
      repeats: repeats of the search, which measure the noise.
      further: what candidates may be trained for as finalists and champions.
    """
    groups = [_group_cost(group, schedule, epochs, repeats, further) for group in summary.groups]
    total = GroupCost(
        group=None,
        candidates=sum(cost.candidates for cost in groups),
        repeats=sum(cost.repeats for cost in groups),
        epochs_forecast=_sum([cost.epochs_forecast for cost in groups]),
        work_forecast=_sum([cost.work_forecast for cost in groups]),
        epochs_trained=sum(cost.epochs_trained for cost in groups),
        work_trained=sum(cost.work_trained for cost in groups),
        epochs_left=sum(cost.epochs_left for cost in groups),
        seconds=sum(cost.seconds for cost in groups),
    )
    return [*groups, total]


def _group_cost(
    group: Group,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    repeats: Sequence[Repeat],
    further: Sequence[Repeat],
) -> GroupCost:
    macs = {member.name: member.macs for member in group.members}
    repeat_macs = {r.name: macs[r.candidate] for r in repeats if r.candidate in macs}
    further_macs = {r.name: macs[r.candidate] for r in further if r.candidate in macs}
    all_macs = macs | repeat_macs | further_macs
    trained = {name: epochs.get(name, ()) for name in all_macs}

    def forecast_for(costs: Sequence[TrainingCost]) -> Forecast:
        # All repeats of a group are of one candidate.
        return forecast([costs], schedule, seeds=1 + len(repeat_macs))

    return GroupCost(
        group=group.number,
        candidates=len(macs),
        repeats=len(repeat_macs),
        epochs_forecast=forecast_for([TrainingCost()] * len(macs)),
        work_forecast=forecast_for([TrainingCost(float(count)) for count in macs.values()]),
        epochs_trained=sum(map(len, trained.values())),
        work_trained=sum(float(len(trained[name]) * count) for name, count in all_macs.items()),
        epochs_left=group.epochs_left,
        seconds=sum(epoch.seconds for done in trained.values() for epoch in done),
    )


def _sum(forecasts: Sequence[Forecast]) -> Forecast:
    return Forecast(sum(f.least for f in forecasts), sum(f.most for f in forecasts))

"""The plan of a new search: the rounds and candidates that fit its budget, if it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from decimal import ROUND_UP, Context
from math import ceil
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import budget
from efficientnet_elite.search.budget import (
    Forecast,
    Pace,
    SearchPlan,
    TooSmallError,
    TrainingCost,
)
from efficientnet_elite.search.candidates import Candidate, sample_candidates
from efficientnet_elite.search.noise import Repeat, finalist_trainings
from efficientnet_elite.search.schedule import Schedule, make_schedule, with_finalists
from efficientnet_elite.text import duration

MARGIN = 0.1
"""Share of a budget in hours that is held in reserve: for reading the images, for measuring the
pace, and for chance."""


def plan_candidates(
    candidates: Sequence[Candidate],
    config: SearchConfig,
    pace: Pace | None = None,
) -> tuple[tuple[Candidate, ...], dict[str, Any], str]:
    """Chooses the candidates that are trained, within the budget of the search.

    Args:
      candidates: candidates within the limits, in order of preference; the order is kept.
      config: settings of the search.
      pace: pace of the workers; needed for, and only for, a budget in hours.

    Returns:
      The candidates, the plan as the ledger records it, and a line about it for the user.

    Raises:
      UserError: the budget is too small for one candidate in every group.
    """
    asked = make_schedule(
        config.rule, config.train.epochs, config.round_epochs, config.first_elimination
    )
    if 0 < config.final_epochs <= config.train.epochs:
        raise UserError(
            f"final_epochs={config.final_epochs}: must be more than epochs={config.train.epochs}, "
            "which champions are trained for without it, or 0"
        )
    asked = with_finalists(asked, config.finalist_seeds, config.seeds, config.data.folds)
    asked = replace(asked, final_epochs=config.final_epochs)
    by_turns = sample_candidates(candidates, len(candidates), config.seed)
    limit, unit = float("inf"), 1.0
    if config.budget_epochs is not None:
        limit = config.budget_epochs
    if config.budget_hours is not None:
        unit = 3600 * (1 - MARGIN)
        limit = config.budget_hours * unit
    try:
        plan = budget.plan_search(
            [(c.group, pace.cost_of(c.spec.macs) if pace else TrainingCost()) for c in by_turns],
            asked,
            limit,
            workers=pace.workers if pace else 1,
            seeds=config.seeds,
        )
    except TooSmallError as error:
        given, least = f"budget_epochs={config.budget_epochs}", str(ceil(error.least))
        if pace:
            hours = error.least / unit * (1 + 1e-12)  # enough also when it is multiplied back
            given, least = f"budget_hours={config.budget_hours}", _rounded_up(hours)
        lengths = "--final_epochs" if config.final_epochs else "--epochs"
        raise UserError(
            f"{given}: champions in {error.groups} groups need {least} at least: allow more, or "
            f"ask for fewer --groups or {lengths}"
        ) from error
    names = {candidate.name for candidate in by_turns[: plan.count]}
    chosen = tuple(candidate for candidate in candidates if candidate.name in names)
    sizes = [sum(c.group == group for c in chosen) for group in {c.group for c in chosen}]
    epochs = budget.forecast(
        [[TrainingCost()] * size for size in sizes], plan.schedule, seeds=config.seeds
    )
    recorded = {
        "round_epochs": plan.schedule.round_epochs,
        "finalist_seeds": 1 + plan.schedule.further,  # trainings of a finalist, its own included
        "candidates": plan.count,
        "candidates_left_out": len(candidates) - plan.count,
        "epochs": asdict(epochs),
        "pace": asdict(pace) if pace else None,
        "seconds": asdict(plan.forecast) if pace else None,
        "workers": pace.workers if pace else None,
    }
    return chosen, recorded, _text(plan, asked, len(candidates), epochs, in_time=pace is not None)


def choose_repeats(candidates: Sequence[Candidate], config: SearchConfig) -> list[Repeat]:
    """The repeats of a search: in every group of more than one, of its candidate of median cost.

    UserError where a candidate has the name of one of them, or of a further or final training of
    another candidate.
    """
    seeds = config.seeds
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    repeated = [
        members[budget.repeated_place([TrainingCost(float(m.spec.macs)) for m in members])].name
        for members in groups.values()
        if len(members) > 1
    ]
    repeats = [Repeat.of(name, seed) for name in repeated for seed in range(1, seeds)]
    taken = {candidate.name for candidate in candidates}
    schedule = make_schedule(config.rule, config.train.epochs)
    schedule = with_finalists(schedule, config.finalist_seeds, seeds, config.data.folds)
    asked = f"finalist_seeds={config.finalist_seeds}"
    if config.data.folds > 1:
        asked = f"validation={config.data.validation}"
    further = [(f"seeds={seeds}", repeat) for repeat in repeats]
    further += [(asked, repeat) for repeat in finalist_trainings(sorted(taken), schedule)]
    if config.final_epochs:
        finals = map(Repeat.final, sorted(taken))
        further += [(f"final_epochs={config.final_epochs}", repeat) for repeat in finals]
    for setting, repeat in further:
        if repeat.name in taken:
            raise UserError(
                f"{setting}: candidate {repeat.name} has the name of a further training of "
                f"{repeat.candidate}: rename it"
            )
    return repeats


def _rounded_up(value: float) -> str:
    """The value with three digits, rounded up."""
    return f"{Context(prec=3, rounding=ROUND_UP).create_decimal(str(value)):f}"


def _text(
    plan: SearchPlan, asked: Schedule, candidates: int, epochs: Forecast, *, in_time: bool
) -> str:
    """One line about the plan for the user who starts the search."""
    changes = []
    if plan.schedule.finalist_seed != asked.finalist_seed:
        changes.append("one training of each finalist")
    if plan.schedule.round_epochs != asked.round_epochs:
        changes.append(
            f"rounds of {plan.schedule.round_epochs} epochs instead of {asked.round_epochs}"
        )
    if plan.count < candidates:
        changes.append(f"{plan.count} candidates of {candidates}")
    text = f"forecast: {_range(f'{epochs.least:.0f}', f'{epochs.most:.0f}')} epochs"
    if in_time:
        least, most = plan.forecast.least, plan.forecast.most
        text += f", {_range(duration(least), duration(most))} of training"
    return f"{text}; to keep the budget: {', '.join(changes)}" if changes else text


def _range(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"

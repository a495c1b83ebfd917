"""The plan of a new search: its budget, if it has one, made into rounds and candidates.

This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import ROUND_UP, Context
from math import ceil
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import budget
from efficientnet_elite.search.budget import Cost, Forecast, Pace, Plan, TooSmallError
from efficientnet_elite.search.candidates import Candidate, sample_candidates
from efficientnet_elite.search.ledger import Replica
from efficientnet_elite.search.tournament import Schedule
from efficientnet_elite.text import duration

MARGIN = 0.1
"""Share of a budget in hours that is held back: for the images, measuring the pace, and chance."""


def planned(
    candidates: Sequence[Candidate],
    config: SearchConfig,
    pace: Pace | None = None,
    workers: int = 1,
) -> tuple[tuple[Candidate, ...], dict[str, Any]]:
    """Those of the candidates that are to be trained, and the plan as the ledger records it.

    Args:
      candidates: that are within the limits, in order of preference; the order is kept.
      config: of the search.
      pace: of a worker; needed for, and only for, a budget in hours.
      workers: that train at once.

    Raises:
      UserError: the budget does not even suffice for one candidate a group.
    """
    schedule = Schedule(config.round_epochs, config.train.epochs, config.rule)
    turns = sample_candidates(candidates, len(candidates), config.seed)
    limit, unit = float("inf"), 1.0
    if config.budget_epochs is not None:
        limit = config.budget_epochs
    if config.budget_hours is not None:
        unit = 3600 * (1 - MARGIN)
        limit = config.budget_hours * unit
    try:
        plan = budget.plan(
            [(c.group, pace.cost(c.spec.macs) if pace else Cost()) for c in turns],
            schedule,
            limit,
            workers=workers if pace else 1,
            seeds=config.seeds,
        )
    except TooSmallError as error:
        asked, least = f"budget_epochs={config.budget_epochs}", str(ceil(error.least))
        if pace:
            hours = error.least / unit * (1 + 1e-12)  # enough also when it is multiplied back
            asked, least = f"budget_hours={config.budget_hours}", _rounded_up(hours)
        raise UserError(
            f"{asked}: champions in {error.groups} groups need {least} at least: allow more, or "
            "ask for fewer --groups or --epochs"
        ) from error
    chosen = {candidate.name for candidate in turns[: plan.count]}
    kept = tuple(candidate for candidate in candidates if candidate.name in chosen)
    sizes = [sum(c.group == group for c in kept) for group in {c.group for c in kept}]
    epochs = budget.forecast([[Cost()] * size for size in sizes], plan.schedule, seeds=config.seeds)
    return kept, {
        "round_epochs": plan.schedule.round_epochs,
        "candidates": plan.count,
        "candidates_left_out": len(candidates) - plan.count,
        "epochs": asdict(epochs),
        "pace": asdict(pace) if pace else None,
        "seconds": asdict(plan.forecast) if pace else None,
        "workers": workers if pace else None,
        "words": _words(plan, schedule, len(candidates), epochs, in_time=pace is not None),
    }


def replicas(candidates: Sequence[Candidate], seeds: int) -> list[Replica]:
    """Further trainings, in every group that is to be cut, of its candidate of median cost.

    UserError where a candidate has the name of one of them.
    """
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    found = [
        Replica(f"{name}-seed{seed}", name, seed)
        for members in groups.values()
        if len(members) > 1
        for name in [members[budget.median([Cost(float(m.spec.macs)) for m in members])].name]
        for seed in range(1, seeds)
    ]
    taken = {candidate.name for candidate in candidates}
    for replica in found:
        if replica.name in taken:
            raise UserError(
                f"seeds={seeds}: candidate {replica.name} has the name of a further training of "
                f"{replica.candidate}: rename it"
            )
    return found


def _rounded_up(value: float) -> str:
    """Three digits that are not below the value."""
    return f"{Context(prec=3, rounding=ROUND_UP).create_decimal(str(value)):f}"


def _words(plan: Plan, asked: Schedule, candidates: int, epochs: Forecast, *, in_time: bool) -> str:
    """One line for those who start the search."""
    made = []
    if plan.schedule != asked:
        made.append(
            f"rounds of {plan.schedule.round_epochs} epochs instead of {asked.round_epochs}"
        )
    if plan.count < candidates:
        made.append(f"{plan.count} candidates of {candidates}")
    told = f"forecast: {_range(f'{epochs.least:.0f}', f'{epochs.most:.0f}')} epochs"
    if in_time:
        least, most = plan.forecast.least, plan.forecast.most
        told += f", {_range(duration(least), duration(most))} of training"
    return f"{told}; to keep the budget: {', '.join(made)}" if made else told


def _range(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"

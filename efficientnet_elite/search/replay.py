"""Rules of elimination replayed on recorded learning curves: what each finds, and at what cost.

Nothing is trained. Groups are drawn from a pool of complete curves. A rule sees of each curve what
it would have seen in a search, and the epochs that it would have trained are counted.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from random import Random
from statistics import fmean, stdev
from typing import TypeAlias

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.noise import further_trainings
from efficientnet_elite.search.rules import average
from efficientnet_elite.search.schedule import make_schedule, with_finalists
from efficientnet_elite.search.tournament import standing

NEAR = 0.3
"""A choice counts as near if its final accuracy is at most this far below the best, in points."""


@dataclass(frozen=True)
class Curve:
    """A complete training on record.

    Attributes:
      model: name of the model.
      accuracies: validation accuracy of epoch 1, 2, ... in percent.
      losses: train loss of epoch 1, 2, ...; None where it was not recorded.
      further: further trainings of the same model, with other seeds or folds and as long.
    """

    model: str
    accuracies: tuple[float, ...]
    losses: tuple[float, ...] | None = None
    further: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class GroupResult:
    """What a rule did with a group.

    Attributes:
      chosen: the model that became champion.
      epochs: model to the epochs that it was trained for, in all of its trainings; the chosen one
        is trained to its end.
      crowned: its epochs, as these, when all others had been eliminated.
      eliminations: number of eliminations.
      close: how many of them were too close to call.
    """

    chosen: str
    epochs: Mapping[str, int]
    crowned: int
    eliminations: int = 0
    close: int = 0


Player: TypeAlias = Callable[[Sequence[Curve]], GroupResult]


@dataclass(frozen=True)
class Mean:
    """A mean over groups with its standard error (from drawing groups, not from the models)."""

    mean: float
    error: float


@dataclass(frozen=True)
class RuleResult:
    """How a rule did over all groups.

    Attributes:
      rule: name of the rule.
      regret: points by which the final accuracy of the chosen model is below that of the best
        model of its group.
      near: share of groups with a regret of at most `NEAR`.
      search_epochs: epochs that a group trained until its champion was known.
      total_epochs: epochs that a group trained in all, with the champion trained to its end.
      close: share of eliminations that were too close to call; None where that is not known.
    """

    rule: str
    regret: Mean
    near: Mean
    search_epochs: Mean
    total_epochs: Mean
    close: float | None


def read_curves(lines: Iterable[str], source: str) -> list[Curve]:
    """Curves from CSV lines with columns ``model, epoch, validation_accuracy`` and more.

    ``train_loss`` is used where it is given for every epoch; other columns are ignored. Accuracies
    are percentages; where none is above 1 they are taken for shares. Rows may come in any order.

    Args:
      lines: of the file, the first of them its header.
      source: the file's name, for messages.

    Raises:
      UserError: a column is missing, a value is no finite number, an epoch is missing or repeated,
        or there is no curve.
    """
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or ()
    missing = [c for c in ("model", "epoch", "validation_accuracy") if c not in columns]
    if missing:
        raise UserError(
            f"{source}: its first line names no column {missing[0]!r}: `elite replay --help` says "
            "what is needed"
        )
    rows: dict[str, dict[int, tuple[float, float | None]]] = {}
    for number, row in enumerate(reader, start=2):
        place = f"{source} line {number}"
        epoch = _number(row, "epoch", place)
        if epoch != int(epoch) or epoch < 1:
            raise UserError(f"{place}: epoch {row['epoch']!r} is no whole number from 1")
        by_epoch = rows.setdefault(row["model"] or "", {})
        if int(epoch) in by_epoch:
            raise UserError(f"{place}: epoch {int(epoch)} of {row['model']} is there already")
        loss = _number(row, "train_loss", place) if row.get("train_loss") else None
        by_epoch[int(epoch)] = (_number(row, "validation_accuracy", place), loss)
    if not rows:
        raise UserError(f"{source}: no curve in it")
    for model, by_epoch in rows.items():
        gap = next(
            (epoch for epoch in range(1, max(by_epoch) + 1) if epoch not in by_epoch),
            None,
        )
        if gap is not None:
            raise UserError(f"{source}: epoch {gap} of {model} is missing")
    highest = max(accuracy for by_epoch in rows.values() for accuracy, _ in by_epoch.values())
    scale = 100.0 if highest <= 1 else 1.0
    complete = all(loss is not None for by_epoch in rows.values() for _, loss in by_epoch.values())
    return [
        Curve(
            model,
            tuple(scale * by_epoch[epoch][0] for epoch in range(1, len(by_epoch) + 1)),
            tuple(by_epoch[epoch][1] or 0.0 for epoch in range(1, len(by_epoch) + 1))
            if complete
            else None,
        )
        for model, by_epoch in rows.items()
    ]


def _number(row: Mapping[str, str | None], column: str, place: str) -> float:
    try:
        value = float(row[column] or "")
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise UserError(f"{place}: {column} {row[column] or ''!r} is no finite number")
    return value


def aligned(curves: Sequence[Curve], epochs: int | None = None) -> list[Curve]:
    """The curves as if training had ended after ``epochs``; None leaves them as they are.

    UserError where they are not of one length then: final accuracies can only be compared between
    trainings of one length.
    """
    by_length = sorted(curves, key=lambda curve: len(curve.accuracies))
    shortest, longest = (len(by_length[end].accuracies) for end in (0, -1))
    if epochs is None and shortest != longest:
        raise UserError(
            f"{by_length[0].model} has {shortest} epochs, {by_length[-1].model} has {longest}: "
            "leave models out with --exclude, or shorten all of them with --epochs"
        )
    if epochs is not None and not 1 <= epochs <= shortest:
        raise UserError(f"epochs={epochs}: {by_length[0].model} has {shortest}")
    return [
        Curve(c.model, c.accuracies[:epochs], c.losses[:epochs] if c.losses else None)
        for c in curves
    ]


def draw(curves: Sequence[Curve], groups: int, size: int, seed: int) -> list[list[Curve]]:
    """Random groups of different models, in random order; UserError where there are too few."""
    if not 1 <= size <= len(curves):
        raise UserError(f"group_size={size}: there are {len(curves)} models to draw from")
    random = Random(seed)
    return [random.sample(list(curves), size) for _ in range(groups)]


def player(
    rule: str,
    round_epochs: int | None = None,
    first_elimination: int | None = None,
    images: float = inf,
    *,
    trainings: int = 1,
) -> Player:
    """Plays a rule as a search would, see `tournament.standing`.

    Args:
      rule: name of the rule.
      round_epochs: epochs between two eliminations; None for the rule's default.
      first_elimination: epoch of the first elimination, for rules that have this parameter.
      images: validation images that the accuracies were measured on; ``inf`` for very many.
      trainings: of each of two finalists that are too close to call. With more than 1, every curve
        must have as many further ones.
    """

    def play(group: Sequence[Curve]) -> GroupResult:
        epochs = len(group[0].accuracies)
        scores = {curve.model: [a / 100 for a in curve.accuracies] for curve in group}
        losses = {curve.model: curve.losses for curve in group if curve.losses is not None}
        has_losses = len(losses) == len(group)
        schedule = make_schedule(rule, epochs, round_epochs, first_elimination)
        schedule = with_finalists(schedule, finalist_seeds=1, folds=trainings)
        for curve in group:
            repeats = further_trainings([curve.model], schedule)
            for repeat, further in zip(repeats, curve.further, strict=False):
                scores[repeat.name] = [a / 100 for a in further.accuracies]
                losses[repeat.name] = further.losses or ()
        result = standing(
            [curve.model for curve in group],
            scores,
            replace(schedule, images=images, waits=True),
            losses=losses if has_losses else None,
        )
        assert result.champion is not None  # nobody fails here
        trained = {decision.candidate: decision.epoch for decision in result.decisions}
        again = {
            d.candidate: d.epoch * (d.trainings - 1)
            for d in result.decisions
            if d.trainings is not None
        }
        rounds = {decision.round for decision in result.decisions}
        close = {decision.round for decision in result.decisions if decision.close}
        return GroupResult(
            chosen=result.champion,
            epochs={
                name: number + again.get(name, 0)
                for name, number in (trained | {result.champion: epochs}).items()
            },
            crowned=trained.get(result.champion, 0) + again.get(result.champion, 0),
            eliminations=len(rounds),
            close=len(close),
        )

    return play


def play_all(
    name: str,
    play: Player,
    groups: Sequence[Sequence[Curve]],
    *,
    on_group: Callable[[], object] = lambda: None,
) -> RuleResult:
    """Plays all groups and averages the results; ``on_group`` is called after each group."""
    regrets, searches, totals, eliminations, close = [], [], [], 0, 0
    for group in groups:
        result = play(group)
        final = {curve.model: curve.accuracies[-1] for curve in group}
        regrets.append(max(final.values()) - final[result.chosen])
        totals.append(sum(result.epochs.values()))
        searches.append(totals[-1] - result.epochs[result.chosen] + result.crowned)
        eliminations, close = eliminations + result.eliminations, close + result.close
        on_group()
    return RuleResult(
        rule=name,
        regret=_mean(regrets),
        near=_mean([float(regret <= NEAR + 1e-9) for regret in regrets]),
        search_epochs=_mean(searches),
        total_epochs=_mean(totals),
        close=close / eliminations if eliminations else None,
    )


def _mean(values: Sequence[float]) -> Mean:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return Mean(fmean(values), error)


def agreement(groups: Sequence[Sequence[Curve]], round_epochs: int) -> tuple[float, float]:
    """P_avg and P_spe of the paper (Eqs. 5, 6), over all rounds of all groups.

    Four candidates are looked at (the paper's number; here the first four of each group), none of
    which is eliminated. The result is the share of rounds after which their ranking equals that by
    final accuracy: ranked by the average accuracy since the first epoch, and by the accuracy of the
    last epoch of the round.
    """
    by_average, by_last = [], []
    for group in (group[:4] for group in groups):
        final = _ranking([curve.accuracies[-1] for curve in group])
        for epoch in range(round_epochs, len(group[0].accuracies) + 1, round_epochs):
            by_average.append(_ranking([average(c.accuracies[:epoch]) for c in group]) == final)
            by_last.append(_ranking([c.accuracies[epoch - 1] for c in group]) == final)
    return fmean(by_average), fmean(by_last)


def _ranking(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])

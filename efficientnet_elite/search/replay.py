"""Rules of elimination replayed on recorded learning curves: what each finds, and at what cost.

Nothing is trained. Groups are drawn from a pool of complete curves; a rule sees of each curve what
it would have seen in a search, and is charged for the epochs that it would have trained.

This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isfinite, isnan
from random import Random
from statistics import fmean, stdev
from typing import TypeAlias

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.cuts import Decision
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.rules import Rule, average
from efficientnet_elite.search.summary import standings
from efficientnet_elite.search.tournament import Schedule, standing

NEAR = 0.3  # points: a choice is "near" where its final accuracy is at most so far from the best


@dataclass(frozen=True)
class Curve:
    """A complete training on record.

    Attributes:
      model: its name.
      accuracies: validation accuracy of epoch 1, 2, ... in percent.
      losses: train loss of epoch 1, 2, ...; None where it was not recorded.
    """

    model: str
    accuracies: tuple[float, ...]
    losses: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Play:
    """What a rule did with a group.

    Attributes:
      chosen: the model it crowned.
      epochs: model to the epochs it was trained for; the chosen one's are all.
      crowned: epochs that the chosen one had when all others had left.
      cuts: number of cuts made.
      close: those of them that were too close to call.
    """

    chosen: str
    epochs: Mapping[str, int]
    crowned: int
    cuts: int = 0
    close: int = 0


Player: TypeAlias = Callable[[Sequence[Curve]], Play]


@dataclass(frozen=True)
class Figure:
    """A mean over groups with its standard error (of the draw of groups, not of the models)."""

    mean: float
    error: float


@dataclass(frozen=True)
class Result:
    """How a rule did.

    Attributes:
      rule: its name.
      regret: points, final accuracy of a group's best member minus that of the one chosen.
      near: share of groups with a regret of at most `NEAR`.
      search_epochs: trained by a group until its champion was known.
      total_epochs: trained by a group in all, the champion to its end.
      close: share of cuts too close to call; None where the player does not say.
    """

    rule: str
    regret: Figure
    near: Figure
    search_epochs: Figure
    total_epochs: Figure
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
        own = rows.setdefault(row["model"] or "", {})
        if int(epoch) in own:
            raise UserError(f"{place}: epoch {int(epoch)} of {row['model']} is there already")
        loss = _number(row, "train_loss", place) if row.get("train_loss") else None
        own[int(epoch)] = (_number(row, "validation_accuracy", place), loss)
    if not rows:
        raise UserError(f"{source}: no curve in it")
    for model, own in rows.items():
        gap = next((epoch for epoch in range(1, max(own) + 1) if epoch not in own), None)
        if gap is not None:
            raise UserError(f"{source}: epoch {gap} of {model} is missing")
    highest = max(accuracy for own in rows.values() for accuracy, _ in own.values())
    scale = 100.0 if highest <= 1 else 1.0
    complete = all(loss is not None for own in rows.values() for _, loss in own.values())
    return [
        Curve(
            model,
            tuple(scale * own[epoch][0] for epoch in range(1, len(own) + 1)),
            tuple(own[epoch][1] or 0.0 for epoch in range(1, len(own) + 1)) if complete else None,
        )
        for model, own in rows.items()
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

    UserError where they are then not of one length: only final accuracies of trainings of one
    length compare.
    """
    by_length = sorted(curves, key=lambda curve: len(curve.accuracies))
    shortest, longest = (len(by_length[end].accuracies) for end in (0, -1))
    if epochs is None and shortest != longest:
        raise UserError(
            f"{by_length[0].model} has {shortest} epochs, {by_length[-1].model} has {longest}: "
            "leave models out with --exclude, or cut all short with --epochs"
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


def player(rule: Rule, round_epochs: int) -> Player:
    """Plays a rule as a search would, through `tournament.standing`."""

    def play(group: Sequence[Curve]) -> Play:
        epochs = len(group[0].accuracies)
        scores = {curve.model: curve.accuracies for curve in group}
        told = {curve.model: curve.losses for curve in group if curve.losses is not None}
        table = standing(
            list(scores),
            scores,
            Schedule(round_epochs, epochs, rule.name),
            losses=told if len(told) == len(group) else None,
        )
        assert table.champion is not None  # nobody fails here
        trained = {decision.candidate: decision.epoch for decision in table.decisions}
        crowned = trained.get(table.champion, 0)
        cuts = {d.round for d in table.decisions}
        close = {d.round for d in table.decisions if d.close}
        return Play(
            table.champion, trained | {table.champion: epochs}, crowned, len(cuts), len(close)
        )

    return play


def measure(
    name: str,
    play: Player,
    groups: Sequence[Sequence[Curve]],
    *,
    on_group: Callable[[], object] = lambda: None,
) -> Result:
    """Plays all groups and averages; ``on_group`` is called after each."""
    regrets, searches, totals, cuts, close = [], [], [], 0, 0
    for group in groups:
        found = play(group)
        final = {curve.model: curve.accuracies[-1] for curve in group}
        regrets.append(max(final.values()) - final[found.chosen])
        totals.append(sum(found.epochs.values()))
        searches.append(totals[-1] - found.epochs[found.chosen] + found.crowned)
        cuts, close = cuts + found.cuts, close + found.close
        on_group()
    return Result(
        rule=name,
        regret=_figure(regrets),
        near=_figure([float(regret <= NEAR + 1e-9) for regret in regrets]),
        search_epochs=_figure(searches),
        total_epochs=_figure(totals),
        close=close / cuts if cuts else None,
    )


def _figure(values: Sequence[float]) -> Figure:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return Figure(fmean(values), error)


def agreement(groups: Sequence[Sequence[Curve]], round_epochs: int) -> tuple[float, float]:
    """P_avg and P_spe of the paper (Eqs. 5, 6), over all rounds of all groups.

    The share of rounds after which the ranking of four candidates (the paper's number, here the
    first of each group), nobody eliminated, equals their ranking by final accuracy: ranked by the
    average accuracy since the first epoch, and by the accuracy of the round's last epoch.
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


@dataclass(frozen=True)
class Audit:
    """Whether a ledger's decisions follow from its epochs.

    Attributes:
      decisions: recorded.
      groups: of the search.
      difference: the first one, in words; None where all agree.
    """

    decisions: int
    groups: int
    difference: str | None


def audit(ledger: Ledger) -> Audit:
    """Decides everything anew from a ledger's epochs and failures, and compares with its decisions.

    Decisions that the epochs allow but that the search had no time to record are no difference.
    """
    with ledger.snapshot():
        rebuilt, recorded = standings(ledger), ledger.decisions()
    difference = None
    for group in sorted(rebuilt.keys() | recorded.keys()):
        expected = rebuilt[group].decisions if group in rebuilt else ()
        for position, found in enumerate(recorded.get(group, ())):
            wanted = expected[position] if position < len(expected) else None
            if wanted is None or not _agree(found, wanted):
                difference = difference or _difference(group, found, wanted)
    return Audit(sum(map(len, recorded.values())), len(rebuilt), difference)


def _agree(found: Decision, wanted: Decision) -> bool:
    """Whether two decisions are the same; scores of older versions were not rounded."""
    close = isclose(found.score, wanted.score, rel_tol=0, abs_tol=1e-9)
    close |= isnan(found.score) and isnan(wanted.score)  # both failed
    return close and replace(found, score=0.0) == replace(wanted, score=0.0)


def _difference(group: int, found: Decision, wanted: Decision | None) -> str:
    told = _words(wanted) if wanted else "nothing"
    return f"group {group}: recorded is {_words(found)}; the epochs give {told}"


def _words(decision: Decision) -> str:
    fate = "goes on" if decision.survives else "leaves"
    return (
        f"round {decision.round} epoch {decision.epoch} rank {decision.rank}: "
        f"{decision.candidate} {fate}, score {decision.score!r} ({decision.reason})"
    )

"""What the other rules of elimination would have decided at the eliminations of a search.

Only champions are trained to the end. So it is not known what an eliminated candidate would have
reached, nor which rule would have found the best champion: `elite replay` measures that on complete
curves. The record does show whether the rules agree at the eliminations that took place, which of
them would have eliminated a champion, and which ranked the candidates that went on as they were
ranked later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from efficientnet_elite.search.decisions import DecidedRound
from efficientnet_elite.search.elimination import Elimination
from efficientnet_elite.search.ledger import Epoch
from efficientnet_elite.search.record import curves
from efficientnet_elite.search.rules import RULES, Rule, find_rule
from efficientnet_elite.search.summary import Group

Epochs = Mapping[str, Sequence[Epoch]]


@dataclass(frozen=True)
class Choice:
    """What a rule would have decided at an elimination, with as many candidates going on as did.

    Attributes:
      rule: name of the rule.
      group, round, epoch: group, round and epoch of the elimination.
      keeps_instead: candidates that were eliminated and would have gone on, by its own ranking.
      eliminates_instead: candidates that went on and would have been eliminated; as many.
      pairs: pairs of candidates that both went on, were trained further, and differ in the last
        epoch that both have.
      right: how many of these pairs the rule had ranked as they were ranked in that epoch.
    """

    rule: str
    group: int
    round: int
    epoch: int
    keeps_instead: tuple[str, ...]
    eliminates_instead: tuple[str, ...]
    pairs: int
    right: int


@dataclass(frozen=True)
class Agreement:
    """All choices of a rule together.

    Attributes:
      rule: name of the rule.
      used: whether the search was decided by it.
      eliminations: number of eliminations in which a candidate with a score left.
      same: how many of them would have had the same survivors.
      others: how often in all a candidate went on that the rule would have eliminated.
      champions_eliminated: champions that it would have eliminated at some time, in the groups'
        order.
      pairs, right: see `Choice`.
    """

    rule: str
    used: bool
    eliminations: int
    same: int
    others: int
    champions_eliminated: tuple[str, ...]
    pairs: int
    right: int


def choices(rounds: Sequence[DecidedRound], epochs: Epochs, images: float | None) -> list[Choice]:
    """What each rule would have decided at each elimination, by rule and round.

    Args:
      rounds: the eliminations.
      epochs: epochs of each candidate.
      images: validation images, see `Rule.images`.
    """
    return [
        _choice(rule.on(images), decided, epochs)
        for rule in RULES.values()
        for decided in rounds
        if decided.gap is not None
    ]


def agreement(choices: Sequence[Choice], groups: Sequence[Group], used: str) -> list[Agreement]:
    """How far the rules agree with the one that was used.

    Args:
      choices: result of the function `choices`.
      groups: groups of the search.
      used: name of the rule that decided the search.
    """
    champions = [group.champion for group in groups if group.champion]
    name_used = find_rule(used).name
    result = []
    for name in dict.fromkeys(choice.rule for choice in choices):
        of_rule = [choice for choice in choices if choice.rule == name]
        eliminated = {candidate for choice in of_rule for candidate in choice.eliminates_instead}
        result.append(
            Agreement(
                rule=name,
                used=name == name_used,
                eliminations=len(of_rule),
                same=sum(not choice.eliminates_instead for choice in of_rule),
                others=sum(len(choice.eliminates_instead) for choice in of_rule),
                champions_eliminated=tuple(c for c in champions if c in eliminated),
                pairs=sum(choice.pairs for choice in of_rule),
                right=sum(choice.right for choice in of_rule),
            )
        )
    return result


def _choice(rule: Rule, decided: DecidedRound, epochs: Epochs) -> Choice:
    # Failed candidates have no score. The others stand in the order of the record, so that a tie is
    # resolved as it was in the search.
    names = [decision.candidate for decision in decided.decisions if decision.scored]
    scores, losses = curves({name: epochs[name] for name in names})
    elimination = Elimination(
        rule, decided.round, decided.epoch, names, names, scores, losses, int8={}
    )
    score_of = dict(elimination.ranking())
    ranked = list(score_of)
    surviving = [decision.candidate for decision in decided.surviving]
    pairs = right = 0
    for one, other in combinations(surviving, 2):
        later = min(len(epochs[one]), len(epochs[other]))
        first, second = (epochs[n][later - 1].validation_accuracy for n in (one, other))
        if later > decided.epoch and first != second:
            pairs += 1
            right += (score_of[one] - score_of[other]) * (first - second) > 0
    return Choice(
        rule=rule.name,
        group=decided.group,
        round=decided.round,
        epoch=decided.epoch,
        keeps_instead=tuple(n for n in ranked[: len(surviving)] if n not in surviving),
        eliminates_instead=tuple(n for n in ranked[len(surviving) :] if n in surviving),
        pairs=pairs,
        right=right,
    )

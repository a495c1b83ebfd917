"""The other rules of elimination, asked at this search's own cuts.

Only champions have been trained to the end. So nobody can say what a candidate that left would have
reached, nor which rule would have found the best champion: `elite replay` measures that on
complete curves. What the records do tell: whether the rules agree at the cuts that were made, which
of them would have sent a champion away, and whose order of those who went on came true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from efficientnet_elite.report.bracket import Cut
from efficientnet_elite.search import cuts, rules
from efficientnet_elite.search.ledger import Epoch
from efficientnet_elite.search.rules import Rule
from efficientnet_elite.search.summary import Group, curves

Epochs = Mapping[str, Sequence[Epoch]]


@dataclass(frozen=True)
class Choice:
    """What a rule would have decided at a cut, with as many going on as did.

    Attributes:
      rule: its name.
      group, round, epoch: of the cut.
      keeps_instead, drops_instead: whom it would have let go on or sent away, unlike the search, by
        its own ranking; as many in one as in the other.
      pairs, right: pairs of candidates that went on, were trained further and differ in the last
        epoch that both have; those that the rule ordered as they were then.
    """

    rule: str
    group: int
    round: int
    epoch: int
    keeps_instead: tuple[str, ...]
    drops_instead: tuple[str, ...]
    pairs: int
    right: int


@dataclass(frozen=True)
class Agreement:
    """All choices of a rule together.

    Attributes:
      rule: its name.
      used: whether the search was decided by it.
      cuts: at which somebody left and it could be asked.
      same: of these, where the same candidates would have gone on.
      others: candidates let go on in all that the rule would have sent away.
      champions_dropped: champions that it would have sent away at some cut, in the groups' order.
      pairs, right: see `Choice`.
    """

    rule: str
    used: bool
    cuts: int
    same: int
    others: int
    champions_dropped: tuple[str, ...]
    pairs: int
    right: int


def choices(cuts: Sequence[Cut], epochs: Epochs) -> list[Choice]:
    """What each rule would have decided at each cut; rule by rule, cuts in their order."""
    return [
        _choice(rule, cut, epochs)
        for rule in rules.RULES.values()
        for cut in cuts
        if cut.gap is not None
    ]


def agreement(found: Sequence[Choice], groups: Sequence[Group], used: str) -> list[Agreement]:
    """How far the rules agree with the one that was used.

    Args:
      found: of `choices`.
      groups: of the search.
      used: name of the rule it was decided by.
    """
    champions = [group.champion for group in groups if group.champion]
    name_used = rules.find(used).name
    result = []
    for name in dict.fromkeys(choice.rule for choice in found):
        own = [choice for choice in found if choice.rule == name]
        dropped = {candidate for choice in own for candidate in choice.drops_instead}
        result.append(
            Agreement(
                rule=name,
                used=name == name_used,
                cuts=len(own),
                same=sum(not choice.drops_instead for choice in own),
                others=sum(len(choice.drops_instead) for choice in own),
                champions_dropped=tuple(c for c in champions if c in dropped),
                pairs=sum(choice.pairs for choice in own),
                right=sum(choice.right for choice in own),
            )
        )
    return result


def _choice(rule: Rule, cut: Cut, epochs: Epochs) -> Choice:
    # Who failed has no score; a tie stays as the search decided it.
    names = [d.candidate for d in cut.decisions if d.score == d.score]
    seen = curves({name: epochs[name] for name in names})
    found = cuts.Cut(rule, cut.round, cut.epoch, names, names, *seen, {}).ranked()
    scores, ranked = dict(found), [name for name, _ in found]
    kept = [d.candidate for d in cut.kept]
    pairs = right = 0
    for one, other in combinations(kept, 2):
        later = min(len(epochs[one]), len(epochs[other]))
        ahead, behind = (epochs[n][later - 1].validation_accuracy for n in (one, other))
        if later > cut.epoch and ahead != behind:
            pairs += 1
            right += (scores[one] - scores[other]) * (ahead - behind) > 0
    return Choice(
        rule=rule.name,
        group=cut.group,
        round=cut.round,
        epoch=cut.epoch,
        keeps_instead=tuple(name for name in ranked[: len(kept)] if name not in kept),
        drops_instead=tuple(name for name in ranked[len(kept) :] if name in kept),
        pairs=pairs,
        right=right,
    )

"""Trainings of one network with several seeds, which measure the noise of a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite import rules
from efficientnet_elite.ledger import Epoch, Replica
from efficientnet_elite.summary import Summary
from efficientnet_elite.tournament import Schedule


@dataclass(frozen=True)
class Repeat:
    """One of these trainings.

    Attributes:
      name: the candidate's, or the replica's.
      candidate: whose network it is.
      group: the candidate's.
      seed: added to the search's; 0 for the candidate itself.
      epoch: the first cut, after which the scores are compared.
      score: the rule's of the epochs up to then; None before them.
      failure: why its training could not go on; None where it did not fail.
    """

    name: str
    candidate: str
    group: int
    seed: int
    epoch: int
    score: float | None
    failure: str | None


def repeats(
    replicas: Sequence[Replica],
    summary: Summary,
    schedule: Schedule,
    epochs: Mapping[str, Sequence[Epoch]],
    failures: Mapping[str, str],
) -> list[Repeat]:
    """Every network's trainings, the candidate's own first; groups in their order."""
    groups = {member.name: group.number for group in summary.groups for member in group.members}
    rule, epoch = rules.find(schedule.rule), schedule.cut(1)
    measured = sorted({r.candidate for r in replicas}, key=lambda name: (groups[name], name))
    found = []
    for candidate in measured:
        again = [(r.name, r.seed) for r in replicas if r.candidate == candidate]
        for name, seed in [(candidate, 0), *sorted(again, key=lambda pair: pair[1])]:
            curve = [e.validation_accuracy for e in epochs.get(name, ())[:epoch]]
            score = rule.score(curve) if len(curve) == epoch else None
            # A candidate that failed later has been measured.
            failure = failures.get(name) if score is None else None
            found.append(Repeat(name, candidate, groups[candidate], seed, epoch, score, failure))
    return found

"""Trainings of one network with several seeds, which measure the noise of a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite import summary as summary_lib
from efficientnet_elite.ledger import Epoch, Replica
from efficientnet_elite.summary import Summary
from efficientnet_elite.tournament import Schedule, scores_by_seed


@dataclass(frozen=True)
class Repeat:
    """One of these trainings.

    Attributes:
      name: the candidate's, or the replica's.
      candidate: whose network it is.
      group: the candidate's.
      seed: added to the search's; 0 for the candidate itself.
      epoch: the first cut, after which the scores are compared.
      score: the rule's of the epochs up to then, see `scores_by_seed`; None before them.
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
    trainings = sorted(summary_lib.repeats(replicas).items(), key=lambda t: (groups[t[0]], t[0]))
    seeds = {replica.name: replica.seed for replica in replicas}
    accuracies, losses = summary_lib.curves(epochs)
    found = []
    for candidate, names in trainings:
        scores = scores_by_seed(names, accuracies, losses, schedule)
        for name in names:
            # A candidate that failed later has been measured.
            failure = None if name in scores else failures.get(name)
            seed, score = seeds.get(name, 0), scores.get(name)
            group, epoch = groups[candidate], schedule.cut(1)
            found.append(Repeat(name, candidate, group, seed, epoch, score, failure))
    return found

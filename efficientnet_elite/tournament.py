"""The elimination tournament of Network Candidate Search (arXiv 2009.07409, section 3).

Pure decisions: given the groups and every score recorded so far, `standing` says what was decided,
what is to be trained next and who has won. There is no other state, so the same scores give the
same decisions in a running search, after a crash and in a replay; groups do not affect each other.

This module must not train, write files, print, nor import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Scores = Mapping[str, Sequence[float]]  # candidate -> validation accuracy of epoch 1, 2, ...


@dataclass(frozen=True)
class Schedule:
    """Length of the rounds and of the whole training, in epochs.

    The last round may be shorter, so that no round goes past ``epochs``; it always ends with a
    single winner.
    """

    round_epochs: int
    epochs: int

    def __post_init__(self) -> None:
        if not 1 <= self.round_epochs <= self.epochs:
            raise ValueError("1 <= round_epochs <= epochs does not hold")

    def cut(self, number: int) -> int:
        """The epoch after which round ``number`` (from 1) is decided."""
        return min(number * self.round_epochs, self.epochs)


@dataclass(frozen=True)
class Decision:
    """What a round decided about one candidate.

    Attributes:
      round: from 1.
      epoch: after which it was decided.
      candidate: its name.
      score: average validation accuracy from epoch 1 to ``epoch``; NaN where training failed.
      rank: in the group's round, from 1.
      survives: whether it goes on.
      reason: in words.
    """

    round: int
    epoch: int
    candidate: str
    score: float
    rank: int
    survives: bool
    reason: str


@dataclass(frozen=True)
class Job:
    """Train a candidate until it has been trained for ``until_epoch`` epochs in all."""

    candidate: str
    until_epoch: int


@dataclass(frozen=True)
class Standing:
    """Where a group stands.

    Attributes:
      decisions: all so far, in order.
      survivors: candidates still in the race.
      jobs: what must be trained before anything more can be decided; empty once the champion is
        trained to the end (or everybody has failed).
      champion: the last survivor, as soon as there is only one.
    """

    decisions: tuple[Decision, ...]
    survivors: tuple[str, ...]
    jobs: tuple[Job, ...]
    champion: str | None


def average(scores: Sequence[float]) -> float:
    """The paper's score: mean validation accuracy since the first epoch."""
    return sum(scores) / len(scores)


def survivors_of(count: int) -> int:
    """How many of ``count`` candidates go on: half, rounded up, so the middle one survives."""
    return (count + 1) // 2


def standing(
    members: Sequence[str],
    scores: Scores,
    schedule: Schedule,
    *,
    failed: Mapping[str, str] | None = None,
) -> Standing:
    """Replays a group's tournament on the recorded scores.

    Rules: after each round candidates are ranked by `average`; a tie goes to the higher accuracy
    in the latest epoch, then to the one named first in ``members`` (which callers order by cost,
    the cheapest first). The better half survives, rounded up. A failed candidate leaves in the
    round it could not finish, ranked last; decisions of earlier rounds stand. A group of one has
    its champion without a round. The round that ends the whole training ends the tournament: only
    its best survives.

    Args:
      members: the group's candidates, the one to prefer in a tie first.
      scores: validation accuracies by epoch; candidates without any may be absent.
      schedule: lengths in epochs.
      failed: candidate to reason, for those whose training cannot go on.
    """
    failed = failed or {}
    order = {name: position for position, name in enumerate(members)}
    alive = list(members)
    decisions: list[Decision] = []
    number = 1
    while len(alive) > 1:
        epoch = schedule.cut(number)
        # A failure counts from the round in which it happened: earlier decisions stand.
        gone = [n for n in alive if n in failed and len(scores.get(n, ())) < epoch]
        racing = [name for name in alive if name not in gone]
        waiting = [Job(n, epoch) for n in racing if len(scores.get(n, ())) < epoch]
        if waiting:
            return Standing(tuple(decisions), tuple(racing), tuple(waiting), None)
        ranking = sorted(
            racing, key=lambda n: (-average(scores[n][:epoch]), -scores[n][epoch - 1], order[n])
        )
        last_round = epoch == schedule.epochs
        keep = 1 if last_round else survivors_of(len(racing))
        for rank, name in enumerate(ranking, start=1):
            survives = rank <= keep
            decisions.append(
                Decision(
                    number,
                    epoch,
                    name,
                    average(scores[name][:epoch]),
                    rank,
                    survives,
                    f"average of {epoch} epochs ranks {rank} of {len(ranking)}, {keep} go on",
                )
            )
        for rank, name in enumerate(gone, start=len(ranking) + 1):
            decisions.append(
                Decision(number, epoch, name, float("nan"), rank, False, f"failed: {failed[name]}")
            )
        alive = ranking[:keep]
        number += 1
    # A champion that fails has no runner-up to replace it: the others' training has stopped.
    champion = next(
        (n for n in alive if n not in failed or len(scores.get(n, ())) >= schedule.epochs), None
    )
    jobs = []
    if champion is not None and len(scores.get(champion, ())) < schedule.epochs:
        jobs.append(Job(champion, schedule.epochs))
    return Standing(tuple(decisions), (champion,) if champion else (), tuple(jobs), champion)


def forecast(sizes: Sequence[int], schedule: Schedule) -> int:
    """Epochs that groups of these sizes will be trained for in all, failures aside."""
    total = 0
    for size in sizes:
        trained, number = 0, 1
        while size > 1:
            epoch = schedule.cut(number)
            total += size * (epoch - trained)
            trained = epoch
            size = 1 if epoch == schedule.epochs else survivors_of(size)
            number += 1
        if size:
            total += schedule.epochs - trained
    return total

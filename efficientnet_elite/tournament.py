"""The elimination tournament of Network Candidate Search (arXiv 2009.07409, section 3).

Pure decisions: given the groups and every score recorded so far, `standing` says what was decided,
what is to be trained next and who has won. There is no other state, so the same scores give the
same decisions in a running search, after a crash and in a replay; groups do not affect each other.
Who goes on is the matter of a rule (`rules`).

This module must not train, write files, print, nor import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite import rules
from efficientnet_elite.rules import Rule, survivors_of

Scores = Mapping[str, Sequence[float]]  # candidate -> validation accuracy of epoch 1, 2, ...
Losses = Mapping[str, Sequence[float]]  # candidate -> train loss of epoch 1, 2, ...


@dataclass(frozen=True)
class Schedule:
    """Length of the rounds and of the whole training, in epochs, and the rule of elimination.

    The last round may be shorter, so that no round goes past ``epochs``; it always ends with a
    single winner.
    """

    round_epochs: int
    epochs: int
    rule: str = "average"

    def __post_init__(self) -> None:
        if not 1 <= self.round_epochs <= self.epochs:
            raise ValueError("1 <= round_epochs <= epochs does not hold")

    def cut(self, number: int, *, losses: bool = True) -> int:
        """The epoch after which round ``number`` (from 1) is decided.

        Args:
          number: of the round.
          losses: whether train losses are recorded, as they are in every search.
        """
        rule = rules.find(self.rule)
        return rule.cut(number, self.round_epochs, self.epochs, losses=losses)


@dataclass(frozen=True)
class Decision:
    """What a round decided about one candidate.

    Attributes:
      round: from 1.
      epoch: after which it was decided.
      candidate: its name.
      score: the rule's, of everything up to ``epoch``; NaN where training failed.
      rank: in the group's round, from 1.
      survives: whether it goes on.
      reason: in words.
      close: too close to call: what separates the candidate from the other side of the cut is
        below the noise of a score.
    """

    round: int
    epoch: int
    candidate: str
    score: float
    rank: int
    survives: bool
    reason: str
    close: bool = False


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


def standing(
    members: Sequence[str],
    scores: Scores,
    schedule: Schedule,
    *,
    losses: Losses | None = None,
    failed: Mapping[str, str] | None = None,
) -> Standing:
    """Replays a group's tournament on what was recorded.

    At each of its cuts the schedule's rule scores the racing candidates and says how many go on. A
    tie goes to the higher accuracy in the latest epoch, then to the one named first in ``members``
    (which callers order by cost, the cheapest first). A failed candidate leaves in the round it
    could not finish, ranked last; decisions of earlier rounds stand. A group of one has its
    champion without a round. The round that ends the whole training ends the tournament: only its
    best survives.

    Args:
      members: the group's candidates, the one to prefer in a tie first.
      scores: validation accuracies by epoch; candidates without any may be absent.
      schedule: lengths in epochs, and the rule.
      losses: train losses by epoch; None where none are recorded.
      failed: candidate to reason, for those whose training cannot go on.
    """
    failed = failed or {}
    rule = rules.find(schedule.rule)
    order = {name: position for position, name in enumerate(members)}
    alive = list(members)
    decisions: list[Decision] = []
    number = 1
    while len(alive) > 1:
        epoch = schedule.cut(number, losses=losses is not None)
        # A failure counts from the round in which it happened: earlier decisions stand.
        gone = [n for n in alive if n in failed and len(scores.get(n, ())) < epoch]
        racing = [name for name in alive if name not in gone]
        waiting = [Job(n, epoch) for n in racing if len(scores.get(n, ())) < epoch]
        if waiting:
            return Standing(tuple(decisions), tuple(racing), tuple(waiting), None)
        ranked = _rank(rule, racing, scores, losses, epoch)
        ranked.sort(key=lambda pair: (-pair[1], -scores[pair[0]][epoch - 1], order[pair[0]]))
        error = rule.error([scores[name][:epoch] for name in racing]) if len(racing) > 1 else 0.0
        if epoch == schedule.epochs or len(racing) < 2:
            keep = min(1, len(racing))
        else:
            keep = rule.keep([score for _, score in ranked], error, number, len(members))
        decisions += _decide(rule, number, epoch, ranked, keep, error)
        for rank, name in enumerate(gone, start=len(ranked) + 1):
            decisions.append(
                Decision(number, epoch, name, float("nan"), rank, False, f"failed: {failed[name]}")
            )
        alive = [name for name, _ in ranked[:keep]]
        number += 1
    # A champion that fails has no runner-up to replace it: the others' training has stopped.
    champion = next(
        (n for n in alive if n not in failed or len(scores.get(n, ())) >= schedule.epochs), None
    )
    jobs = []
    if champion is not None and len(scores.get(champion, ())) < schedule.epochs:
        jobs.append(Job(champion, schedule.epochs))
    return Standing(tuple(decisions), (champion,) if champion else (), tuple(jobs), champion)


def _rank(
    rule: Rule, racing: Sequence[str], scores: Scores, losses: Losses | None, epoch: int
) -> list[tuple[str, float]]:
    """The racing candidates with their scores after ``epoch``."""
    seen = [scores[name][:epoch] for name in racing]
    told = None if losses is None else [losses.get(name, ())[:epoch] for name in racing]
    return list(zip(racing, rule.scores(seen, told) if racing else (), strict=True))


def _decide(
    rule: Rule,
    number: int,
    epoch: int,
    ranked: Sequence[tuple[str, float]],
    keep: int,
    error: float,
) -> list[Decision]:
    """One decision a candidate, the best first."""
    # The gap in question is the one at plain halving's cut, also where one below it stays.
    border = min(keep, survivors_of(len(ranked)))
    found = []
    for rank, (name, score) in enumerate(ranked, start=1):
        survives = rank <= keep
        reason = (
            f"{rule.words.format(epoch=epoch)} ranks {rank} of {len(ranked)}, {keep} "
            f"{'goes' if keep == 1 else 'go'} on"
        )
        close = False
        if border < len(ranked):
            apart = abs(score - ranked[border if rank <= border else border - 1][1])
            close = bool(apart < error)
            if close:
                reason += f"; too close to call: {apart:.2g} apart, noise {error:.2g}"
        found.append(Decision(number, epoch, name, score, rank, survives, reason, close))
    return found


def forecast(sizes: Sequence[int], schedule: Schedule, *, losses: bool = True) -> int:
    """Epochs that groups of these sizes will be trained for in all.

    Without failures, and as if no cut were too close to call: a rule that then postpones its
    decision trains for some more.
    """
    return sum(outlook(size, 0, schedule, losses=losses) for size in sizes)


def outlook(size: int, number: int, schedule: Schedule, *, losses: bool = True) -> int:
    """Epochs still to be trained by ``size`` candidates that round ``number`` has left in the race.

    See `forecast`; before the first round the number is 0.
    """
    trained = schedule.cut(number, losses=losses) if number else 0
    total = 0
    while size > 1 and trained < schedule.epochs:
        number += 1
        epoch = schedule.cut(number, losses=losses)
        total += size * (epoch - trained)
        trained, size = epoch, survivors_of(size)
    return total + (schedule.epochs - trained if size else 0)

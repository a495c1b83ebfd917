"""The elimination tournament of Network Candidate Search (arXiv 2009.07409, section 3).

Pure decisions: given the groups and every score recorded so far, `standing` says what was decided,
what is to be trained next and who has won. There is no other state, so the same scores give the
same decisions in a running search, after a crash and in a replay; groups do not affect each other.
Who goes on is the matter of a rule (`rules`).

This module must not train, write files, print, nor import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import variance

from efficientnet_elite.search import rules
from efficientnet_elite.search.cuts import Cut, Decision, Losses, Scores
from efficientnet_elite.training.outcome import Int8Result

Int8 = Mapping[str, Mapping[int, Int8Result]]  # candidate -> epoch -> what int8 makes of it

FINALISTS = 4  # a cut among so many or fewer is made by int8 accuracy, where that is asked for


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
class Job:
    """Train a candidate until it has been trained for ``until_epoch`` epochs in all.

    With ``int8``, measure what the last of them is worth in int8, too.
    """

    candidate: str
    until_epoch: int
    int8: bool = False


@dataclass(frozen=True)
class Noise:
    """What trainings of one network with several seeds tell about the noise of a score.

    Attributes:
      waiting: not all of them have come to the first cut; no group is cut before.
      error: standard deviation of the rule's score at the first cut, pooled over the networks; None
        where nothing could be measured.
    """

    waiting: bool
    error: float | None


@dataclass(frozen=True)
class Halt:
    """A group's time is up. Who has a clock records it; decisions follow from it as from scores.

    Attributes:
      round: that ends the race, whoever is left in it; None where the race ended by itself.
      epoch: whose scores this round goes by; 0 where nobody has one.
      end: epochs after which the champion's training ends; None for the schedule's.
    """

    round: int | None = None
    epoch: int = 0
    end: int | None = None


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

    @property
    def finished(self) -> bool:
        """Nothing is left to train. Not so where a group has no jobs but waits for a `Noise`."""
        return not self.jobs and (self.champion is not None or not self.survivors)


def standing(
    members: Sequence[str],
    scores: Scores,
    schedule: Schedule,
    *,
    losses: Losses | None = None,
    failed: Mapping[str, str] | None = None,
    int8: Int8 | None = None,
    noise: Noise | None = None,
    halt: Halt | None = None,
) -> Standing:
    """Replays a group's tournament on what was recorded.

    At each of its cuts the schedule's rule scores the racing candidates and says how many go on. A
    tie goes to the higher accuracy in the latest epoch, then to the one named first in ``members``
    (which callers order by cost, the cheapest first). A failed candidate leaves in the round it
    could not finish, ranked last; decisions of earlier rounds stand. Where the last one in the race
    fails on the way to its end, the best of those who left last takes over, and so on until nobody
    is left who has not failed. A group of one has its champion without a round. The round that ends
    the whole training ends the tournament: only its best survives.

    With ``int8``, cuts among `FINALISTS` or fewer add to the rule's score what the candidate's int8
    form gains or loses against the same weights in float32, on the same images. The difference
    is nearly free of the noise that both share, so that the rule's smoothing is kept. Who has no
    int8 form ranks behind all who have. Ties go to the higher int8 accuracy.

    A `Halt` ends the race in a round at once: the best by the scores of its epoch wins, by float
    accuracy and the estimated noise. Who has not come so far leaves and does not take over later;
    where nobody has a score, the one named first wins.

    Args:
      members: the group's candidates, the one to prefer in a tie first.
      scores: validation accuracies by epoch; candidates without any may be absent.
      schedule: lengths in epochs, and the rule.
      losses: train losses by epoch; None where none are recorded.
      failed: candidate to reason, for those whose training cannot go on.
      int8: what was measured in int8; None where float accuracies alone decide.
      noise: measured of a score; None where it is estimated from the curves' own fluctuation.
      halt: where the group's time is up.
    """
    failed, halt = failed or {}, halt or Halt()
    rule, told = rules.find(schedule.rule), losses is not None
    alive = list(members)
    bench: list[str] = []  # who has left without failing: the latest first, and of those the best
    decisions: list[Decision] = []
    number = 1

    while len(alive) > 1:
        if number == halt.round:
            # Who has failed, be it before or since, is among them: the decision must stand.
            late = [n for n in alive if not 0 < halt.epoch <= len(scores.get(n, ()))]
            racing = [name for name in alive if name not in late]
            cut = Cut(rule, number, halt.epoch, members, racing, scores, losses, {})
            ranked = cut.ranked()
            decisions += _called(cut, ranked, late)
            best = [name for name, _ in ranked] or late
            alive, bench = best[:1], best[1:] + bench
            number += 1
            break
        epoch = schedule.cut(number, losses=told)
        # A failure counts from the round in which it happened: earlier decisions stand.
        gone = [n for n in alive if n in failed and len(scores.get(n, ())) < epoch]
        racing = [name for name in alive if name not in gone]
        measured = _measured(int8, racing, epoch)
        if measured is not None:  # who cannot even be measured has failed, too
            gone += [n for n in racing if n in failed and n not in measured]
            racing = [name for name in racing if name not in gone]
        waiting = [
            Job(n, epoch, int8=measured is not None)
            for n in racing
            if len(scores.get(n, ())) < epoch or (measured is not None and n not in measured)
        ]
        if waiting or (racing and noise is not None and noise.waiting):
            return Standing(tuple(decisions), tuple(racing), tuple(waiting), None)
        cut = Cut(rule, number, epoch, members, racing, scores, losses, measured or {})
        ranked = cut.ranked()
        error = cut.error() if noise is None or noise.error is None else noise.error
        if epoch == schedule.epochs or len(racing) < 2:
            keep = min(1, len(racing))
        else:
            ordered = [score for _, score in ranked]
            keep = rule.keep(ordered, error, number, len(members), losses=told)
        decisions += cut.decide(ranked, keep, error)
        decisions += _failed(cut, len(ranked), gone, failed)
        alive = [name for name, _ in ranked[:keep]]
        bench[:0] = [name for name, _ in ranked[keep:]]
        number += 1
    end = schedule.epochs if halt.end is None else halt.end
    champion, made = _crowned(number, alive, bench, decisions, scores, failed, end)
    jobs = []
    if champion is not None:
        trained = len(scores.get(champion, ())) >= end
        # What is exported in the end is worth knowing, too; it decides nothing.
        ask = int8 is not None and halt.end is None and champion not in failed
        known = not ask or schedule.epochs in (int8 or {}).get(champion, ())
        if not (trained and known):
            jobs.append(Job(champion, end, int8=ask))
    survivors = (champion,) if champion else ()
    return Standing((*decisions, *made), survivors, tuple(jobs), champion)


def _called(cut: Cut, ranked: Sequence[tuple[str, float]], late: Sequence[str]) -> list[Decision]:
    """The round that ends a race whose time is up; ``late`` have not come to its epoch."""
    decisions = [
        replace(decision, reason=f"{decision.reason}; time is up")
        for decision in cut.decide(ranked, min(1, len(ranked)), cut.error())
    ]
    for rank, name in enumerate(late, start=len(ranked) + 1):
        reason = "without a score when time was up"
        if rank == 1:
            reason += "; the cheapest goes on"
        decisions.append(
            Decision(cut.round, cut.epoch, name, float("nan"), rank, rank == 1, reason)
        )
    return decisions


def _failed(
    cut: Cut, others: int, gone: Sequence[str], failed: Mapping[str, str]
) -> list[Decision]:
    """Those who leave in a round because they have failed, ranked behind the ``others``."""
    return [
        Decision(cut.round, cut.epoch, name, float("nan"), rank, False, f"failed: {failed[name]}")
        for rank, name in enumerate(gone, start=others + 1)
    ]


def _measured(int8: Int8 | None, racing: Sequence[str], epoch: int) -> dict[str, Int8Result] | None:
    """The racing candidates' results in int8 so far; None where this cut does not ask for them."""
    if int8 is None or not 2 <= len(racing) <= FINALISTS:
        return None
    return {name: int8[name][epoch] for name in racing if epoch in int8.get(name, ())}


def _crowned(
    number: int,
    alive: Sequence[str],
    bench: Sequence[str],
    before: Sequence[Decision],
    scores: Scores,
    failed: Mapping[str, str],
    epochs: int,
) -> tuple[str | None, list[Decision]]:
    """Who wins, and the rounds in which one takes over from another who has failed."""

    def lost(name: str | None) -> bool:
        return name is None or (name in failed and len(scores.get(name, ())) < epochs)

    champion = alive[0] if alive else None
    made: list[Decision] = []
    for place, heir in enumerate(bench, start=number):
        if not lost(champion):
            break
        made += _succeed(place, champion, heir, [*before, *made], scores, failed)
        champion = heir
    return None if lost(champion) else champion, made


def scores_by_seed(
    names: Sequence[str], scores: Scores, losses: Losses, schedule: Schedule
) -> dict[str, float]:
    """The rule's scores of one network's trainings at the first cut; absent before.

    They are scored among themselves: a rule that compares train losses compares theirs.

    Args:
      names: of the trainings.
      scores, losses, schedule: see `standing`.
    """
    rule, epoch = rules.find(schedule.rule), schedule.cut(1)
    complete = [name for name in names if len(scores.get(name, ())) >= epoch]
    return dict(Cut(rule, 1, epoch, names, complete, scores, losses, {}).ranked())


def measured_noise(
    repeats: Iterable[Sequence[str]],
    scores: Scores,
    losses: Losses,
    schedule: Schedule,
    failed: Mapping[str, str],
) -> Noise:
    """The noise that trainings of the same networks with different seeds show at the first cut.

    It is used for all cuts: later ones, at lower learning rates, are less noisy if anything.

    Args:
      repeats: names of the trainings of each network; those that have failed do not count.
      scores, losses, schedule: see `standing`.
      failed: training to reason.
    """
    squares, freedom = 0.0, 0
    for names in repeats:
        found = scores_by_seed(names, scores, losses, schedule)
        if any(name not in found and name not in failed for name in names):
            return Noise(True, None)
        if len(found) > 1:
            squares += variance(found.values()) * (len(found) - 1)
            freedom += len(found) - 1
    return Noise(False, (squares / freedom) ** 0.5 if freedom else None)


def _succeed(
    number: int,
    champion: str | None,
    heir: str,
    decisions: Sequence[Decision],
    scores: Scores,
    failed: Mapping[str, str],
) -> list[Decision]:
    """A round of its own: the heir goes on, and the champion that has failed leaves.

    Without a champion all who were in the race failed at once, which is on record already.
    """
    latest = next(d for d in reversed(decisions) if d.candidate == heir)
    ranked = sum(d.round == latest.round for d in decisions)
    reason = f"takes over, ranked {latest.rank} of {ranked} in round {latest.round}"
    if champion is None:
        epoch = max(d.epoch for d in decisions)
        reason += ": all others failed"
        return [Decision(number, epoch, heir, latest.score, 1, True, reason)]
    epoch, fault = len(scores.get(champion, ())), f"failed: {failed[champion]}"
    return [
        Decision(number, epoch, heir, latest.score, 1, True, f"{reason}: {champion} {fault}"),
        Decision(number, epoch, champion, float("nan"), 2, False, fault),
    ]

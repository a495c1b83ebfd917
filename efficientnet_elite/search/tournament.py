"""The elimination tournament of Network Candidate Search (arXiv 2009.07409, section 3).

Pure decisions: from the candidates of a group and everything recorded so far, `standing` says what
was decided, what is to be trained next and who has won. There is no other state, so that the same
record gives the same decisions in a running search, after a crash and in a replay. Groups do not
affect each other. A rule (`rules`) decides how many candidates go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any, TypeAlias

from efficientnet_elite.search.decisions import (
    Cause,
    DecidedRound,
    Decision,
    decided_rounds,
    failed_decision,
)
from efficientnet_elite.search.elimination import Elimination, Losses, Scores
from efficientnet_elite.search.noise import Noise, Repeat, further_trainings
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.training.outcome import Int8Result

Int8 = Mapping[str, Mapping[int, Int8Result]]  # candidate -> epoch -> what int8 makes of it

INT8_CANDIDATES = 4
"""With ``select=int8``, rounds that so many candidates or fewer enter use int8 accuracy."""


@dataclass(frozen=True)
class Pending:
    """Training that a group waits for.

    Attributes:
      candidate: name of the candidate.
      until_epoch: epochs that it must have been trained for in all.
      int8: whether its int8 accuracy after the last of them is needed, too.
      seed: of the training that is meant, added to the seed of the search; 0 for the candidate's
        own one.
      fold: see `Repeat`.
      final: whether its final training is meant.
    """

    candidate: str
    until_epoch: int
    int8: bool = False
    seed: int = 0
    fold: int = 0
    final: bool = False

    @property
    def training(self) -> str:
        """The name under which the epochs are recorded."""
        if self.final:
            return Repeat.final(self.candidate).name
        if not self.seed:
            return self.candidate
        return Repeat.of(self.candidate, self.seed, self.fold).name


@dataclass(frozen=True)
class Halt:
    """What is ended in a group because the time of the search is up.

    The driver, which has a clock, records it; decisions follow from it as they do from scores.

    Attributes:
      round: the round that ends the tournament, however many candidates are left in it; None where
        the tournament ended by itself.
      epoch: the epoch from which the scores of this round are taken; 0 if no candidate has one.
      end: epochs after which the champion's training ends, its final one where it has one; None
        for those of the schedule.
    """

    round: int | None = None
    epoch: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Standing:
    """Where the tournament of a group stands.

    Attributes:
      decisions: all decisions so far, by round and rank.
      survivors: candidates that have not been eliminated.
      pending: what must be trained before anything more can be decided; empty once the champion is
        trained to the end, and if all candidates have failed.
      champion: the last survivor, as soon as there is only one.
      final: whether the champion's final training is exported, and not its own one.
    """

    decisions: tuple[Decision, ...]
    survivors: tuple[str, ...]
    pending: tuple[Pending, ...]
    champion: str | None
    final: bool = False

    @property
    def training(self) -> str | None:
        """The name under which the epochs are recorded of what is exported of the champion."""
        if self.champion is None or not self.final:
            return self.champion
        return Repeat.final(self.champion).name

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train. False for a group that only waits for a `Noise`."""
        return not self.pending and (self.champion is not None or not self.survivors)

    @property
    def next_round(self) -> int:
        """Number of the round that has not been decided yet, from 1."""
        return 1 + max((decision.round for decision in self.decisions), default=0)


@dataclass
class _Tournament:
    """The state of a group's tournament while its rounds are processed.

    Attributes:
      racing: candidates that have not been eliminated.
      reserves: eliminated candidates that have not failed, the first to take over first: those of
        the latest round before earlier ones, and of one round the best first.
      decisions: all decisions so far.
      round: number of the next round.
    """

    racing: list[str]
    reserves: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    round: int = 1

    def end_round(
        self, decisions: Sequence[Decision], racing: list[str], eliminated: Sequence[str]
    ) -> None:
        self.decisions += decisions
        self.racing = racing
        self.reserves[:0] = eliminated
        self.round += 1

    def follow(self, recorded: DecidedRound) -> None:
        """Takes over the decisions of a round as they were recorded."""
        racing = [decision.candidate for decision in recorded.surviving]
        if recorded.surviving and recorded.surviving[0].cause is Cause.SUCCESSOR:
            (successor,) = racing
            if successor in self.reserves:
                del self.reserves[: self.reserves.index(successor) + 1]
            self.end_round(recorded.decisions, racing, ())
            return
        eliminated = [d for d in recorded.eliminated if d.cause is not Cause.FAILED]
        if any(decision.scored for decision in recorded.decisions):
            # Candidates without a score when time was up are out for good, unless all were.
            eliminated = [d for d in eliminated if d.cause is not Cause.LATE]
        self.end_round(recorded.decisions, racing, [d.candidate for d in eliminated])


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
    recorded: Sequence[Decision] = (),
) -> Standing:
    """Works out where a group stands, from what was recorded of it.

    At the end of each round the schedule's rule scores the racing candidates and says how many go
    on. A tie goes to the higher accuracy in the latest epoch, then to the candidate that is named
    first in ``members`` (which callers order by cost, the cheapest first). A failed candidate
    leaves in the round that it could not finish, ranked last; decisions of earlier rounds stand.
    If the last candidate fails before its training ends, the best of those that left last takes
    over, and so on until all candidates have failed. A group of one candidate has its
    champion without a round. The round that ends with the whole training ends the tournament: only
    its best candidate survives.

    With ``int8``, rounds that `INT8_CANDIDATES` candidates or fewer enter add to the rule's score
    the int8 accuracy minus the float32 accuracy of the same weights on the same images. The noise
    that both accuracies share mostly cancels in this difference, so that the rule still smooths it.
    Candidates without an int8 form rank behind all others. Ties go to the higher int8 accuracy.

    With the schedule's ``finalist_seed``, the last two candidates are trained again if they are too
    close to call: as long as before, a second time with this seed or once for each fold. They are
    ranked by the mean of the scores of all their trainings, which has less noise. Once they are
    ranked so, they remain so. If a further training fails, their own ones decide. After the whole
    training they decide, too: they are what is exported.

    With the schedule's ``final_epochs``, a champion gets a final training in place of the rest of
    its own one. If that fails, its own one is trained to the end.

    A `Halt` ends the tournament in a round at once: the best candidate by the scores of the halt's
    epoch wins, by float32 accuracy and the estimated noise. A candidate that has not reached this
    epoch leaves and does not take over later. If no candidate has a score, the first one wins.

    Args:
      members: candidates of the group, the one to prefer in a tie first.
      scores: validation accuracies by epoch; candidates without any may be absent.
      schedule: lengths in epochs, and the rule.
      losses: training losses by epoch; None where none are recorded.
      failed: candidate whose training cannot go on to the reason.
      int8: what was measured in int8; None where float32 accuracies alone decide.
      noise: noise of a score from repeats; None where it is estimated from the curves.
      halt: what is ended because time is up; None where nothing is.
      recorded: decisions of earlier rounds, by round and rank. They stand as they are, only later
        rounds are judged; empty to judge everything.
    """
    failed, halt = failed or {}, halt or Halt()
    tournament = _Tournament(list(members))
    for decided in decided_rounds(0, recorded):
        tournament.follow(decided)
    while len(tournament.racing) > 1:
        if tournament.round == halt.round:
            _end_early(tournament, members, scores, losses, schedule, halt)
            break
        waiting = _decide_round(tournament, members, scores, losses, schedule, failed, int8, noise)
        if waiting is not None:
            racing, pending = waiting
            return Standing(tuple(tournament.decisions), tuple(racing), pending, None)
    end = schedule.epochs if halt.end is None else halt.end
    champion = _crown(tournament, scores, failed, end)
    decisions = tuple(tournament.decisions)
    if champion is None:
        return Standing(decisions, (), (), None)
    last, final = Pending(champion, end), False
    if schedule.final_epochs:
        final_end = schedule.final_epochs if halt.end is None else halt.end
        longer = Pending(champion, final_end, final=True)
        done = len(scores.get(longer.training, ()))
        if final := longer.training not in failed or done >= final_end:
            last = longer
    trained = len(scores.get(last.training, ())) >= last.until_epoch
    # The int8 accuracy of what is exported is measured for the report; it decides nothing.
    wanted = int8 is not None and halt.end is None and last.training not in failed
    measured = not wanted or last.until_epoch in (int8 or {}).get(last.training, ())
    pending = () if trained and measured else (replace(last, int8=wanted),)
    return Standing(decisions, (champion,), pending, champion, final)


def _decide_round(
    tournament: _Tournament,
    members: Sequence[str],
    scores: Scores,
    losses: Losses | None,
    schedule: Schedule,
    failed: Mapping[str, str],
    int8: Int8 | None,
    noise: Noise | None,
) -> tuple[list[str], tuple[Pending, ...]] | None:
    """Ends a round. If training is needed first, returns the candidates left and that training."""
    rule, number = schedule.judge, tournament.round
    epoch = schedule.elimination_epoch(number, losses=losses is not None)
    # A failure counts from the round in which it happened: earlier decisions stand.
    lost = [n for n in tournament.racing if n in failed and len(scores.get(n, ())) < epoch]
    racing = [name for name in tournament.racing if name not in lost]
    measured = None
    # Those who enter the round are counted, not those left of them: otherwise it would depend on
    # the order of the failures whether a candidate is measured, and can fail in it.
    if int8 is not None and 2 <= len(tournament.racing) <= INT8_CANDIDATES:
        measured = {name: int8[name][epoch] for name in racing if epoch in int8.get(name, ())}
        # A candidate whose int8 form cannot be measured has failed, too.
        lost += [n for n in racing if n in failed and n not in measured]
        racing = [name for name in racing if name not in lost]
    pending = tuple(
        Pending(n, epoch, int8=measured is not None)
        for n in racing
        if len(scores.get(n, ())) < epoch or (measured is not None and n not in measured)
    )
    if pending or (racing and noise is not None and noise.waiting):
        return racing, pending
    elimination = Elimination(rule, number, epoch, members, racing, scores, losses, measured or {})
    measured_noise = None if noise is None else noise.deviation
    if _needs_further(tournament, elimination, schedule, measured_noise):
        further = further_trainings(racing, schedule)
        missing = [repeat for repeat in further if len(scores.get(repeat.name, ())) < epoch]
        if not any(repeat.name in failed for repeat in missing):
            if missing:
                return racing, tuple(
                    Pending(r.candidate, epoch, seed=r.seed, fold=r.fold) for r in missing
                )
            names_of = {n: [r.name for r in further if r.candidate == n] for n in racing}
            elimination = replace(elimination, further=names_of)
    ranking = elimination.ranking()
    deviation = elimination.noise(measured_noise)
    if epoch == schedule.epochs or len(racing) < 2:
        keep = min(1, len(racing))
    elif schedule.waits and not elimination.is_ready():
        keep = len(racing)
    else:
        ordered = [score for _, score in ranking]
        keep = rule.keep(ordered, deviation, number, len(members), losses=losses is not None)
    decisions = elimination.decide(ranking, keep, deviation)
    decisions += [
        failed_decision(number, epoch, name, rank, failed[name])
        for rank, name in enumerate(lost, start=len(ranking) + 1)
    ]
    names = [name for name, _ in ranking]
    tournament.end_round(decisions, names[:keep], names[keep:])
    return None


def _needs_further(
    tournament: _Tournament,
    elimination: Elimination,
    schedule: Schedule,
    measured_noise: float | None,
) -> bool:
    """Whether two finalists are too close to call by one training each, or were before."""
    if schedule.finalist_seed is None or elimination.epoch == schedule.epochs:
        return False
    if len(tournament.racing) != 2 or len(elimination.racing) != 2:
        return False
    if schedule.waits and not elimination.is_ready():
        return False
    if tournament.decisions and tournament.decisions[-1].trainings is not None:
        return True
    (_, better), (_, worse) = elimination.ranking()
    return better - worse < elimination.noise(measured_noise)


def _end_early(
    tournament: _Tournament,
    members: Sequence[str],
    scores: Scores,
    losses: Losses | None,
    schedule: Schedule,
    halt: Halt,
) -> None:
    """Ends a tournament whose time is up."""
    # Failed candidates are treated as all others, since the decision must stand whenever they fail.
    late = [n for n in tournament.racing if not 0 < halt.epoch <= len(scores.get(n, ()))]
    racing = [name for name in tournament.racing if name not in late]
    rule, number = schedule.judge, tournament.round
    elimination = Elimination(rule, number, halt.epoch, members, racing, scores, losses, {})
    ranking = elimination.ranking()
    decisions = elimination.decide(ranking, min(1, len(ranking)), elimination.noise(), halted=True)
    decisions += [
        Decision(
            number, halt.epoch, name, nan, rank, survives=rank == 1, cause=Cause.LATE, halted=True
        )
        for rank, name in enumerate(late, start=len(ranking) + 1)
    ]
    best_first = [name for name, _ in ranking] or late
    tournament.end_round(decisions, best_first[:1], best_first[1:])


def _crown(
    tournament: _Tournament, scores: Scores, failed: Mapping[str, str], epochs: int
) -> str | None:
    """The champion; None where all have failed.

    Each time the champion has failed, the next of the reserves takes over in a separate round.
    """

    def lost(name: str | None) -> bool:
        # A halt may end the training at fewer epochs than an earlier champion had when it failed.
        return name is None or (name in failed and len(scores.get(name, ())) != epochs)

    champion = tournament.racing[0] if tournament.racing else None
    while lost(champion) and tournament.reserves:
        successor = tournament.reserves.pop(0)
        decisions = _succession(tournament, champion, successor, scores, failed)
        tournament.end_round(decisions, [successor], ())
        champion = successor
    return None if lost(champion) else champion


def _succession(
    tournament: _Tournament,
    champion: str | None,
    successor: str,
    scores: Scores,
    failed: Mapping[str, str],
) -> list[Decision]:
    """The decisions by which a candidate takes over from a champion that has failed.

    Without a champion, all candidates left failed at once, and that has already been decided.
    """
    decisions, number = tournament.decisions, tournament.round
    latest = next(d for d in reversed(decisions) if d.candidate == successor)
    if champion is None:
        epoch = max(decision.epoch for decision in decisions)
    else:
        epoch = len(scores.get(champion, ()))
    succession = Decision(
        round=number,
        epoch=epoch,
        candidate=successor,
        score=latest.score,
        rank=1,
        survives=True,
        cause=Cause.SUCCESSOR,
        replaced=champion,
        failure=None if champion is None else failed[champion],
        earlier_round=latest.round,
        earlier_rank=latest.rank,
        earlier_ranked=sum(decision.round == latest.round for decision in decisions),
    )
    if champion is None:
        return [succession]
    return [succession, failed_decision(number, epoch, champion, 2, failed[champion])]


Judge: TypeAlias = Callable[
    [
        Sequence[str],
        Scores,
        Losses,
        Mapping[str, str],
        Int8,
        Noise | None,
        Halt | None,
        Sequence[Decision],
    ],
    Standing,
]


def judge_of(meta: Mapping[str, Any]) -> Judge:
    """How a search judges one group, from the settings in its ledger.

    The result is a function of members (in the ledger's order, the one to prefer in a tie first),
    scores, training losses, failures, int8 results, noise, halt and decisions on record.
    """
    schedule = schedule_of(meta)
    by_int8 = meta["config"]["select"] == "int8"
    return lambda members, scores, losses, failed, int8, noise, halt, recorded: standing(
        members,
        scores,
        schedule,
        losses=losses,
        failed=failed,
        int8=int8 if by_int8 else None,
        noise=noise,
        halt=halt,
        recorded=recorded,
    )

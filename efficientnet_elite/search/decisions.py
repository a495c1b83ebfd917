"""What an elimination decides about each candidate, as codes and numbers.

Decisions are what the ledger stores, what an audit compares and what a report reads. The sentences
that people read are made from them in one place, `decision_text`, so that a change of wording never
touches a record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import groupby
from math import isfinite, nan

from efficientnet_elite.search import rules


class Cause(StrEnum):
    """Why a candidate goes on or leaves."""

    RANKED = "ranked"
    """By its rank among the candidates of its group."""
    FAILED = "failed"
    """Its training could not go on."""
    LATE = "late"
    """It had no score yet when the time of its group was up."""
    SUCCESSOR = "successor"
    """It takes over from a champion whose training has failed."""


@dataclass(frozen=True)
class Decision:
    """What an elimination decides about one candidate.

    Facts that do not apply to the cause, or that an older ledger did not record, are None.

    Attributes:
      round: number of the round, from 1.
      epoch: the epoch after which the elimination took place; nothing later was looked at.
      candidate: name of the candidate.
      score: score by the rule from all epochs up to ``epoch``; NaN for a candidate without one.
      rank: rank in the group at this elimination, from 1.
      survives: whether the candidate goes on.
      close: whether this was too close to call: the gap is below the noise, or there is none.
      cause: why it goes on or leaves.
      rule: name of the rule that ranked it.
      ranked: how many candidates had a score.
      survivors: how many of these go on.
      gap: distance of the score from the nearest score on the other side of the middle of the
        ranking, in the unit of the scores; None where there is no other side.
      noise: standard deviation of a score between seeds that was assumed; 0 where none was seen.
      int8_change: int8 accuracy minus float32 accuracy, 0..1, that was added to the score.
      int8_fault: why the candidate has no int8 form, as recorded.
      failure: why its training failed, as recorded; of a successor: why the champion's did.
      halted: whether the time of the group was up.
      trainings: number of trainings, each with another seed, that the score is the mean of; None
        where it is that of one.
      replaced: the champion that a successor takes over from; None where all had failed at once.
      earlier_round, earlier_rank, earlier_ranked: the round in which a successor had left, its rank
        in it, and the number of candidates that were ranked in it.
    """

    round: int
    epoch: int
    candidate: str
    score: float
    rank: int
    survives: bool
    close: bool = False
    cause: Cause = Cause.RANKED
    rule: str | None = None
    ranked: int | None = None
    survivors: int | None = None
    gap: float | None = None
    noise: float | None = None
    int8_change: float | None = None
    int8_fault: str | None = None
    failure: str | None = None
    halted: bool = False
    trainings: int | None = None
    replaced: str | None = None
    earlier_round: int | None = None
    earlier_rank: int | None = None
    earlier_ranked: int | None = None

    @property
    def scored(self) -> bool:
        """Whether the candidate had a score."""
        return isfinite(self.score)


def failed_decision(round: int, epoch: int, candidate: str, rank: int, failure: str) -> Decision:
    """The decision about a candidate whose training has failed: it leaves, ranked last."""
    return Decision(
        round, epoch, candidate, nan, rank, survives=False, cause=Cause.FAILED, failure=failure
    )


def decision_text(decision: Decision) -> str:
    """The reason of a decision in plain English, such as ``average of 4 epochs ranks 2 of 3``."""
    return _TEXTS[decision.cause](decision)


def _ranked_text(decision: Decision) -> str:
    text = _score_text(decision)
    if decision.int8_fault is not None:
        text += f", without an int8 form ({decision.int8_fault}),"
    elif decision.int8_change is not None:
        text += f", with int8 at {100 * decision.int8_change:+.2f} points,"
    text += f" ranks {decision.rank}"
    if decision.ranked is not None:
        text += f" of {decision.ranked}"
    if decision.survivors is not None:
        text += f", {decision.survivors} {'goes' if decision.survivors == 1 else 'go'} on"
    if decision.close:
        text += f"; too close to call{_gap_text(decision)}"
    return f"{text}; time is up" if decision.halted else text


def _score_text(decision: Decision) -> str:
    if decision.rule not in rules.RULES:
        return "its score"
    if decision.trainings is not None:
        words = rules.RULES[decision.rule].words.format(epoch=decision.epoch)
        return f"{words}, mean of {decision.trainings} trainings,"
    return rules.RULES[decision.rule].words.format(epoch=decision.epoch)


def _gap_text(decision: Decision) -> str:
    if decision.gap is None:
        return ""
    if decision.noise:
        return f": {decision.gap:.2g} apart, noise {decision.noise:.2g}"
    return ": a tie" if decision.gap == 0 else f": {decision.gap:.2g} apart"


def _failed_text(decision: Decision) -> str:
    return f"failed: {decision.failure}"


def _late_text(decision: Decision) -> str:
    text = "without a score when time was up"
    return f"{text}; the cheapest goes on" if decision.survives else text


def _successor_text(decision: Decision) -> str:
    text = "takes over"
    if decision.earlier_rank is not None:
        text += (
            f", ranked {decision.earlier_rank} of {decision.earlier_ranked} in round "
            f"{decision.earlier_round}"
        )
    if decision.replaced is None:
        return f"{text}: all others failed"
    return f"{text}: {decision.replaced} failed: {decision.failure}"


_TEXTS = {
    Cause.RANKED: _ranked_text,
    Cause.FAILED: _failed_text,
    Cause.LATE: _late_text,
    Cause.SUCCESSOR: _successor_text,
}


_COLUMNS = ("round", "epoch", "candidate", "score", "rank", "survives", "close", "cause")


def facts_as_json(decision: Decision) -> str:
    """The fields of a decision that have no column in the ledger, as far as they apply."""
    return json.dumps(
        {
            field.name: value
            for field in fields(decision)
            if field.name not in _COLUMNS
            and (value := getattr(decision, field.name)) != field.default
        }
    )


@dataclass(frozen=True)
class DecidedRound:
    """All decisions of one elimination of one group.

    Attributes:
      group: number of the cost group.
      round: number of the round, from 1.
      epoch: the epoch after which the elimination took place.
      surviving: decisions about candidates that go on, by rank.
      eliminated: decisions about candidates that leave, by rank; they include failed ones.
    """

    group: int
    round: int
    epoch: int
    surviving: tuple[Decision, ...]
    eliminated: tuple[Decision, ...]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, by rank."""
        return self.surviving + self.eliminated

    @property
    def close(self) -> bool:
        """Whether a candidate left although it was too close to call."""
        return any(decision.close for decision in self.eliminated)

    @property
    def gap(self) -> float | None:
        """Score of the last candidate that goes on minus that of the first that leaves.

        None if no candidate leaves, or only failed ones do.
        """
        scores = [decision.score for decision in self.eliminated if decision.scored]
        return self.surviving[-1].score - scores[0] if self.surviving and scores else None

    def margin(self, decision: Decision) -> float | None:
        """A score minus the nearest score on the other side; None where `gap` is None."""
        if self.gap is None or not decision.scored:
            return None
        rival = self.eliminated[0] if decision.survives else self.surviving[-1]
        return decision.score - rival.score


def decided_rounds(group: int, decisions: Iterable[Decision]) -> list[DecidedRound]:
    """The decisions of a group, given by round, as one `DecidedRound` each."""
    result = []
    for number, members in groupby(decisions, lambda decision: decision.round):
        ranked = sorted(members, key=lambda decision: decision.rank)
        surviving = tuple(decision for decision in ranked if decision.survives)
        eliminated = tuple(decision for decision in ranked if not decision.survives)
        result.append(DecidedRound(group, number, ranked[0].epoch, surviving, eliminated))
    return result

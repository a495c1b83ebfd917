"""Where a search stands: groups, scores, decisions, what is left to do.

A summary is made from the ledger alone, so that `elite status` and the report can be asked for at
any time, also beside a running search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from statistics import median
from typing import Any

from efficientnet_elite.search.budget import forecast_epochs
from efficientnet_elite.search.candidates import Candidate
from efficientnet_elite.search.decisions import Decision, decision_text
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.outlook import group_left, repeat_epochs_left
from efficientnet_elite.search.record import SearchRecord, read_record
from efficientnet_elite.search.rules import average
from efficientnet_elite.search.tournament import Halt, Standing


class State(StrEnum):
    """What has become of a candidate."""

    RACING = "racing"
    ELIMINATED = "eliminated"
    CHAMPION = "champion"
    FAILED = "failed"


@dataclass(frozen=True)
class Member:
    """A candidate in its group.

    Attributes:
      name: name, unique in the search.
      width, depth, resolution: scaling coefficients, and side of the input in pixels.
      params, macs: parameters, and multiply-accumulates for one image.
      state: whether it is racing, eliminated, champion or failed.
      epochs_done: epochs trained and recorded.
      epochs_needed: epochs that it must have been trained for in all before anything is decided
        about it; of a champion those of the whole training; of an eliminated candidate those that
        it was trained for.
      average_score: mean validation accuracy since the first epoch, 0..1.
      last_score: validation accuracy of the latest epoch, 0..1.
      round: latest round with a decision about it, from 1; where it was eliminated, that round.
      rank, ranked: its rank in that round, and how many candidates took part in it.
      score: its score by the rule in that round; None where it had failed.
      reason: why its training failed.
      seconds_per_epoch: measured median; where it has no epoch yet, estimated from other candidates
        by MACs; None where nothing has been measured.
    """

    name: str
    width: float
    depth: float
    resolution: int
    params: int
    macs: int
    state: State
    epochs_done: int
    epochs_needed: int
    average_score: float | None
    last_score: float | None
    round: int | None
    rank: int | None
    ranked: int | None
    score: float | None
    reason: str | None
    seconds_per_epoch: float | None


@dataclass(frozen=True)
class Group:
    """A cost group and its tournament.

    Attributes:
      number: number of the group; 0 is the heaviest.
      members: all candidates of the group, the one to prefer in a tie first.
      decisions: decisions of the tournament so far, by round and rank.
      round: round that is being trained, from 1; None once there is a champion or all have failed.
      champion: the last survivor, as soon as there is only one.
      halt: what was ended because time was up; None where nothing was.
      finished: whether nothing is left to train.
      epochs_left: epochs still to be trained, by members and repeats together, failures aside.
      epochs_forecast: the middle of the range of `budget.forecast`.
      seconds_left: of training on one worker; None where nothing has been measured.
    """

    number: int
    members: tuple[Member, ...]
    decisions: tuple[Decision, ...]
    round: int | None
    champion: str | None
    halt: Halt | None
    finished: bool
    epochs_left: int
    epochs_forecast: int
    seconds_left: float | None


@dataclass(frozen=True)
class Summary:
    """Where a search stands.

    Attributes:
      dataset, pool, seed: images, candidates and seed of the search.
      round_epochs, epochs, rule: its schedule.
      groups: cost groups, the heaviest first.
      finished: whether nothing is left to train.
      epochs_done, epochs_left: epochs of all candidates and repeats together.
      epochs_forecast: the middle of the range of `budget.forecast`.
      noise: standard deviation of a score, measured with several seeds; None where it is estimated
        from the curves, or not known yet.
      progress: share of the training that is done, 0..1, by multiply-accumulates.
      seconds: phase to seconds spent.
      seconds_left: of training on one worker; None where nothing has been measured.
    """

    dataset: str
    pool: str
    seed: int
    round_epochs: int
    epochs: int
    rule: str
    groups: tuple[Group, ...]
    finished: bool
    epochs_done: int
    epochs_left: int
    epochs_forecast: int
    noise: float | None
    progress: float
    seconds: dict[str, float]
    seconds_left: float | None

    @property
    def members(self) -> tuple[Member, ...]:
        """The candidates of all groups."""
        return tuple(member for group in self.groups for member in group.members)


def standings(ledger: Ledger) -> dict[int, Standing]:
    """Group number to where it stands; UserError where the search has not been set up."""
    return read_record(ledger).standings()


def summarize(ledger: Ledger) -> Summary:
    """Works out where a search stands; UserError where it has not been set up."""
    with ledger.snapshot():
        return summarize_record(read_record(ledger), ledger.timings())


def summarize_record(record: SearchRecord, timings: dict[str, float]) -> Summary:
    """Works out where a search stands.

    Args:
      record: content of its ledger.
      timings: phase to seconds spent.
    """
    schedule, config = record.schedule, record.meta["config"]
    standings = record.standings()
    pace = _seconds_per_epoch(record.candidates, record.epochs)
    repeat_epochs = _repeat_epochs(record)
    groups, work_left = [], 0.0
    for number, candidates in record.groups.items():
        standing, repeated = standings[number], repeat_epochs[number]
        members = tuple(_member(candidate, record, standing, pace) for candidate in candidates)
        groups.append(_group(number, members, record, standing, repeated))
        done = {member.name: member.epochs_done for member in members}
        costs = {member.name: member.macs for member in members}
        work_left += group_left(standing, done, costs, schedule, repeated)[1] or 0.0
    macs = {member.name: member.macs for group in groups for member in group.members}
    macs |= {repeat.name: macs[repeat.candidate] for repeat in record.repeats}
    work_done = sum(macs[name] * len(epochs) for name, epochs in record.epochs.items())
    finished = all(group.finished for group in groups)
    seconds = [group.seconds_left for group in groups if group.seconds_left is not None]
    return Summary(
        dataset=config["data"]["dataset"],
        pool=config["pool"],
        seed=config["seed"],
        round_epochs=schedule.round_epochs,
        epochs=schedule.epochs,
        rule=schedule.rule,
        groups=tuple(groups),
        finished=finished,
        epochs_done=sum(map(len, record.epochs.values())),
        epochs_left=sum(group.epochs_left for group in groups),
        epochs_forecast=sum(group.epochs_forecast for group in groups),
        noise=record.noise.deviation if record.noise else None,
        progress=1.0 if finished else work_done / (work_done + work_left),
        seconds=timings,
        seconds_left=sum(seconds) if len(seconds) == len(groups) else None,
    )


def _repeat_epochs(record: SearchRecord) -> dict[int, Counter[str]]:
    """Group to candidate to the epochs that its repeats are still to be trained for."""
    done = {repeat.name: len(record.epochs.get(repeat.name, ())) for repeat in record.repeats}
    left = repeat_epochs_left(
        done, record.schedule, failed=record.failures, halted=bool(record.halts)
    )
    group_of = {candidate.name: candidate.group for candidate in record.candidates}
    result: dict[int, Counter[str]] = {number: Counter() for number in record.groups}
    for repeat in record.repeats:
        if repeat.name in left:
            result[group_of[repeat.candidate]][repeat.candidate] += left[repeat.name]
    return result


def _seconds_per_epoch(
    candidates: Sequence[Candidate], epochs: Mapping[str, Sequence[Epoch]]
) -> dict[str, float | None]:
    """Candidate to the seconds of an epoch: measured, or estimated from others by MACs.

    Medians are used, because a machine may have been suspended during an epoch.
    """
    measured = {
        c.name: median(epoch.seconds for epoch in epochs[c.name])
        for c in candidates
        if epochs.get(c.name)
    }
    macs = sum(c.spec.macs for c in candidates if c.name in measured)
    per_mac = sum(measured.values()) / macs if macs else None
    return {
        c.name: measured.get(c.name, None if per_mac is None else per_mac * c.spec.macs)
        for c in candidates
    }


def _member(
    candidate: Candidate,
    record: SearchRecord,
    standing: Standing,
    pace: Mapping[str, float | None],
) -> Member:
    name, spec = candidate.name, candidate.spec
    scores = record.scores.get(name, ())
    needed = {need.candidate: need.until_epoch for need in standing.pending}
    latest = next((d for d in reversed(standing.decisions) if d.candidate == name), None)
    if name == standing.champion:
        # Even if its int8 accuracy could not be measured or its training was repeated and failed.
        state = State.CHAMPION
    elif name in record.failures:
        state = State.FAILED
    else:
        state = State.RACING if name in standing.survivors else State.ELIMINATED
    # A racing candidate that needs nothing has reached the end of the round before others.
    return Member(
        name=name,
        width=candidate.width,
        depth=candidate.depth,
        resolution=spec.resolution,
        params=spec.params,
        macs=spec.macs,
        state=state,
        epochs_done=len(scores),
        epochs_needed=needed.get(name, len(scores)),
        average_score=average(scores) if scores else None,
        last_score=scores[-1] if scores else None,
        round=latest.round if latest else None,
        rank=latest.rank if latest else None,
        ranked=sum(d.round == latest.round for d in standing.decisions) if latest else None,
        score=latest.score if latest and latest.scored else None,
        reason=record.failures.get(name),
        seconds_per_epoch=pace[name],
    )


def _group(
    number: int,
    members: Sequence[Member],
    record: SearchRecord,
    standing: Standing,
    repeat_epochs: Mapping[str, int],
) -> Group:
    racing = standing.champion is None and not standing.finished
    done = {member.name: member.epochs_done for member in members}
    pace = {member.name: member.seconds_per_epoch for member in members}
    epochs_left, seconds_left = group_left(standing, done, pace, record.schedule, repeat_epochs)
    # All repeats of a group are of one candidate.
    seeds = 1 + sum(repeat.candidate in done for repeat in record.repeats)
    planned = forecast_epochs(len(members), record.schedule, seeds=seeds)
    return Group(
        number=number,
        members=tuple(members),
        decisions=standing.decisions,
        round=standing.next_round if racing else None,
        champion=standing.champion,
        halt=record.halts.get(number),
        finished=standing.finished and not repeat_epochs,
        epochs_left=epochs_left,
        epochs_forecast=round(planned.expected),
        seconds_left=seconds_left,
    )


def as_dict(summary: Summary) -> dict[str, Any]:
    """Everything, ready for JSON, which has no NaN: the score of a failed candidate is None.

    Decisions get a field ``reason``, which says the same in words.
    """
    result = asdict(summary)
    for group, described in zip(summary.groups, result["groups"], strict=True):
        for decision, fields in zip(group.decisions, described["decisions"], strict=True):
            fields["reason"] = decision_text(decision)
            if not isfinite(fields["score"]):
                fields["score"] = None
    return result

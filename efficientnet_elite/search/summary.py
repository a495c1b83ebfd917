"""Where a search stands: groups, scores, decisions, what is left to do.

A summary is made from the ledger alone, so that `elite status` and the report can be asked for at
any time, also beside a running search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache, partial
from math import isfinite
from typing import Any

from efficientnet_elite.search.budget import forecast_epochs
from efficientnet_elite.search.decisions import Decision, decision_text
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.outline import Listed, Outline, OutlineReader
from efficientnet_elite.search.outlook import group_left, repeat_epochs_left
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.schedule import Schedule
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
      width, depth, resolution: scaling coefficients, and side of the input in pixels, or a
        text such as ``96x128``.
      params, macs: parameters, and multiply-accumulates for one image.
      state: whether it is racing, eliminated, champion or failed.
      epochs_done: epochs trained and recorded; of a champion with a final training those of that.
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
    resolution: int | str
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
      training: name under which the epochs are recorded of what is exported of the champion: its
        own, or that of its final training.
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
    training: str | None
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
    return SummaryReader(ledger).read()


class SummaryReader:
    """Works out where a search stands, again and again; see `OutlineReader`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._outlines = ledger, OutlineReader(ledger)

    def read(self) -> Summary:
        """Where the search stands now; UserError where it has not been set up."""
        with self._ledger.snapshot():
            return summarize_outline(self._outlines.read(), self._ledger.timings())


def summarize_outline(outline: Outline, timings: dict[str, float]) -> Summary:
    """Works out where a search stands.

    Args:
      outline: content of its ledger.
      timings: phase to seconds spent.
    """
    schedule, config = outline.schedule, outline.meta["config"]
    pace = _seconds_per_epoch(outline)
    repeat_epochs = _repeat_epochs(outline)
    forecasts = cache(partial(_forecast, schedule=schedule))
    groups, work_left = [], 0.0
    for number, candidates in outline.groups.items():
        standing, repeated = outline.standings[number], repeat_epochs[number]
        members = _members(candidates, outline, standing, pace)
        groups.append(_group(number, members, outline, repeated, forecasts))
        done = outline.done([member.name for member in members])
        costs = {member.name: member.macs for member in members}
        work_left += group_left(standing, done, costs, schedule, repeated)[1] or 0.0
    macs = {member.name: member.macs for group in groups for member in group.members}
    macs |= {repeat.name: macs[repeat.candidate] for repeat in (*outline.repeats, *outline.further)}
    work_done = sum(macs[name] * facts.epochs for name, facts in outline.facts.items())
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
        epochs_done=sum(facts.epochs for facts in outline.facts.values()),
        epochs_left=sum(group.epochs_left for group in groups),
        epochs_forecast=sum(group.epochs_forecast for group in groups),
        noise=outline.noise.deviation if outline.noise else None,
        progress=1.0 if finished else work_done / (work_done + work_left),
        seconds=timings,
        seconds_left=sum(seconds) if len(seconds) == len(groups) else None,
    )


def _repeat_epochs(outline: Outline) -> dict[int, Counter[str]]:
    """Group to candidate to the epochs that its repeats are still to be trained for."""
    done = {
        r.name: outline.facts[r.name].epochs if r.name in outline.facts else 0
        for r in outline.repeats
    }
    left = repeat_epochs_left(
        done, outline.schedule, failed=outline.failures, halted=bool(outline.halts)
    )
    group_of = {c.name: number for number, group in outline.groups.items() for c in group}
    result: dict[int, Counter[str]] = {number: Counter() for number in outline.groups}
    for repeat in outline.repeats:
        if repeat.name in left:
            result[group_of[repeat.candidate]][repeat.candidate] += left[repeat.name]
    return result


def _seconds_per_epoch(outline: Outline) -> dict[str, float | None]:
    """Candidate to the seconds of an epoch: measured, or estimated from others by MACs.

    Medians are used, because a machine may have been suspended during an epoch.
    """
    candidates = [candidate for group in outline.groups.values() for candidate in group]
    facts = outline.facts
    measured = {r.candidate: facts[r.name].seconds for r in outline.further if r.name in facts}
    measured |= {c.name: facts[c.name].seconds for c in candidates if c.name in facts}
    macs = sum(c.macs for c in candidates if c.name in measured)
    per_mac = sum(measured.values()) / macs if macs else None
    return {
        c.name: measured.get(c.name, None if per_mac is None else per_mac * c.macs)
        for c in candidates
    }


def _members(
    candidates: Sequence[Listed],
    outline: Outline,
    standing: Standing,
    pace: Mapping[str, float | None],
) -> tuple[Member, ...]:
    needed = {need.candidate: need.until_epoch for need in standing.pending}
    latest = {decision.candidate: decision for decision in standing.decisions}
    ranked = Counter(decision.round for decision in standing.decisions)
    members = []
    for candidate in candidates:
        name, decision = candidate.name, latest.get(candidate.name)
        is_champion = name == standing.champion
        facts = outline.facts.get(standing.training or name if is_champion else name)
        done = facts.epochs if facts else 0
        if is_champion:
            # Even if its int8 accuracy could not be measured or its training was repeated and
            # failed.
            state = State.CHAMPION
        elif name in outline.failures:
            state = State.FAILED
        else:
            state = State.RACING if name in standing.survivors else State.ELIMINATED
        # A racing candidate that needs nothing has reached the end of the round before others.
        members.append(
            Member(
                name=name,
                width=candidate.width,
                depth=candidate.depth,
                resolution=candidate.resolution,
                params=candidate.params,
                macs=candidate.macs,
                state=state,
                epochs_done=done,
                epochs_needed=needed.get(name, done),
                average_score=facts.average if facts else None,
                last_score=facts.last if facts else None,
                round=decision.round if decision else None,
                rank=decision.rank if decision else None,
                ranked=ranked[decision.round] if decision else None,
                score=decision.score if decision and decision.scored else None,
                reason=outline.failures.get(name),
                seconds_per_epoch=pace[name],
            )
        )
    return tuple(members)


def _forecast(size: int, seeds: int, schedule: Schedule) -> int:
    return round(forecast_epochs(size, schedule, seeds=seeds).expected)


def _group(
    number: int,
    members: tuple[Member, ...],
    outline: Outline,
    repeat_epochs: Mapping[str, int],
    forecasts: Callable[[int, int], int],
) -> Group:
    standing = outline.standings[number]
    racing = standing.champion is None and not standing.finished
    done = outline.done([member.name for member in members])
    pace = {member.name: member.seconds_per_epoch for member in members}
    epochs_left, seconds_left = group_left(standing, done, pace, outline.schedule, repeat_epochs)
    # All repeats of a group are of one candidate.
    seeds = 1 + sum(repeat.candidate in done for repeat in outline.repeats)
    return Group(
        number=number,
        members=members,
        decisions=standing.decisions,
        round=standing.next_round if racing else None,
        champion=standing.champion,
        training=standing.training,
        halt=outline.halts.get(number),
        finished=standing.finished and not repeat_epochs,
        epochs_left=epochs_left,
        epochs_forecast=forecasts(len(members), seeds),
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

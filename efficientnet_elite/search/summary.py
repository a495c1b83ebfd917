"""Where a search stands: groups, scores, decisions, what is left to do.

Everything is worked out anew from the ledger, so `elite status` and the report can be asked for at
any time, also beside a running search. This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from statistics import median
from typing import Any, TypeAlias

from efficientnet_elite.errors import UserError
from efficientnet_elite.search import budget
from efficientnet_elite.search.candidates import Candidate
from efficientnet_elite.search.cuts import Decision, Losses, Scores
from efficientnet_elite.search.ledger import Epoch, Ledger, Replica
from efficientnet_elite.search.outlook import left, replicas_left
from efficientnet_elite.search.rules import average
from efficientnet_elite.search.tournament import (
    Halt,
    Int8,
    Noise,
    Schedule,
    Standing,
    measured_noise,
    standing,
)


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
      name: unique in the search.
      width, depth, resolution: coefficients, and input side in pixels.
      params, macs: costs.
      state: what has become of it.
      epochs_done: trained and recorded.
      epochs_needed: to be trained in all before something is decided about it (a champion: the
        whole training; one that has left: what it was trained for).
      average_score: mean validation accuracy since the first epoch, 0..1.
      last_score: validation accuracy of the latest epoch, 0..1.
      round: the latest round decided about it, from 1; the round it left in, where it has left.
      rank, ranked: its rank in that round, and how many candidates were ranked.
      score: the rule's when that round was decided; None where it had failed.
      reason: why it failed.
      seconds_per_epoch: median measured; estimated from other candidates by MACs where it has no
        epoch yet; None where nothing has been measured.
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
      number: from 0, the heaviest.
      members: all, the one to prefer in a tie first.
      decisions: of the tournament so far, by round and rank.
      round: the round being trained, from 1; None once there is a champion, or nobody.
      champion: the last survivor, as soon as there is only one.
      halt: what was ended because time was up; None where nothing was.
      finished: nothing is left to train.
      epochs_left: to be trained still, by members and replicas together, failures aside.
      epochs_planned: the middle of what `budget.forecast` says.
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
    epochs_planned: int
    seconds_left: float | None


@dataclass(frozen=True)
class Summary:
    """Where a search stands.

    Attributes:
      dataset, pool, seed: what is searched.
      round_epochs, epochs, rule: the schedule.
      groups: the heaviest first.
      finished: nothing is left to train.
      epochs_done, epochs_left: of all candidates and replicas together.
      epochs_planned: the middle of what `budget.forecast` says.
      noise: standard deviation of a score, measured with several seeds; None where it is estimated
        from the curves, or not known yet.
      progress: share of the training done, 0..1, by multiply-accumulates.
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
    epochs_planned: int
    noise: float | None
    progress: float
    seconds: dict[str, float]
    seconds_left: float | None

    @property
    def members(self) -> tuple[Member, ...]:
        """The candidates of all groups."""
        return tuple(member for group in self.groups for member in group.members)


def schedule_of(meta: Mapping[str, Any]) -> Schedule:
    """The schedule that the ledger's settings ask for; UserError where there are none."""
    if "config" not in meta:
        raise UserError("the search has not been set up: run the same `elite search` again")
    config = meta["config"]
    # A search with a budget may have had to shorten its rounds.
    round_epochs = meta.get("plan", config)["round_epochs"]
    return Schedule(round_epochs, config["train"]["epochs"], config["rule"])


def standings(ledger: Ledger) -> dict[int, Standing]:
    """Group number to its standing, replayed from what the ledger has recorded.

    Members stand in the ledger's order, the one to prefer in a tie first. UserError where the
    search has not been set up.
    """
    return _read(ledger).standings


Judge: TypeAlias = Callable[
    [Sequence[str], Scores, Losses, Mapping[str, str], Int8, Noise | None, Halt | None], Standing
]


def judge_of(meta: Mapping[str, Any]) -> Judge:
    """How a search judges one group: from members, scores, losses, failures, int8, noise, halt.

    Members stand in the ledger's order, the one to prefer in a tie first.
    """
    schedule = schedule_of(meta)
    by_int8 = meta["config"]["select"] == "int8"
    return lambda members, scores, losses, failed, int8, noise, halt: standing(
        members,
        scores,
        schedule,
        losses=losses,
        failed=failed,
        int8=int8 if by_int8 else None,
        noise=noise,
        halt=halt,
    )


def repeats(replicas: Sequence[Replica]) -> dict[str, list[str]]:
    """Candidate that has replicas to its trainings: itself, then those, by seed."""
    found: dict[str, list[str]] = {}
    for replica in sorted(replicas, key=lambda replica: replica.seed):
        found.setdefault(replica.candidate, [replica.candidate]).append(replica.name)
    return found


def noise_of(
    replicas: Sequence[Replica],
    scores: Scores,
    schedule: Schedule,
    failed: Mapping[str, str],
    losses: Losses,
) -> Noise | None:
    """What a search's replicas tell, see `measured_noise`; None where it has none."""
    if not replicas:
        return None
    return measured_noise(repeats(replicas).values(), scores, losses, schedule, failed)


def curves(epochs: Mapping[str, Sequence[Epoch]]) -> tuple[Scores, Losses]:
    """Candidate to its validation accuracies, and to its train losses, of epoch 1, 2, ..."""
    return (
        {name: [epoch.validation_accuracy for epoch in done] for name, done in epochs.items()},
        {name: [epoch.train_loss for epoch in done] for name, done in epochs.items()},
    )


def by_group(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Group number to its candidates in their order, the heaviest group first."""
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class _Read:
    """A ledger's content at one moment, and what follows from it."""

    meta: dict[str, Any]
    schedule: Schedule
    groups: dict[int, list[Candidate]]
    epochs: dict[str, list[Epoch]]
    scores: Scores
    failures: dict[str, str]
    replicas: list[Replica]
    halts: dict[int, Halt]
    noise: Noise | None
    standings: dict[int, Standing]


def _read(ledger: Ledger) -> _Read:
    with ledger.snapshot():
        meta, epochs, failures = ledger.meta(), ledger.epochs(), ledger.failures()
        int8, halts, replicas = ledger.int8(), ledger.halts(), ledger.replicas()
        groups = by_group(ledger.candidates())
    schedule, judge = schedule_of(meta), judge_of(meta)
    scores, losses = curves(epochs)
    noise = noise_of(replicas, scores, schedule, failures, losses)
    table = {
        n: judge([c.name for c in group], scores, losses, failures, int8, noise, halts.get(n))
        for n, group in groups.items()
    }
    return _Read(meta, schedule, groups, epochs, scores, failures, replicas, halts, noise, table)


def summarize(ledger: Ledger) -> Summary:
    """Works out where a search stands; UserError where it has not been set up."""
    known = _read(ledger)
    schedule, config = known.schedule, known.meta["config"]
    pace = _pace([c for members in known.groups.values() for c in members], known.epochs)
    again = _again(known)

    summaries, work_left = [], 0.0
    for number, candidates in known.groups.items():
        table = known.standings[number]
        members = tuple(_member(candidate, known, pace) for candidate in candidates)
        summaries.append(_group(number, members, known, again[number]))
        done = {member.name: member.epochs_done for member in members}
        costs = {member.name: member.macs for member in members}
        work_left += left(table, done, costs, schedule, again[number])[1] or 0.0
    macs = {member.name: member.macs for group in summaries for member in group.members}
    macs |= {replica.name: macs[replica.candidate] for replica in known.replicas}
    work_done = sum(macs[name] * len(own) for name, own in known.epochs.items())
    finished = all(group.finished for group in summaries)
    seconds = [group.seconds_left for group in summaries if group.seconds_left is not None]
    return Summary(
        dataset=config["data"]["dataset"],
        pool=config["pool"],
        seed=config["seed"],
        round_epochs=schedule.round_epochs,
        epochs=schedule.epochs,
        rule=schedule.rule,
        groups=tuple(summaries),
        finished=finished,
        epochs_done=sum(map(len, known.epochs.values())),
        epochs_left=sum(group.epochs_left for group in summaries),
        epochs_planned=sum(group.epochs_planned for group in summaries),
        noise=known.noise.error if known.noise else None,
        progress=1.0 if finished else work_done / (work_done + work_left),
        seconds=ledger.timings(),
        seconds_left=sum(seconds) if len(seconds) == len(summaries) else None,
    )


def _again(known: _Read) -> dict[int, Counter[str]]:
    """Group number to its members' epochs that their replicas are still to be trained for."""
    done = {replica.name: len(known.epochs.get(replica.name, ())) for replica in known.replicas}
    ahead = replicas_left(done, known.schedule, failed=known.failures, halted=bool(known.halts))
    group_of = {c.name: number for number, group in known.groups.items() for c in group}
    found: dict[int, Counter[str]] = {number: Counter() for number in known.groups}
    for replica in known.replicas:
        if replica.name in ahead:
            found[group_of[replica.candidate]][replica.candidate] += ahead[replica.name]
    return found


def _pace(
    candidates: Sequence[Candidate], epochs: Mapping[str, Sequence[Epoch]]
) -> dict[str, float | None]:
    """Candidate to its seconds an epoch; medians, for a machine may have slept through an epoch."""
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


def _member(candidate: Candidate, known: _Read, pace: Mapping[str, float | None]) -> Member:
    name, spec = candidate.name, candidate.spec
    table, own = known.standings[candidate.group], known.scores.get(name, ())
    needed = {job.candidate: job.until_epoch for job in table.jobs}
    latest = next((d for d in reversed(table.decisions) if d.candidate == name), None)
    if name == table.champion:  # also one that could not be measured, or trained anew, in the end
        state = State.CHAMPION
    elif name in known.failures:
        state = State.FAILED
    else:
        state = State.RACING if name in table.survivors else State.ELIMINATED
    # A racing candidate without a job has reached the cut that others are still being trained for.
    return Member(
        name=name,
        width=candidate.width,
        depth=candidate.depth,
        resolution=spec.resolution,
        params=spec.params,
        macs=spec.macs,
        state=state,
        epochs_done=len(own),
        epochs_needed=needed.get(name, len(own)),
        average_score=average(own) if own else None,
        last_score=own[-1] if own else None,
        round=latest.round if latest else None,
        rank=latest.rank if latest else None,
        ranked=sum(d.round == latest.round for d in table.decisions) if latest else None,
        score=latest.score if latest and isfinite(latest.score) else None,
        reason=known.failures.get(name),
        seconds_per_epoch=pace[name],
    )


def _group(number: int, members: Sequence[Member], known: _Read, again: Mapping[str, int]) -> Group:
    table, schedule = known.standings[number], known.schedule
    racing = table.champion is None and not table.finished
    done = {member.name: member.epochs_done for member in members}
    pace = {member.name: member.seconds_per_epoch for member in members}
    epochs_left, seconds_left = left(table, done, pace, schedule, again)
    seeds = 1 + sum(replica.candidate in done for replica in known.replicas)  # all of one member
    return Group(
        number=number,
        members=tuple(members),
        decisions=table.decisions,
        round=1 + max((d.round for d in table.decisions), default=0) if racing else None,
        champion=table.champion,
        halt=known.halts.get(number),
        finished=table.finished and not again,
        epochs_left=epochs_left,
        epochs_planned=round(budget.epochs(len(members), schedule, seeds=seeds).expected),
        seconds_left=seconds_left,
    )


def as_dict(summary: Summary) -> dict[str, Any]:
    """Everything, ready for JSON, which has no NaN: a failed candidate's score is None."""
    found = asdict(summary)
    for decision in (d for group in found["groups"] for d in group["decisions"]):
        if not isfinite(decision["score"]):
            decision["score"] = None
    return found

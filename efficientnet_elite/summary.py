"""Where a search stands: groups, scores, what is left to do, as numbers and as text.

Everything is worked out anew from the ledger, so `elite status` and the report can be asked for at
any time, also beside a running search. This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from statistics import fmean, median
from textwrap import wrap
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Epoch, Ledger
from efficientnet_elite.pools import Candidate
from efficientnet_elite.tournament import (
    Schedule,
    Scores,
    Standing,
    average,
    forecast,
    standing,
    survivors_of,
)
from efficientnet_elite.units import duration, percent, quantity


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
      average_score: mean validation accuracy since the first epoch, 0..1; what ranks it.
      last_score: validation accuracy of the latest epoch, 0..1.
      round: the latest round decided about it, from 1; the round it left in, where it has left.
      rank, ranked: its rank in that round, and how many candidates were ranked.
      score: its average when that round was decided; None where it had failed.
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
      round: the round being trained, from 1; None once there is a champion, or nobody.
      champion: the last survivor, as soon as there is only one.
      finished: nothing is left to train.
      epochs_left: to be trained still, by all members together, failures aside.
      seconds_left: of training; None where nothing has been measured.
    """

    number: int
    members: tuple[Member, ...]
    round: int | None
    champion: str | None
    finished: bool
    epochs_left: int
    seconds_left: float | None


@dataclass(frozen=True)
class Summary:
    """Where a search stands.

    Attributes:
      dataset, pool, seed: what is searched.
      round_epochs, epochs: the schedule.
      groups: the heaviest first.
      finished: nothing is left to train.
      epochs_done, epochs_left: of all candidates together.
      epochs_planned: forecast at the start, without failures.
      progress: share of the training done, 0..1, by multiply-accumulates.
      seconds: phase to seconds spent.
      seconds_left: of training on one worker; None where nothing has been measured.
    """

    dataset: str
    pool: str
    seed: int
    round_epochs: int
    epochs: int
    groups: tuple[Group, ...]
    finished: bool
    epochs_done: int
    epochs_left: int
    epochs_planned: int
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
    return Schedule(config["round_epochs"], config["train"]["epochs"])


def standings(ledger: Ledger) -> dict[int, Standing]:
    """Group number to its standing, replayed from what the ledger has recorded.

    Members stand in the ledger's order, the one to prefer in a tie first. UserError where the
    search has not been set up.
    """
    return _standings(
        _by_group(ledger.candidates()),
        ledger.scores(),
        ledger.failures(),
        schedule_of(ledger.meta()),
    )


def _by_group(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    numbers = sorted({candidate.group for candidate in candidates})
    return {number: [c for c in candidates if c.group == number] for number in numbers}


def _standings(
    groups: Mapping[int, Sequence[Candidate]],
    scores: Scores,
    failures: Mapping[str, str],
    schedule: Schedule,
) -> dict[int, Standing]:
    return {
        number: standing([c.name for c in members], scores, schedule, failed=failures)
        for number, members in groups.items()
    }


def summarize(ledger: Ledger) -> Summary:
    """Works out where a search stands; UserError where it has not been set up."""
    # Each table is read once: beside a running search a second reading may tell something else.
    meta, epochs, failures = ledger.meta(), ledger.epochs(), ledger.failures()
    schedule = schedule_of(meta)
    groups = _by_group(ledger.candidates())
    scores = {name: [epoch.validation_accuracy for epoch in done] for name, done in epochs.items()}
    table = _standings(groups, scores, failures, schedule)
    pace = _pace([c for members in groups.values() for c in members], epochs)

    summaries, work_left = [], 0.0
    for number, candidates in groups.items():
        members = tuple(_member(c, table[number], scores, failures, pace) for c in candidates)
        summaries.append(_group(number, members, table[number], schedule))
        work_left += _left(members, table[number], schedule, "macs")[1] or 0.0
    trained = [member for group in summaries for member in group.members]
    work_done = sum(member.macs * member.epochs_done for member in trained)
    finished = all(group.finished for group in summaries)
    known = [group.seconds_left for group in summaries if group.seconds_left is not None]
    config = meta["config"]
    return Summary(
        dataset=config["data"]["dataset"],
        pool=config["pool"],
        seed=config["seed"],
        round_epochs=schedule.round_epochs,
        epochs=schedule.epochs,
        groups=tuple(summaries),
        finished=finished,
        epochs_done=sum(member.epochs_done for member in trained),
        epochs_left=sum(group.epochs_left for group in summaries),
        epochs_planned=forecast([len(group.members) for group in summaries], schedule),
        progress=1.0 if finished else work_done / (work_done + work_left),
        seconds=ledger.timings(),
        seconds_left=sum(known) if len(known) == len(summaries) else None,
    )


def progress(ledger: Ledger) -> float:
    """Share of the training done, 0..1, by multiply-accumulates; see `Summary`."""
    return summarize(ledger).progress


def _pace(
    candidates: Sequence[Candidate], epochs: Mapping[str, Sequence[Epoch]]
) -> dict[str, float | None]:
    """Candidate to its seconds an epoch; medians, for a machine may have slept through an epoch."""
    measured = {name: median(e.seconds for e in done) for name, done in epochs.items() if done}
    macs = sum(c.spec.macs for c in candidates if c.name in measured)
    per_mac = sum(measured.values()) / macs if macs else None
    return {
        c.name: measured.get(c.name, None if per_mac is None else per_mac * c.spec.macs)
        for c in candidates
    }


def _member(
    candidate: Candidate,
    table: Standing,
    scores: Scores,
    failures: Mapping[str, str],
    pace: Mapping[str, float | None],
) -> Member:
    name, spec = candidate.name, candidate.spec
    own = scores.get(name, ())
    needed = {job.candidate: job.until_epoch for job in table.jobs}
    latest = next((d for d in reversed(table.decisions) if d.candidate == name), None)
    if name in failures:
        state = State.FAILED
    elif name == table.champion:
        state = State.CHAMPION
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
        reason=failures.get(name),
        seconds_per_epoch=pace[name],
    )


def _group(number: int, members: Sequence[Member], table: Standing, schedule: Schedule) -> Group:
    racing = table.champion is None and bool(table.jobs)
    epochs_left, seconds_left = _left(members, table, schedule, "seconds_per_epoch")
    return Group(
        number=number,
        members=tuple(members),
        round=1 + max((d.round for d in table.decisions), default=0) if racing else None,
        champion=table.champion,
        finished=not table.jobs,
        epochs_left=epochs_left,
        seconds_left=seconds_left,
    )


def _left(
    members: Sequence[Member], table: Standing, schedule: Schedule, cost: str
) -> tuple[int, float | None]:
    """Epochs still to be trained in a group, and their cost (None where one is unknown).

    The jobs of the current round are known; who goes on after it is not, so later rounds cost what
    the racing members cost on average.
    """
    costs = {m.name: getattr(m, cost) for m in members}
    done = {m.name: m.epochs_done for m in members}
    missing = {job.candidate: job.until_epoch - done[job.candidate] for job in table.jobs}
    later = _later(len(table.survivors), table.jobs[0].until_epoch, schedule) if missing else 0
    epochs = sum(missing.values()) + later
    racing = [costs[name] for name in table.survivors] if missing else []
    if None in racing:
        return epochs, None
    now = sum(costs[name] * number for name, number in missing.items())
    return epochs, now + (later * fmean(racing) if later else 0.0)


def _later(racing: int, cut: int, schedule: Schedule) -> int:
    """Epochs after the round that ends at ``cut``: a shorter tournament of those who survive it."""
    rest = schedule.epochs - cut
    if not rest:
        return 0
    return forecast([survivors_of(racing)], Schedule(min(schedule.round_epochs, rest), rest))


def as_dict(summary: Summary) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return asdict(summary)


def as_text(summary: Summary) -> str:
    """What `elite status` prints: what is done and left, then a block a group, in 100 columns."""
    heads = ("candidate", "params", "MACs", "input", "epochs", "average", "last", "state")
    blocks = [[_cells(member) for member in group.members] for group in summary.groups]
    rows = [heads, *(row for block in blocks for row in block)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    spent = ", ".join(f"{phase} {duration(time)}" for phase, time in summary.seconds.items())
    lines = [
        f"{summary.dataset}: pool {summary.pool}, candidates: {len(summary.members)}, "
        f"rounds of {summary.round_epochs} epochs, {summary.epochs} in all, seed {summary.seed}",
        _progress(summary),
        *wrap(f"spent: {spent}", _COLUMNS),
        "",
        _line(heads, widths),
    ]
    for group, block in zip(summary.groups, blocks, strict=True):
        lines += [f"group {group.number}: {_outlook(group)}"]
        lines += [_line(row, widths) for row in block]
    return "\n".join(_cut(line) for line in lines) + "\n"


_COLUMNS = 100


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, len(cells) - 1)  # name and state are words, the rest numbers
    return "  " + "  ".join(
        cell.ljust(width) if place in left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _cut(line: str) -> str:
    line = line.rstrip()
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}…"


def _cells(member: Member) -> tuple[str, ...]:
    return (
        member.name,
        quantity(member.params),
        quantity(member.macs),
        f"{member.resolution} px",
        f"{member.epochs_done}/{member.epochs_needed}",
        percent(member.average_score, 2),
        percent(member.last_score, 2),
        describe(member),
    )


def describe(member: Member) -> str:
    """What has become of a candidate, in words."""
    if member.state is State.FAILED:
        return f"failed: {member.reason}"
    if member.state is State.ELIMINATED:
        return f"out in round {member.round}, ranked {member.rank} of {member.ranked}"
    if member.state is State.CHAMPION:
        return "champion" if member.epochs_done >= member.epochs_needed else "champion, in training"
    return "racing"


def _progress(summary: Summary) -> str:
    total = summary.epochs_done + summary.epochs_left
    if summary.finished:
        return f"finished: {summary.epochs_done} epochs trained"
    left = (
        "time left not known yet"
        if summary.seconds_left is None
        else (f"about {duration(summary.seconds_left)} of training left")
    )
    return f"{summary.progress:.0%} done: {summary.epochs_done} of {total} epochs trained, {left}"


def _outlook(group: Group) -> str:
    if group.finished:
        return f"{group.champion} is the champion" if group.champion else "nobody is left"
    left = f"{group.epochs_left} epochs left"
    if group.seconds_left is not None:
        left += f", {duration(group.seconds_left)}"
    return left if group.round is None else f"round {group.round}; {left}"

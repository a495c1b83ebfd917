"""Where a search stands, in words: what `elite status` prints."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from efficientnet_elite.search import deadline
from efficientnet_elite.search.summary import Group, Member, State, Summary
from efficientnet_elite.text import duration, percent, quantity


def as_text(summary: Summary, *, racing_only: bool = False) -> str:
    """What `elite status` prints: progress, then a block for each group, in 100 columns.

    Args:
      summary: where the search stands.
      racing_only: leave out the candidates that have been eliminated or have failed.
    """
    heads = ("candidate", "params", "MACs", "input", "epochs", "average", "last", "state")
    shown = [State.RACING, State.CHAMPION] if racing_only else list(State)
    blocks = [
        [_cells(member) for member in group.members if member.state in shown]
        for group in summary.groups
    ]
    rows = [heads, *(row for block in blocks for row in block)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    spent = ", ".join(f"{phase} {duration(time)}" for phase, time in summary.seconds.items())
    noise = [] if summary.noise is None else [f"measured noise of a score: {summary.noise:.2g}"]
    lines = [
        f"{summary.dataset}: pool {summary.pool}, candidates: {len(summary.members)}, "
        f"rounds of {summary.round_epochs} epochs, {summary.epochs} epochs in all, "
        f"rule {summary.rule}, seed {summary.seed}",
        _progress(summary),
        *wrap(f"spent: {spent}", _COLUMNS),
        *noise,
        "",
        _line(heads, widths),
    ]
    for group, block in zip(summary.groups, blocks, strict=True):
        lines += [f"group {group.number}: {_group_state(group)}"]
        if group.halt is not None:
            lines += [f"  {line}" for line in wrap(deadline.halt_text(group.halt), _COLUMNS - 2)]
        lines += [_line(row, widths) for row in block]
    return "\n".join(_shortened(line) for line in lines) + "\n"


_COLUMNS = 100


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, len(cells) - 1)  # name and state are words, the rest numbers
    return "  " + "  ".join(
        cell.ljust(width) if place in left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _shortened(line: str) -> str:
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
        member_text(member),
    )


def member_text(member: Member) -> str:
    """The state of a candidate, in words."""
    if member.state is State.FAILED:
        return f"failed: {member.reason}"
    if member.state is State.ELIMINATED:
        if member.score is None:
            return f"eliminated in round {member.round}: time was up"
        return f"eliminated in round {member.round}, ranked {member.rank} of {member.ranked}"
    if member.state is State.CHAMPION:
        return "champion" if member.epochs_done >= member.epochs_needed else "champion, in training"
    return "in the tournament"


def _progress(summary: Summary) -> str:
    total = summary.epochs_done + summary.epochs_left
    if summary.finished:
        return f"finished: {summary.epochs_done} epochs trained"
    left = (
        "the time left is not known yet"
        if summary.seconds_left is None
        else f"about {duration(summary.seconds_left)} of training on one worker left"
    )
    return f"{summary.progress:.0%} done: {summary.epochs_done} of {total} epochs trained, {left}"


def _group_state(group: Group) -> str:
    if group.finished:
        return (
            f"{group.champion} is the champion"
            if group.champion
            else "no champion: every candidate has failed"
        )
    left = f"{group.epochs_left} epochs left"
    if group.seconds_left is not None:
        left += f", {duration(group.seconds_left)} on one worker"
    return left if group.round is None else f"round {group.round}; {left}"

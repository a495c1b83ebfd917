"""The tournament of a group as a figure: one ranked column for each round, joined by lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from efficientnet_elite.report.figures import TITLE, Figure, drawn
from efficientnet_elite.report.markup import LIGHT
from efficientnet_elite.search.decisions import DecidedRound, Decision
from efficientnet_elite.search.summary import Group, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Points.
_ROW, _GAP, _LANE = 15.0, 9.0, 22.0  # a candidate, the gap above the eliminated, the lines
_HEAD, _PAD = 38.0, 5.0
_LETTER, _SPACE = 5.1, 10.0  # widths: of a letter, and between name and score


@dataclass(frozen=True)
class _Cell:
    """A candidate in a column."""

    name: str
    score: float | None
    state: State


@dataclass(frozen=True)
class _Column:
    head: str
    below: str
    on: tuple[_Cell, ...]
    out: tuple[_Cell, ...]
    close: bool

    @property
    def height(self) -> float:
        return _ROW * (len(self.on) + len(self.out)) + (_GAP if self.on and self.out else 0.0)

    def at(self, name: str, middle: float) -> float:
        """Height of a candidate's line, the column standing around ``middle``."""
        names = [cell.name for cell in self.on + self.out]
        place = names.index(name)
        below = _GAP if self.on and place >= len(self.on) else 0.0
        return middle - self.height / 2 + (place + 0.5) * _ROW + below


def bracket(group: Group, rounds: Sequence[DecidedRound]) -> Figure | None:
    """Draws the tournament of a group; None if no candidate has been eliminated.

    Rounds in which everybody went on are left out.
    """
    shown = [decided for decided in rounds if decided.eliminated]
    if not shown:
        return None
    failed = {member.name for member in group.members if member.state is State.FAILED}
    columns = [_of_round(decided, failed) for decided in shown]
    if last := _now(group):
        columns.append(last)
    letters = max(len(cell.name) for column in columns for cell in column.on + column.out)
    digits = max(len(_score(cell)) for column in columns for cell in column.on + column.out)
    width = _LETTER * (letters + digits) + _SPACE
    total = len(columns) * (width + _LANE) - _LANE
    height = _HEAD + max(column.height for column in columns) + 2 * _PAD
    middle = _HEAD + _PAD + max(column.height for column in columns) / 2

    def draw(ax: Axes) -> None:
        ax.set_position((0, 0, 1, height / (height + 72 * TITLE)))
        ax.set_xlim(0, total)
        ax.set_ylim(height, 0)
        ax.axis("off")
        for place, column in enumerate(columns):
            left = place * (width + _LANE)
            _draw_column(ax, column, left, width, middle, group.champion)
            if place + 1 < len(columns):
                _draw_lanes(ax, column, columns[place + 1], left + width, middle, group.champion)

    return drawn(
        f"bracket-group{group.number}",
        f"Group {group.number}",
        f"Tournament of group {group.number}, by round: {_alternative_text(columns)}",
        (total / 72, height / 72),
        draw,
    )


def _of_round(decided: DecidedRound, failed: Collection[str]) -> _Column:
    def cell(decision: Decision) -> _Cell:
        if decision.scored:
            state = State.RACING if decision.survives else State.ELIMINATED
            return _Cell(decision.candidate, decision.score, state)
        # Without a score: it has failed, or had none yet when the time was up.
        left = State.FAILED if decision.candidate in failed else State.ELIMINATED
        return _Cell(decision.candidate, None, State.RACING if decision.survives else left)

    return _Column(
        f"Round {decided.round}",
        f"after epoch {decided.epoch}",
        tuple(map(cell, decided.surviving)),
        tuple(map(cell, decided.eliminated)),
        close=decided.close,
    )


def _now(group: Group) -> _Column | None:
    """The last column: the champion, or the candidates that are still racing."""
    left = [m for m in group.members if m.state in (State.CHAMPION, State.RACING)]
    if not left:
        return None
    left.sort(key=lambda m: (m.rank or 0, m.name))
    cells = tuple(_Cell(m.name, m.last_score, m.state) for m in left)
    if group.champion:
        return _Column("Champion", f"epoch {left[0].epochs_done}, last value", cells, (), False)
    return _Column("Racing", "last values", cells, (), False)


def _alternative_text(columns: Sequence[_Column]) -> str:
    """The figure in words."""
    sentences = []
    for column in columns:
        parts = [", ".join(cell.name for cell in column.on) or "nobody"]
        parts += (
            [f"eliminated: {', '.join(cell.name for cell in column.out)}"] if column.out else []
        )
        sentences.append(f"{column.head}: {'; '.join(parts)}")
    return ". ".join(sentences)


def _draw_column(
    ax: Axes, column: _Column, left: float, width: float, middle: float, champion: str | None
) -> None:
    small: dict[str, Any] = {
        "fontsize": 7.5,
        "color": LIGHT["muted"],
        "va": "center",
        "parse_math": False,
    }
    ax.text(left, 8, column.head, weight="bold", color=LIGHT["ink"], va="center", fontsize=8)
    ax.text(left, 20, column.below, **small)
    if column.close:
        ax.text(left, 32, "too close to call", **{**small, "color": LIGHT["series2"]})
    for cell in column.on + column.out:
        y = column.at(cell.name, middle)
        out = cell.state in (State.ELIMINATED, State.FAILED)
        color = LIGHT["muted" if out else "accent" if cell.name == champion else "ink"]
        weight = "bold" if cell.name == champion else "normal"
        look: dict[str, Any] = {"color": color, "weight": weight, "va": "center", "fontsize": 8}
        ax.text(left, y, cell.name, parse_math=False, **look)
        if cell.state is State.FAILED:
            look["color"] = LIGHT["alarm"]
        ax.text(left + width - 4, y, _score(cell), ha="right", **look)
    if column.on and column.out:
        y = column.at(column.out[0].name, middle) - (_ROW + _GAP) / 2
        ax.plot(
            (left, left + width),
            (y, y),
            color=LIGHT["series2" if column.close else "faint"],
            linewidth=1.4 if column.close else 0.8,
            linestyle=(0, (2, 2)),
        )


def _score(cell: _Cell) -> str:
    if cell.state is State.FAILED:
        return "failed"
    return "" if cell.score is None else f"{100 * cell.score:.2f}"


def _draw_lanes(
    ax: Axes, column: _Column, after: _Column, left: float, middle: float, champion: str | None
) -> None:
    """Draws lines to the next column for the candidates that are in it, too."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    there = {cell.name for cell in after.on + after.out}
    for cell in column.on:
        if cell.name not in there:
            continue
        y, next_y = column.at(cell.name, middle), after.at(cell.name, middle)
        start, end, half = left, left + _LANE - 4, _LANE / 2
        curve = [(start, y), (start + half, y), (end - half, next_y), (end, next_y)]
        ax.add_patch(
            PathPatch(
                Path(curve, [Path.MOVETO, *[Path.CURVE4] * 3]),
                fill=False,
                edgecolor=LIGHT["accent" if cell.name == champion else "faint"],
                linewidth=1.8 if cell.name == champion else 1.0,
            )
        )

"""Figures of the report, each as SVG for the page and as PNG for other uses.

Colours come from `markup.PALETTE`. Lines also differ in weight and markers in shape, so that
nothing is shown by colour alone. matplotlib is imported only when a figure is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite.report.labels import Label, place
from efficientnet_elite.report.markup import LIGHT, SERIES
from efficientnet_elite.search.summary import Group, Member, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"


def inline(svg: bytes, *, prefix: str, title: str, colors: Mapping[str, str]) -> str:
    """An ``<svg>`` element for HTML.

    Args:
      svg: the file.
      prefix: makes ids differ from those of other figures on the page.
      title: what the figure shows, for those who cannot see it.
      colors: as drawn (``#rrggbb``) to what the page shall use instead.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if not child.tag.startswith(f"{{{_SVG}}}") or child.tag in (
                f"{{{_SVG}}}metadata",
                f"{{{_SVG}}}style",  # would hold for the whole page
            ):
                parent.remove(child)
    pattern = re.compile("|".join(map(re.escape, colors)))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.attrib['id']}")
        if _HREF in element.attrib:
            element.set("href", f"#{prefix}-{element.attrib.pop(_HREF).removeprefix('#')}")
        for key, value in element.attrib.items():
            if key in ("style", "clip-path"):
                value = value.replace("url(#", f"url(#{prefix}-")
                element.set(key, pattern.sub(lambda match: colors[match.group()], value))
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": title})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


TITLE = 0.34  # inches above the axes that only the PNG shows; the page has its own headings
_PIXELS_PER_INCH = 200
_LABELS = 4  # so many curves are named even if they have been eliminated; the page names all
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "efficientnet-elite",  # the same search gives the same bytes
    "axes.edgecolor": LIGHT["faint"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": LIGHT["ink"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["faint"],
    "ytick.color": LIGHT["faint"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure.

    Attributes:
      file_name: of its PNG.
      svg: an ``<svg>`` element.
      png: the file.
      width: in points, where nothing is to be scaled.
    """

    file_name: str
    svg: str
    png: bytes
    width: float


@dataclass(frozen=True)
class Axis:
    """Limits that the learning curves of all groups share, so that they can be compared."""

    epochs: int
    logarithmic: bool
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A model in a plot of accuracy (0..1, with its interval if there is one) against a cost."""

    name: str
    cost: float
    accuracy: float
    interval: tuple[float, float] | None
    on_front: bool


def shared_axis(groups: Sequence[Group], scores: Mapping[str, Sequence[float]]) -> Axis:
    """Axes for the curves of all groups; epochs are logarithmic where the rounds end early."""
    members = [member for group in groups for member in group.members]
    epochs = max(2, *(member.epochs_needed for member in members))
    last_elimination = max((d.epoch for group in groups for d in group.decisions), default=0)
    values = [100 * score for member in members for score in scores.get(member.name, ())]
    low, high = min(values, default=0.0), max(values, default=100.0)
    pad = max(2.0, 0.06 * (high - low))
    return Axis(
        epochs,
        logarithmic=epochs >= 50 and 0 < last_elimination <= epochs / 3,
        low=max(0.0, low - pad),
        high=min(101.0, high + pad),
    )


def curves(
    group: Group, scores: Mapping[str, Sequence[float]], axis: Axis, score: str = "accuracy"
) -> Figure:
    """Validation scores of a group's candidates by epoch, with the eliminations.

    Args:
      group: to draw.
      scores: candidate to its scores, 0..1, of epoch 1, 2, ...
      axis: of `shared_axis`.
      score: what they are.
    """

    def draw(ax: Axes) -> None:
        ax.set_ylim(axis.low, axis.high)
        _epoch_axis(ax, group, axis)
        lines: list[np.ndarray] = []
        labels: list[Label] = []
        for member, (color, width) in _looks(group).items():
            accuracies = np.array(scores.get(member.name, ()), float)
            if not accuracies.size:
                continue
            line = np.stack([np.arange(1, accuracies.size + 1), 100 * accuracies], axis=1)
            ax.plot(*line.T, color=color, linewidth=width, zorder=2 + width)
            left = member.state in (State.ELIMINATED, State.FAILED)
            marker: dict[str, Any] = {"marker": "o", "markersize": 4.5}
            if left:
                marker = {"marker": "x", "markersize": 5.5, "markeredgewidth": 1.6}
            failed = member.state is State.FAILED
            ax.plot(
                *line[-1:].T,
                color=LIGHT["alarm"] if failed else LIGHT["muted"] if left else color,
                zorder=6,
                clip_on=False,
                **marker,
            )
            lines.append(line)
            if left and len(labels) >= _LABELS:
                continue
            labels.append(
                Label(
                    float(line[-1, 0]),
                    float(line[-1, 1]),
                    member.name + (" failed" if failed else ""),
                    LIGHT["muted"] if left else color,
                    bold=member.state is State.CHAMPION,
                )
            )
        if labels:
            place(ax, labels, lines, line_color=LIGHT["faint"])
        ax.set_ylabel(f"validation {score}, %")
        ax.set_xlabel("epoch (logarithmic)" if axis.logarithmic else "epoch")

    return drawn(
        f"curves-group{group.number}",
        f"Group {group.number}",
        f"Learning curves of group {group.number}: validation {score} by epoch",
        (3.8, 2.6),
        draw,
    )


def scatter(
    name: str, title: str, cost: str, points: Sequence[Point], score: str = "accuracy"
) -> Figure:
    """Accuracy against a cost, with 95 % intervals and the Pareto front.

    Args:
      name: of the file.
      title: for those who do not see it, and for the PNG.
      cost: what lies on the horizontal axis, with its unit.
      points: the models; at least two.
      score: what their accuracies are.
    """

    def draw(ax: Axes) -> None:
        costs = [point.cost for point in points]
        logarithmic = max(costs) > 10 * min(costs) > 0
        if logarithmic:
            ax.set_xscale("log")
            ax.set_xlim(min(costs) / 1.5, max(costs) * 1.8)
        else:
            spread = (max(costs) - min(costs)) or max(costs) or 1.0
            ax.set_xlim(max(0.0, min(costs) - 0.15 * spread), max(costs) + 0.22 * spread)
        obstacles = []
        for point in points:
            low, high = point.interval or (point.accuracy, point.accuracy)
            bar = np.array([(point.cost, 100 * low), (point.cost, 100 * high)])
            ax.plot(*bar.T, color=LIGHT["faint"], linewidth=1, zorder=2)
            obstacles.append(bar)
        best = sorted((p for p in points if p.on_front), key=lambda p: (p.cost, p.accuracy))
        step = np.array([(p.cost, 100 * p.accuracy) for p in best])
        corners = np.repeat(step, 2, axis=0)[:-1]
        corners[1::2, 0] = step[1:, 0]
        ax.plot(*corners.T, color=LIGHT["accent"], linewidth=1.6, zorder=3)
        if len(corners) > 1:
            obstacles.append(corners)
        for point in points:
            ax.plot(
                point.cost,
                100 * point.accuracy,
                marker="o" if point.on_front else "D",
                markersize=7 if point.on_front else 5.5,
                color=LIGHT["accent"] if point.on_front else LIGHT["surface"],
                markeredgecolor=LIGHT["accent"] if point.on_front else LIGHT["muted"],
                zorder=4,
            )
        ax.set_ylim(*_padded([y for bar in obstacles for y in bar[:, 1]]))
        ax.set_xlabel(cost)
        ax.set_ylabel(f"int8 test {score}, %")
        labels = [
            Label(
                p.cost,
                100 * p.accuracy,
                p.name,
                LIGHT["ink"] if p.on_front else LIGHT["muted"],
                bold=p.on_front,
            )
            for p in sorted(points, key=lambda p: not p.on_front)
        ]
        place(ax, labels, obstacles, line_color=LIGHT["faint"])

    return drawn(name, title, title, (4.7, 3.15), draw)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 1.0
    return max(0.0, low - pad), min(101.0, high + pad)


def _looks(group: Group) -> dict[Member, tuple[str, float]]:
    """Members with colour and line width, in the order in which they are labelled."""
    racing = [m for m in group.members if m.state is State.RACING]
    racing.sort(key=lambda m: -(m.average_score or 0.0))
    looks = {m: (LIGHT["accent"], 1.9) for m in group.members if m.state is State.CHAMPION}
    for place_, member in enumerate(racing):
        # Where there are more racing candidates than colours, the best ones get a colour each.
        color = LIGHT[SERIES[place_]] if place_ < len(SERIES) else LIGHT["muted"]
        looks[member] = (color, 1.5)
    others = [m for m in group.members if m not in looks]
    others.sort(key=lambda m: (-m.epochs_done, m.last_score or 0.0))
    return looks | dict.fromkeys(others, (LIGHT["faint"], 1.0))


def _epoch_axis(ax: Axes, group: Group, axis: Axis) -> None:
    """Draws the axis of epochs, with a dotted line at each elimination."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

    out = [decision for decision in group.decisions if not decision.survives]
    eliminations = sorted({(decision.epoch, decision.round) for decision in out if decision.epoch})
    if axis.logarithmic:
        ax.set_xscale("log")
        ax.set_xlim(1, axis.epochs * 1.12)
        decades = [10**power for power in range(1 + int(log10(axis.epochs)))]
        ticks = sorted({*decades, *(epoch for epoch, _ in eliminations), axis.epochs})
        ax.xaxis.set_major_locator(FixedLocator(_spaced(ticks)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter("{x:.0f}")
    else:
        ax.set_xlim(1 - 0.02 * axis.epochs, axis.epochs * 1.04)
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
    previous = None
    for epoch, number in eliminations:
        ax.axvline(epoch, color=LIGHT["faint"], linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        at = ax.transData.transform((epoch, axis.low))[0]
        if previous is None or at - previous > 14:
            ax.annotate(
                f"round {number}" if previous is None else str(number),
                (epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="left" if epoch == 1 else "center",  # not above the numbers of the other axis
                fontsize=7.5,
                color=LIGHT["muted"],
            )
            previous = at if previous is not None else at + 12  # the first one is wider


def _spaced(ticks: Sequence[int]) -> list[int]:
    """Leaves out ticks whose numbers would touch on a logarithmic axis; the last one stays."""
    spaced = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if spaced[-1] / tick >= 10 ** (0.055 * log10(ticks[-1])):
            spaced.append(tick)
    return spaced[::-1]


def drawn(name: str, title: str, alt: str, size: tuple[float, float], draw: Any) -> Figure:
    """Draws a figure; the PNG has the title that on the page is a heading.

    Args:
      name: of the PNG file, without its ending.
      title: of the PNG.
      alt: what it shows, for those who do not see it.
      size: inches.
      draw: draws on the axes that it is given.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.transforms import Bbox

    width, height = size
    with matplotlib.rc_context(STYLE):
        figure = Canvas(figsize=(width, height + TITLE))
        FigureCanvasAgg(figure)
        total = height + TITLE
        ax = figure.add_axes(
            (0.52 / width, 0.46 / total, 1 - 0.62 / width, (height - 0.66) / total)
        )
        ax.grid(axis="y")
        draw(ax)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(
            svg,
            format="svg",
            transparent=True,
            bbox_inches=Bbox([[0, 0], size]),
            metadata={"Date": None},
        )
        ax.set_title(title, pad=16)
        figure.savefig(
            png, format="png", dpi=_PIXELS_PER_INCH, facecolor=LIGHT["surface"], metadata={}
        )
    variables = {color: f"var(--{role})" for role, color in LIGHT.items()}
    return Figure(
        f"{name}.png",
        inline(svg.getvalue(), prefix=name, title=alt, colors=variables),
        png.getvalue(),
        72 * width,
    )

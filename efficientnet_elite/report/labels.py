"""Labels next to points of a figure, placed where they cover as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DISTANCES = (6.0, 16.0, 32.0, 56.0, 84.0)  # points between an anchor and its label, sideways
_STEPS = sorted(range(-16, 17), key=abs)  # up and down, in half heights of the label
_CONNECT = 13.0  # points of displacement from which on a line leads from label to anchor
_MARGIN = 1.2  # points around a label


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point (x, y), in data coordinates; colours as matplotlib's."""

    x: float
    y: float
    text: str
    color: str
    bold: bool = False


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def inside(self, points: np.ndarray) -> int:
        """Number of points that the box covers."""
        x, y = points.T
        return int(((x > self.left) & (x < self.right) & (y > self.bottom) & (y < self.top)).sum())

    def overlap(self, other: _Box) -> float:
        """Common area as a share of this box."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        area = (self.right - self.left) * (self.top - self.bottom)
        return max(width, 0.0) * max(height, 0.0) / area

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Vectors from each point to the box."""
        x, y = points.T
        return np.hypot(
            np.maximum(0, np.maximum(self.left - x, x - self.right)),
            np.maximum(0, np.maximum(self.bottom - y, y - self.top)),
        )


def place(
    ax: Axes, labels: Sequence[Label], obstacles: Sequence[np.ndarray], *, line_color: str
) -> None:
    """Writes labels beside their points; the first labels are placed first.

    Greedy: each label takes, among positions left and right of its point, the one that covers
    least of labels and lines already there, is nearest, and is not nearer to another's point.

    Args:
      ax: with final limits and scales, on an Agg canvas.
      labels: what to write.
      obstacles: polylines (points, 2) in data coordinates.
      line_color: of the lines that lead to labels that had to go far.
    """
    scale = ax.figure.dpi / 72  # points to display pixels
    anchors = ax.transData.transform([(label.x, label.y) for label in labels])
    lines = [_sampled(ax.transData.transform(line), 2 * scale) for line in obstacles]
    ink = np.concatenate([*lines, anchors])
    taken: list[_Box] = []
    for number, (label, anchor) in enumerate(zip(labels, anchors, strict=True)):
        width, height = _size(ax, label)
        best, least = (0.0, 0.0, _Box(0, 0, 0, 0), ink[:0]), np.inf
        for side, distance, step in product((1, -1), _DISTANCES, _STEPS):
            dx, dy = side * distance * scale, step * height / 2
            near = np.hypot(dx, 1.5 * dy) / scale + (0 if side > 0 else 15)
            if near >= least:  # the rest is slow
                continue
            box = _box(anchor[0] + dx, anchor[1] + dy, width, height, side, _MARGIN * scale)
            path = _sampled(np.array([anchor, anchor + np.array((dx, dy))]), 2 * scale)
            away = box.distances(anchors)
            cost = (
                near
                + 40 * _outside(ax, box)
                + 12 * box.inside(ink)
                + 8 * sum(other.inside(path) for other in taken)
                + sum(100 + 400 * share for other in taken if (share := box.overlap(other)))
                + 25 * int((np.delete(away, number) < away[number]).any())
            )
            if cost < least:
                best, least = (dx / scale, dy / scale, box, path), cost
        dx, dy, box, path = best
        taken.append(box)
        far = np.hypot(dx, dy) > _CONNECT
        if far:
            ink = np.concatenate([ink, path])
        ax.annotate(
            label.text,
            (label.x, label.y),
            xytext=(dx, dy),
            textcoords="offset points",
            ha="left" if dx > 0 else "right",
            va="center",
            color=label.color,
            weight=_weight(label),
            parse_math=False,
            annotation_clip=False,
            arrowprops=_connector(line_color) if far else None,
        )


def _connector(color: str) -> dict[str, object]:
    return {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}


def _weight(label: Label) -> str:
    return "bold" if label.bold else "normal"


def _size(ax: Axes, label: Label) -> tuple[float, float]:
    """Width and height in display pixels."""
    text = ax.text(0, 0, label.text, weight=_weight(label), parse_math=False)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _box(x: float, y: float, width: float, height: float, side: int, margin: float) -> _Box:
    """The box of a label whose left (side 1) or right (side -1) edge is at x, centred on y."""
    left = x if side > 0 else x - width
    return _Box(
        left - margin, y - height / 2 - margin, left + width + margin, y + height / 2 + margin
    )


def _outside(ax: Axes, box: _Box) -> float:
    """Pixels that a box sticks out of the axes (to the right: of the figure)."""
    frame = ax.get_window_extent()
    return max(0.0, frame.y0 - box.bottom, box.top - frame.y1, frame.x0 - box.left) + max(
        0.0, box.right - ax.figure.bbox.x1
    )


def _sampled(line: np.ndarray, spacing: float) -> np.ndarray:
    """Points along a polyline, ``spacing`` apart, so that no label fits between two of them."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.arange(0.0, at[-1] + spacing, spacing)
    return np.stack([np.interp(wanted, at, column) for column in line.T], axis=1)

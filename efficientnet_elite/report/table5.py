"""Figures 1 and 7 of arXiv 2009.07409, drawn again: printed accuracies over counted costs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.report.figures import STYLE
from efficientnet_elite.report.labels import Label, place
from efficientnet_elite.report.markup import LIGHT
from efficientnet_elite.report.table5_rows import Comparison
from efficientnet_elite.search.workdir import write_bytes

_SIZE = (8.6, 6.0)  # inches
_PIXELS_PER_INCH = 160
_DRAWN: dict[Any, Any] = {**STYLE, "font.size": 7.5}
_TICKS = (1, 2, 3, 4, 5, 7, 40, 60, 100, 150, 200, 300, 400, 600)

# What a title begins with, to the series' name, colour and marker; the first that fits.
_SERIES = {
    "eLite": ("EfficientNet-eLite", "accent", "o"),
    "HF": ("EfficientNet-HF", "series2", "s"),
    "": ("networks it cites", "muted", "D"),
}

Cost = Callable[[Comparison], float]


def params(comparison: Comparison) -> float:
    """Millions of parameters: counted, or printed where nothing could be counted."""
    counted = comparison.params
    return float(comparison.row.params) if counted is None else counted / 1e6


def macs(comparison: Comparison) -> float:
    """Millions of multiply-accumulates: counted, or printed where nothing could be counted."""
    counted = comparison.macs
    return float(comparison.row.macs) if counted is None else counted / 1e6


def write_figures(folder: Path, comparisons: Sequence[Comparison]) -> list[Path]:
    """Draws both figures into a folder, which is made where missing.

    Returns:
      the four files' paths: ``table5-figure1`` (accuracy over parameters) and ``table5-figure7``
      (over multiply-accumulates), each as .png and .svg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, title, label, cost in (
        ("table5-figure1", "Figure 1 redrawn: accuracy, parameters", "parameters", params),
        ("table5-figure7", "Figure 7 redrawn: accuracy, MACs", "multiply-accumulates", macs),
    ):
        files = _draw(f"arXiv 2009.07409, {title}", f"millions of {label}", cost, comparisons)
        for kind, content in files.items():
            path = folder / f"{name}.{kind}"
            write_bytes(path, content)
            written.append(path)
    return written


def _draw(
    title: str, label: str, cost: Cost, comparisons: Sequence[Comparison]
) -> dict[str, bytes]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_DRAWN):
        figure = Figure(figsize=_SIZE, layout="tight")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        ax.grid(axis="y")
        ax.set_xscale("log")
        costs = [cost(c) for c in comparisons]
        ax.set_xlim(min(costs) / 1.12, max(costs) * 1.25)
        ax.set_ylim(64, 78.5)
        ax.set_xticks([tick for tick in _TICKS if min(costs) / 1.1 < tick < max(costs) * 1.2])
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.minorticks_off()
        ax.set_xlabel(f"{label} (counted; hollow: as printed)")
        ax.set_ylabel("top-1 on ImageNet, % (paper, not measured here)")
        ax.set_title(title, pad=10)
        for name, color, marker in _SERIES.values():
            ax.plot([], [], color=LIGHT[color], marker=marker, label=name, linestyle="")
        ax.legend(loc="lower right", frameon=False)
        labels = []
        for comparison in comparisons:
            prefix = next(p for p in _SERIES if comparison.row.title.startswith(p))
            _, color, marker = _SERIES[prefix]
            x, y = cost(comparison), comparison.row.top1
            ax.plot(
                x,
                y,
                marker=marker,
                markersize=4.5,
                color=LIGHT["surface" if comparison.params is None else color],
                markeredgecolor=LIGHT[color],
                zorder=4,
            )
            labels.append(Label(x, y, comparison.row.title, LIGHT[color], bold=bool(prefix)))
        elite = [c for c in comparisons if c.row.title.startswith("eLite")]
        line = np.array([(cost(c), c.row.top1) for c in elite])
        ax.plot(*line.T, color=LIGHT["accent"], linewidth=1.2, zorder=2)
        figure.draw_without_rendering()  # fixes the limits that labels are placed in
        place(ax, labels, [line], line_color=LIGHT["faint"])
        files = {}
        for kind, options in (
            ("png", {"dpi": _PIXELS_PER_INCH}),
            ("svg", {"metadata": {"Date": None}}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, facecolor=LIGHT["surface"], **options)
            files[kind] = buffer.getvalue()
    return files

"""The page of latencies and instruction counts on several boards: one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from efficientnet_elite.report import figures, pareto
from efficientnet_elite.report.figures import Figure, Point
from efficientnet_elite.report.markup import (
    LIGHT,
    SERIES,
    Html,
    document,
    missing,
    note,
    plural,
    tag,
)
from efficientnet_elite.report.tables import column, framed, heads, three_digits, words
from efficientnet_elite.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
_MARKERS = "osD^vP"


def render(rows: Sequence[Row]) -> str:
    """The whole page.

    Args:
      rows: one for each board and model, with `job.boards.results.COLUMNS`.
    """
    boards = list(dict.fromkeys(row["board"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows if row["model"]))
    counts = f"{plural(len(models), 'file')} on {plural(len(boards), 'board')}"
    header = tag(
        "header",
        tag("p", "Boards and phones", class_="eyebrow"),
        tag("h1", counts),
    )
    run = [row for row in rows if row["board"] not in _estimated(rows)]
    boards_run = [board for board in boards if board not in _estimated(rows)]
    sections = (
        _costs(run, boards_run, models) if run else None,
        _accelerators(rows, models),
        _spread(run),
        _sustained(run),
        *(_accuracies(run, board) for board in boards_run),
        _boards(rows, boards),
    )
    end = tag("footer", tag("p", "Written by ", tag("code", "elite boards run --html=FILE")))
    return document(f"{counts}", header, sections, end)


def cost(row: Row) -> tuple[float, str] | None:
    """A row's milliseconds, or millions of instructions, with their name; None if it failed."""
    if row["instructions"] is not None:
        return row["instructions"] / 1e6, "million instructions"
    return None if row["median_ms"] is None else (row["median_ms"], "ms, median")


def _estimated(rows: Sequence[Row]) -> set[str]:
    """The boards that are accelerators, of which there are estimates."""
    return {row["board"] for row in rows if row["npu_cycles"] is not None}


_ESTIMATES = (
    ("npu_cycles", 1e6, ("Cycles", "million")),
    ("npu_mhz", 1, ("Clock", "MHz")),
    ("npu_ms", 1, ("Time", "ms")),
    ("sram_bytes", 1e3, ("SRAM", "kB")),
    ("flash_bytes", 1e3, ("Flash", "kB")),
    ("dram_bytes", 1e3, ("DRAM", "kB")),
    ("npu_operators", 0.01, ("Operators", "%")),
    ("npu_macs", 0.01, ("MACs", "%")),
)


def _accelerators(rows: Sequence[Row], models: Sequence[str]) -> Html | None:
    """What Vela estimates: a line for each model and accelerator."""
    known = [row for row in rows if row["npu_cycles"] is not None]
    if not known:
        return None
    lines = [
        tag(
            "tr",
            tag("th", f"{_short(row['model'])}: {row['board']}", scope="row"),
            *(
                tag("td", three_digits(row[name] / factor) if row[name] else "-")
                for name, factor, _ in _ESTIMATES
            ),
            tag("td", row["cpu_layers"] or "-", class_="words"),
        )
        for model in models
        for row in known
        if row["model"] == model
    ]
    head = tag(
        "tr",
        column("Model"),
        *(column(title) for _, _, title in _ESTIMATES),
        words("Left to the processor"),
    )
    return tag(
        "section",
        tag("h2", "Accelerators, estimated"),
        framed(head, lines),
        note(
            "Vela's estimates for Ethos-U accelerators, which are no measurements. Cycles and time "
            "are those of the accelerator: layers that are left to the processor come on top. "
            "Operators and MACs: the share that the accelerator takes."
        ),
    )


def _costs(rows: Sequence[Row], boards: Sequence[str], models: Sequence[str]) -> Html:
    known = {(row["board"], row["model"]): cost(row) for row in rows}
    units = {board: found[1] for (board, _), found in known.items() if found}
    lines = [
        tag(
            "tr",
            tag("th", _short(model), scope="row"),
            *(
                tag("td", three_digits(found[0]) if (found := known.get((board, model))) else "-")
                for board in boards
            ),
        )
        for model in models
    ]
    columns = [(board, units.get(board, "not measured")) for board in boards]
    drawings = [_by_board(known, models, unit) for unit in dict.fromkeys(units.values())]
    return tag(
        "section",
        tag("h2", "Cost of an inference"),
        framed(heads("Model", *columns), lines),
        note(
            "Counts of instructions repeat and are no latency: they say nothing about caches, "
            "pipelines and clocks."
        )
        if any(row["instructions"] is not None for row in rows)
        else None,
        tag("div", *(_shown(figure) for figure in drawings if figure), class_="pair"),
    )


def _by_board(
    known: Mapping[tuple[str, str], tuple[float, str] | None], models: Sequence[str], unit: str
) -> Figure | None:
    """A marker for each model and board."""
    boards = list(dict.fromkeys(b for (b, _), found in known.items() if found and found[1] == unit))
    shown = [m for m in models if any(known.get((board, m)) for board in boards)]
    if not shown:
        return None

    costs = [found[0] for (board, _), found in known.items() if found and board in boards]

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        for place, board in enumerate(boards):
            points = [(found[0], y) for y, model in enumerate(shown)
                      if (found := known.get((board, model)))]  # fmt: skip
            ax.plot(
                *zip(*points, strict=True),
                linestyle="none",
                marker=_MARKERS[place % len(_MARKERS)],
                color=LIGHT[SERIES[place % len(SERIES)]],
                label=board,
            )
        low, high = min(costs), max(costs)
        if high > 10 * low:
            ax.set_xscale("log")
            ax.set_xlim(low / 2, high * 2)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            ax.set_xlim(0, 1.1 * high)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(f"{unit} (logarithmic)" if high > 10 * low else unit)
        # Names stand inside: beside the axis a long one would not fit.
        ax.set_yticks(range(len(shown)), [""] * len(shown))
        for y, model in enumerate(shown):
            ax.annotate(
                _short(model),
                (0, y),
                xycoords=("axes fraction", "data"),
                xytext=(3, 5),
                textcoords="offset points",
                fontsize=7.5,
                color=LIGHT["muted"],
            )
        ax.set_ylim(len(shown) - 0.3, -0.7)
        ax.legend(
            fontsize=7.5,
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=3,
            labelcolor=LIGHT["ink"],
        )

    title = f"{unit.split(',')[0]} of each model by board"
    name = f"boards-{unit.split(',')[0].replace(' ', '-')}"
    return figures.drawn(name, title, title, (4.7, 1.2 + 0.32 * len(shown)), draw)


def _spread(rows: Sequence[Row]) -> Html | None:
    timed = [row for row in rows if row["median_ms"] is not None]
    if not timed:
        return None
    columns = ("min_ms", "p5_ms", "median_ms", "mean_ms", "p90_ms", "p95_ms", "first_ms",
               "initialisation_ms", "rss_mb")  # fmt: skip
    lines = [
        tag(
            "tr",
            tag("th", f"{row['board']}: {_short(row['model'])}", scope="row"),
            *(tag("td", "-" if row[key] is None else three_digits(row[key])) for key in columns),
            tag("td", percent(row["delegated"], 0) or "-"),
        )
        for row in timed
    ]
    titles = ("Minimum", "5 %", "Median", "Mean", "90 %", "95 %", "First", "Loading", "Memory",
              "Delegate")  # fmt: skip
    units = [*("ms",) * 8, "MB", "operators"]
    return tag(
        "section",
        tag("h2", "Spread, start and memory"),
        framed(heads("Model", *zip(titles, units, strict=True)), lines),
        note(
            "Loading, first inference and peak memory are those of a process in which the model "
            "is alone, without Python and the runtime. Delegate: the share of operators that "
            "XNNPACK runs, where the runtime tells it."
        ),
    )


def _sustained(rows: Sequence[Row]) -> Html | None:
    """How latency changes while a model runs without a pause, by that of the first second."""
    curves = {
        f"{row['board']}: {_short(row['model'])}": list(map(float, row["sustained_ms"].split()))
        for row in rows
        if row["sustained_ms"]
    }
    if not curves:
        return None

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for place, (name, times) in enumerate(curves.items()):
            ax.plot(
                range(1, 1 + len(times)),
                [100 * ms / times[0] for ms in times],
                color=LIGHT[SERIES[place % len(SERIES)]],
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=3,
                label=name,
            )
        ax.set_xlabel("second")
        ax.set_ylabel("median, % of the first second")
        ax.set_ylim(0, 110 * max(max(times) / times[0] for times in curves.values()))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(fontsize=7.5, frameon=False, loc="lower left", labelcolor=LIGHT["ink"])

    title = "Latency without a pause"
    figure = figures.drawn("boards-sustained", title, title, (4.7, 3.15), draw)
    return tag("section", tag("h2", title), _shown(figure))


def _accuracies(rows: Sequence[Row], board: str) -> Html | None:
    """Accuracy against what a board measured, where at least two models have both."""
    found = [
        (row, known[0], known[1])
        for row in rows
        if row["board"] == board and row["accuracy"] is not None and (known := cost(row))
    ]
    if len(found) < 2:
        return None
    front = pareto.front(
        [row["accuracy"] for row, _, _ in found], [(value,) for _, value, _ in found]
    )
    points = [
        Point(_short(row["model"]), value, row["accuracy"], None, on)
        for (row, value, _), on in zip(found, front, strict=True)
    ]
    title = f"Accuracy on {board}"
    figure = figures.scatter(f"accuracy-{board}", title, found[0][2], points)
    return tag("section", tag("h2", title), _shown(figure))


def _boards(rows: Sequence[Row], boards: Sequence[str]) -> Html:
    lines, remarks = [], []
    for board in boards:
        mine = [row for row in rows if row["board"] == board]
        first = mine[0]
        facts = (first["cpu"], first["clusters"], first["system"], first["libc"], first["runtime"])
        clock = _change(first["mhz_before"], first["mhz_after"], "MHz")
        heat = _change(first["celsius_before"], first["celsius_after"], "°C")
        lines.append(
            tag(
                "tr",
                tag("th", board, scope="row"),
                tag("td", first["kind"]),
                tag("td", first["governor"] or "-"),
                tag("td", clock),
                tag("td", heat),
                tag("td", "-" if first["load"] is None else f"{first['load']:.2f}"),
                tag("td", "; ".join(fact for fact in facts if fact), class_="words"),
            )
        )
        if first["marks"]:
            remarks.append(missing(f"{board}: not to be trusted: {first['marks']}.", alarm=True))
        remarks += [
            missing(f"{board}: {_short(row['model'] or '')} {row['error']}".replace("  ", " "))
            for row in mine
            if row["error"]
        ]
    head = tag(
        "tr",
        *(tag("th", name, scope="col") for name in ("Board", "Kind", "Governor", "Clock", "Heat")),
        tag("th", "Load", tag("small", "a core"), scope="col"),
        words("Is"),
    )
    return tag("section", tag("h2", "Boards"), framed(head, lines), *remarks)


def _change(before: float | None, after: float | None, unit: str) -> str:
    if before is None or after is None:
        return "-"
    return f"{before:.0f} to {after:.0f} {unit}"


def _shown(figure: Figure) -> Html:
    return tag("figure", Html(figure.svg))


def _short(model: str) -> str:
    return PurePath(model).name.removesuffix(".tflite")

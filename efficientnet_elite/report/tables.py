"""The report's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientnet_elite.report.artefacts import Export, Latency
from efficientnet_elite.report.markup import Html, join, tag
from efficientnet_elite.report.results import Champion
from efficientnet_elite.summary import Group, Member, describe
from efficientnet_elite.units import duration, percent

_NONE = "–"


def _table(head: Html, rows: Sequence[Html], class_: str | None = None) -> Html:
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_=class_)
    return tag("div", table, class_="scroll")


def _head(*columns: str | tuple[str, str]) -> Html:
    return tag("tr", *map(_column, columns))


def _column(column: str | tuple[str, str]) -> Html:
    """A head, with what the column holds (a unit) below its name."""
    name, unit = column if isinstance(column, tuple) else (column, None)
    return tag("th", name, unit and tag("small", unit), scope="col")


# Spanning title (None: none) and the columns below it.
_CHAMPION_COLUMNS: tuple[tuple[str | None, tuple[str | tuple[str, str], ...]], ...] = (
    (None, ("Champion", "Group")),
    ("Accuracy, %", (("int8", "test"), ("float32", "test"), ("float32", "validation"))),
    ("File, kB", ("int8", "float32")),
    ("Latency, ms", (("int8", "median"), ("int8", "p90"), ("float32", "median"))),
    ("Network", (("Input", "px"), ("Params", "million"), ("MACs", "million"))),
)


def champions(rows: Sequence[Champion]) -> Html:
    """Champions with accuracies, costs and latency; a dot marks the Pareto front."""
    spans = [
        tag("th", title and tag("span", title), colspan=str(len(columns)), scope="colgroup")
        for title, columns in _CHAMPION_COLUMNS
    ]
    names = [name for _, columns in _CHAMPION_COLUMNS for name in columns]
    return _table(join(tag("tr", *spans), _head(*names)), [_champion(row) for row in rows])


def _champion(champion: Champion) -> Html:
    member = champion.member
    accuracies, others = _measured(champion.export)
    cells = (
        str(champion.group),
        *accuracies,
        _share(member.last_score),
        *others,
        str(member.resolution),
        f"{member.params / 1e6:.3f}",
        f"{member.macs / 1e6:,.2f}",
    )
    dot = tag("span", " ●", class_="dot", title="on the Pareto front")
    name = tag("th", member.name, dot if champion.on_front else None, scope="row")
    return tag("tr", name, *(tag("td", cell) for cell in cells))


def _measured(export: Export | None) -> tuple[list[str], list[str]]:
    """Test accuracies; sizes and latencies."""
    if export is None:
        return [_NONE] * 2, [_NONE] * 5
    return [_share(export.int8_accuracy), _share(export.float_accuracy)], [
        f"{export.int8_bytes / 1000:,.0f}",
        f"{export.float_bytes / 1000:,.0f}",
        _latency(export.int8_latency, "median_ms"),
        _latency(export.int8_latency, "p90_ms"),
        _latency(export.float_latency, "median_ms"),
    ]


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f}"


def _latency(latency: Latency | None, field: str) -> str:
    return _NONE if latency is None else milliseconds(getattr(latency, field))


def milliseconds(value: float) -> str:
    """Three digits, as far as they are behind the point."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def verification(rows: Sequence[Champion]) -> Html | None:
    """How exported files were checked; None where there are none."""
    exports = [champion.export for champion in rows if champion.export]
    if not exports:
        return None
    head = _head(
        "Export",
        ("Same class", "int8 and float32, %"),
        ("float32 − Keras", "largest logit difference"),
        ("Range", "of the logits"),
        ("Operators", "of the int8 file"),
    )
    body = [
        tag(
            "tr",
            tag("th", export.name, scope="row"),
            tag("td", _share(export.agreement)),
            tag("td", f"{export.max_difference:.1e}"),
            tag("td", f"{export.logit_range:.1f}"),
            tag("td", _operators(export.operators), class_="words"),
        )
        for export in exports
    ]
    return tag("details", tag("summary", "How the exports were verified"), _table(head, body))


def _operators(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))


def candidates(groups: Sequence[Group]) -> Html:
    """Every candidate, by group, and why it left."""
    columns = (
        ("Epochs", "trained"),
        ("Average", "validation, %"),
        ("Last", "validation, %"),
        ("Input", "pixels"),
        ("Width", "coefficient"),
        ("Depth", "coefficient"),
        ("Parameters", "million"),
        ("MACs", "million"),
    )
    head = tag(
        "tr",
        tag("th", "Candidate", scope="col"),
        tag("th", "What became of it", scope="col", class_="words"),
        *map(_column, columns),
    )
    rows = []
    for group in groups:
        title = tag("th", f"Group {group.number}", colspan=str(len(columns) + 2), scope="rowgroup")
        rows += [tag("tr", title, class_="group"), *map(_candidate, group.members)]
    return _table(head, rows)


_ROW_CLASS = {"champion": "won", "eliminated": "out", "failed": "failed"}


def _candidate(member: Member) -> Html:
    cells = (
        str(member.epochs_done),
        _share(member.average_score),
        _share(member.last_score),
        str(member.resolution),
        f"{member.width:g}",
        f"{member.depth:g}",
        f"{member.params / 1e6:.3f}",
        f"{member.macs / 1e6:,.2f}",
    )
    return tag(
        "tr",
        tag("td", member.name),
        tag("td", describe(member), class_="words"),
        *(tag("td", cell) for cell in cells),
        class_=_ROW_CLASS.get(member.state),
    )


def times(seconds: Mapping[str, float]) -> Html:
    """Phases with their time, the longest first, as numbers and bars."""
    total = sum(seconds.values())
    rows = [
        tag(
            "tr",
            tag("td", phase.capitalize()),
            tag("td", duration(spent)),
            tag("td", percent(spent / total)),
            tag("td", tag("i", style=f"width:{100 * spent / total:.2f}%"), class_="bar"),
        )
        for phase, spent in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    rows.append(
        tag(
            "tr",
            tag("td", "Together"),
            tag("td", duration(total)),
            tag("td"),
            tag("td"),
            class_="total",
        )
    )
    return _table(_head("Phase", "Time", "Share", ""), rows)


def keys(rows: Sequence[tuple[str, str]]) -> Html:
    """Names and values."""
    body = [tag("tr", tag("td", key.replace("_", " ")), tag("td", value)) for key, value in rows]
    return tag("table", tag("tbody", *body), class_="keys")

"""The report's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from efficientnet_elite.costs import METRICS
from efficientnet_elite.report.artefacts import Export, Latency
from efficientnet_elite.report.cost import Cost
from efficientnet_elite.report.markup import Html, join, listed, tag
from efficientnet_elite.report.results import Champion
from efficientnet_elite.report.tradeoff import Option, Options
from efficientnet_elite.summary import Group, Member
from efficientnet_elite.summary_text import describe
from efficientnet_elite.units import duration, percent, quantity

NONE = "–"
Column: TypeAlias = str | tuple[str, str]  # a name, with a unit or the like below it


def framed(head: Html, rows: Sequence[Html]) -> Html:
    """A table, to be scrolled sideways where it is too wide."""
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="scroll")


def heads(*columns: Column) -> Html:
    """A row of column heads; see `column`."""
    return tag("tr", *map(column, columns))


def column(content: Column) -> Html:
    """The head of a column."""
    name, unit = content if isinstance(content, tuple) else (content, None)
    return tag("th", name, unit and tag("small", unit), scope="col")


def words(name: str) -> Html:
    """The head of a column of words."""
    return tag("th", name, scope="col", class_="words")


_ACCURACY = "Accuracy, %"
# Spanning title (None: none) and the columns below it.
_CHAMPION_COLUMNS: tuple[tuple[str | None, tuple[Column, ...]], ...] = (
    (None, ("Champion", "Group")),
    (_ACCURACY, (("int8", "test"), ("float32", "test"), ("float32", "validation"))),
    ("File, kB", ("int8", "float32")),
    ("Latency, ms", (("int8", "median"), ("int8", "p90"), ("float32", "median"))),
    ("Network", (("Input", "px"), ("Params", "million"), ("MACs", "million"))),
)


def champions(rows: Sequence[Champion]) -> Html:
    """Champions with accuracies, costs and latency; a dot marks the Pareto front.

    Their int8 accuracy on the validation part is shown where there is any.
    """
    validated = any(row.int8_validation is not None for row in rows)
    more: dict[str | None, tuple[Column, ...]] = {}
    if validated:
        more[_ACCURACY] = (("int8", "validation"),)
    groups = [(title, columns + more.get(title, ())) for title, columns in _CHAMPION_COLUMNS]
    spans = [
        tag("th", title and tag("span", title), colspan=str(len(columns)), scope="colgroup")
        for title, columns in groups
    ]
    names = [name for _, columns in groups for name in columns]
    body = [_champion(row, validated) for row in rows]
    return framed(join(tag("tr", *spans), heads(*names)), body)


def _champion(champion: Champion, validated: bool) -> Html:
    member = champion.member
    accuracies, others = _measured(champion.export)
    cells = (
        str(champion.group),
        *accuracies,
        share(member.last_score),
        *([share(champion.int8_validation)] if validated else []),
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
        return [NONE] * 2, [NONE] * 5
    return [share(export.int8_accuracy), share(export.float_accuracy)], [
        f"{export.int8_bytes / 1000:,.0f}",
        f"{export.float_bytes / 1000:,.0f}",
        _latency(export.int8_latency, "median_ms"),
        _latency(export.int8_latency, "p90_ms"),
        _latency(export.float_latency, "median_ms"),
    ]


def share(value: float | None) -> str:
    """Percent, without the sign."""
    return NONE if value is None else f"{100 * value:.2f}"


def _latency(latency: Latency | None, field: str) -> str:
    return NONE if latency is None else three_digits(getattr(latency, field))


def three_digits(value: float) -> str:
    """Three digits, as far as they are behind the point."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def options(found: Options) -> Html:
    """Champions with every cost that can be compared; a dot marks the Pareto set."""
    metrics = [METRICS[name] for name in found.metrics]
    kind = "int8, test" if found.tested else "validation"
    columns: list[Column] = ["Champion", ("Accuracy, %", kind)]
    columns += [(metric.title, metric.unit) for metric in metrics]
    head = tag(
        "tr",
        *map(column, columns),
        words("Why"),
    )
    return framed(head, [_option(option, found.metrics) for option in found.rows])


def _option(option: Option, metrics: Sequence[str]) -> Html:
    cells = [
        tag("td", tag("b", text) if name in option.alone else text)
        for name in metrics
        for text in [three_digits(option.costs[name] / METRICS[name].factor)]
    ]
    if not option.on_front:
        why = join("nowhere better than ", listed(option.beaten_by))
    elif option.alone == tuple(metrics):
        why = join("for any of its costs")
    elif option.alone:
        why = join("for its ", ", ".join(METRICS[name].title for name in option.alone))
    else:
        why = join("for its costs taken together")
    dot = tag("span", " ●", class_="dot", title="worth a choice") if option.on_front else None
    return tag(
        "tr",
        tag("th", option.name, dot, scope="row"),
        tag("td", share(option.accuracy)),
        *cells,
        tag("td", why, class_="words"),
        class_=None if option.on_front else "out",
    )


def verification(rows: Sequence[Champion]) -> Html | None:
    """How exported files were checked; None where there are none."""
    exports = [champion.export for champion in rows if champion.export]
    if not exports:
        return None
    head = heads(
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
            tag("td", share(export.agreement)),
            tag("td", f"{export.max_difference:.1e}"),
            tag("td", f"{export.logit_range:.1f}"),
            tag("td", _operators(export.operators), class_="words"),
        )
        for export in exports
    ]
    return tag("details", tag("summary", "How the exports were verified"), framed(head, body))


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
        words("What became of it"),
        *map(column, columns),
    )
    rows = []
    for group in groups:
        title = tag("th", f"Group {group.number}", colspan=str(len(columns) + 2), scope="rowgroup")
        rows += [tag("tr", title, class_="group"), *map(_candidate, group.members)]
    return framed(head, rows)


_ROW_CLASS = {"champion": "won", "eliminated": "out", "failed": "failed"}


def _candidate(member: Member) -> Html:
    cells = (
        str(member.epochs_done),
        share(member.average_score),
        share(member.last_score),
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


def costs(rows: Sequence[Cost]) -> Html:
    """Forecast and actual cost by group, and of all together."""
    head = heads(
        "Group",
        "Candidates",
        ("Epochs", "planned"),
        ("Epochs", "trained"),
        ("Epochs", "still to train"),
        ("Off", "% of the plan"),
        ("Work", "planned"),
        ("Work", "trained"),
        ("Off", "% of the plan"),
        ("Time", "training"),
    )
    return framed(head, [_cost(row) for row in rows])


def _cost(row: Cost) -> Html:
    cells = (
        str(row.candidates),
        f"{row.epochs_planned:,}",
        f"{row.epochs_trained:,}",
        f"{row.epochs_left:,}",
        _off(row.epochs_off),
        quantity(row.work_planned),
        quantity(row.work_trained),
        _off(row.work_off),
        duration(row.seconds),
    )
    name = "All" if row.group is None else str(row.group)
    total = "total" if row.group is None else None
    return tag("tr", tag("td", name), *(tag("td", cell) for cell in cells), class_=total)


def _off(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:+.1f}"


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
    return framed(heads("Phase", "Time", "Share", ""), rows)


def keys(rows: Sequence[tuple[str, str]]) -> Html:
    """Names and values."""
    body = [tag("tr", tag("td", key.replace("_", " ")), tag("td", value)) for key, value in rows]
    return tag("table", tag("tbody", *body), class_="keys")

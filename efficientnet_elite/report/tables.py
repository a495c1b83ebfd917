"""Tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

from efficientnet_elite.device.costs import METRICS
from efficientnet_elite.report.artefacts import Export, Latency
from efficientnet_elite.report.cost import GroupCost
from efficientnet_elite.report.markup import Html, join, listed, tag, titled
from efficientnet_elite.report.results import Champion
from efficientnet_elite.report.tradeoff import Option, Options
from efficientnet_elite.search.summary import Group, Member
from efficientnet_elite.search.summary_text import member_text
from efficientnet_elite.text import duration, percent, quantity

NONE = "–"
Column: TypeAlias = str | tuple[str, str]  # a name, with a unit or the like below it


def framed(head: Html, rows: Sequence[Html]) -> Html:
    """A table that can be scrolled sideways where it is too wide."""
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


def champions(rows: Sequence[Champion], score: str, judged_by: str) -> Html:
    """Champions with their scores, costs and latency; a dot marks the Pareto front.

    On the test part the score is ``score``, on the validation part ``judged_by``.
    Columns without any known value are left out.
    """
    cells = [[_champion(row)[key] for key in _COLUMNS] for row in rows]
    known = [place for place in range(len(_COLUMNS)) if any(row[place] != NONE for row in cells)]
    heads_known = [list(_COLUMNS.items())[place] for place in known]
    names = titled(score), titled(judged_by)
    spans = [
        tag("th", title and tag("span", title), colspan=str(len(list(columns))), scope="colgroup")
        for title, columns in groupby(heads_known, lambda head: head[1][0].format(*names))
    ]
    columns = [name for _, (_, name) in heads_known]
    body = [
        tag("tr", _name(row), *(tag("td", texts[place]) for place in known))
        for row, texts in zip(rows, cells, strict=True)
    ]
    head = join(tag("tr", tag("th"), *spans), heads("Champion", *columns))
    return framed(head, body)


# Key to the title that it shares with its neighbours, and its own.
_COLUMNS: Mapping[str, tuple[str, Column]] = {
    "group": ("", "Group"),
    "int8_test": ("{0}, %", ("int8", "test")),
    "float_test": ("{0}, %", ("float32", "test")),
    "int8_validation": ("{1}, %", ("int8", "validation")),
    "float_validation": ("{1}, %", ("float32", "validation")),
    "int8_kb": ("File, kB", "int8"),
    "float_kb": ("File, kB", "float32"),
    "int8_median": ("Latency, ms", ("int8", "median")),
    "int8_p90": ("Latency, ms", ("int8", "p90")),
    "float_median": ("Latency, ms", ("float32", "median")),
    "input": ("Network", ("Input", "px")),
    "params": ("Network", ("Params", "million")),
    "macs": ("Network", ("MACs", "million")),
}


def _champion(champion: Champion) -> Mapping[str, str]:
    """The cells of a champion."""
    member, export = champion.member, champion.export
    texts = dict.fromkeys(_COLUMNS, NONE) | {
        "group": str(champion.group),
        "int8_validation": share(champion.int8_validation),
        "float_validation": share(member.last_score),
        "input": str(member.resolution),
        "params": f"{member.params / 1e6:.3f}",
        "macs": f"{member.macs / 1e6:,.2f}",
    }
    if export is not None:
        texts |= {
            "int8_test": share(export.int8_accuracy),
            "float_test": share(export.float_accuracy),
            "int8_kb": f"{export.int8_bytes / 1000:,.0f}",
            "float_kb": f"{export.float_bytes / 1000:,.0f}",
            "int8_median": milliseconds(export.int8_latency, "median_ms"),
            "int8_p90": milliseconds(export.int8_latency, "p90_ms"),
            "float_median": milliseconds(export.float_latency, "median_ms"),
        }
    return texts


def _name(champion: Champion) -> Html:
    dot = tag("span", " ●", class_="dot", title="on the Pareto front")
    return tag("th", champion.member.name, dot if champion.on_front else None, scope="row")


def share(value: float | None) -> str:
    """Percent, without the sign."""
    return NONE if value is None else f"{100 * value:.2f}"


def milliseconds(latency: Latency | None, field: str) -> str:
    """A latency's ``median_ms`` or ``p90_ms``."""
    return NONE if latency is None else three_digits(getattr(latency, field))


def three_digits(value: float) -> str:
    """A number with three significant digits, or all digits before the decimal point."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def options(options: Options, score: str) -> Html:
    """Champions with every cost that can be compared; a dot marks the Pareto set."""
    metrics = [METRICS[name] for name in options.metrics]
    kind = f"{options.kind}, {'test' if options.tested else 'validation'}"
    columns: list[Column] = ["Champion", (f"{titled(score)}, %", kind)]
    columns += [(metric.title, metric.unit) for metric in metrics]
    head = tag(
        "tr",
        *map(column, columns),
        words("Reason"),
    )
    return framed(head, [_option(option, options.metrics) for option in options.rows])


def _option(option: Option, metrics: Sequence[str]) -> Html:
    cells = [
        tag("td", tag("b", text) if name in option.alone else text)
        for name in metrics
        for text in [three_digits(option.costs[name] / METRICS[name].factor)]
    ]
    if not option.on_front:
        why = join("not better in anything than ", listed(option.beaten_by))
    elif option.alone == tuple(metrics):
        why = join("on the front by each cost alone")
    elif option.alone:
        why = join("on the front by ", ", ".join(METRICS[name].title for name in option.alone))
    else:
        why = join("on the front by all costs together")
    dot = (
        tag("span", " ●", class_="dot", title="on the Pareto front over all costs")
        if option.on_front
        else None
    )
    return tag(
        "tr",
        tag("th", option.name, dot, scope="row"),
        tag("td", share(option.accuracy)),
        *cells,
        tag("td", why, class_="words"),
        class_=None if option.on_front else "out",
    )


def verification(exports: Sequence[Export]) -> Html | None:
    """How exported files were checked; None where there are none."""
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
    """Every candidate with its state, by group."""
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
        words("State"),
        *map(column, columns),
    )
    rows = []
    for group in groups:
        title = tag("th", f"Group {group.number}", colspan=str(len(columns) + 2), scope="rowgroup")
        rows += [tag("tr", title, class_="group"), *map(_candidate, group.members)]
    return framed(head, rows)


_ROW_CLASS = {"champion": "won", "eliminated": "out", "failed": "failed"}


def groups(rows: Sequence[Group]) -> Html:
    """Groups with their champions, one line each."""
    head = tag("tr", words("Group"), column("Candidates"), words("Champion"), column("Epochs"),
               column(("Validation", "%")))  # fmt: skip
    body = []
    for group in rows:
        champion = next((m for m in group.members if m.name == group.champion), None)
        cells = (
            str(len(group.members)),
            group.champion or NONE,
            str(sum(member.epochs_done for member in group.members)),
            share(champion.last_score if champion else None),
        )
        body.append(tag("tr", tag("td", str(group.number)), *(tag("td", c) for c in cells)))
    return framed(head, body)


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
        tag("td", member_text(member), class_="words"),
        *(tag("td", cell) for cell in cells),
        class_=_ROW_CLASS.get(member.state),
    )


def costs(rows: Sequence[GroupCost]) -> Html:
    """Forecast and actual cost by group, and of all together."""
    repeats = any(row.repeats for row in rows)
    head = heads(
        "Group",
        "Candidates",
        *([("Repeats", "of one")] if repeats else []),
        ("Epochs", "forecast"),
        ("Epochs", "trained"),
        ("Epochs", "still to train"),
        ("Difference", "from the middle, %"),
        ("Work", "forecast"),
        ("Work", "trained"),
        ("Difference", "from the middle, %"),
        ("Time", "training"),
    )
    return framed(head, [_cost(row, repeats) for row in rows])


def _cost(row: GroupCost, repeats: bool) -> Html:
    planned = row.epochs_forecast
    cells = (
        str(row.candidates),
        *([str(row.repeats)] if repeats else []),
        span(f"{planned.least:,.0f}", f"{planned.most:,.0f}"),
        f"{row.epochs_trained:,}",
        f"{row.epochs_left:,}",
        _off(row.epochs_off),
        span(quantity(row.work_forecast.least), quantity(row.work_forecast.most)),
        quantity(row.work_trained),
        _off(row.work_off),
        duration(row.seconds),
    )
    name = "All" if row.group is None else str(row.group)
    total = "total" if row.group is None else None
    return tag("tr", tag("td", name), *(tag("td", cell) for cell in cells), class_=total)


def span(low: str, high: str) -> str:
    """A range of `quantity`, such as ``1.2–3.4 M``; one value where both are the same."""
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number}–{high}" if unit == high.partition(" ")[2] else f"{low}–{high}"


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
            tag("td", "Total"),
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

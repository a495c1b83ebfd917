"""The report's page: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence

from efficientnet_elite.report import record, style, tables, verdict
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import Html, command, join, missing, note, plural, tag
from efficientnet_elite.summary import Group, State
from efficientnet_elite.units import duration, percent, quantity


def render(contents: Contents) -> str:
    """The whole page."""
    title = f"{contents.summary.dataset}: Network Candidate Search"
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Html(style.sheet())),
    )
    sections = (
        verdict.section(contents),
        _tradeoffs(contents),
        _champions(contents),
        _curves(contents),
        _candidates(contents),
        record.time(contents),
        record.images(contents),
        record.settings(contents),
    )
    body = tag("body", _header(contents), tag("main", *sections), _footer(contents))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(contents: Contents) -> Html:
    summary = contents.summary
    state = (
        "finished"
        if summary.finished
        else f"{percent(summary.progress, 0)} of the training done"
        + ("" if summary.seconds_left is None else f", about {duration(summary.seconds_left)} left")
    )
    facts = (
        ("Candidates", str(len(summary.members))),
        ("Cost groups", str(len(summary.groups))),
        ("Champions", str(len(contents.champions))),
        ("Pool", summary.pool),
        ("Seed", str(summary.seed)),
        ("State", state),
    )
    meter = (
        None
        if summary.finished
        else tag(
            "div",
            tag("i", style=f"width:{100 * summary.progress:.1f}%"),
            class_="meter",
            role="progressbar",
            aria_label="training done",
            aria_valuenow=f"{100 * summary.progress:.0f}",
        )
    )
    return tag(
        "header",
        tag("p", "Network Candidate Search", class_="eyebrow"),
        tag("h1", summary.dataset),
        tag("ul", *(tag("li", f"{key} ", tag("b", value)) for key, value in facts), class_="facts"),
        meter,
    )


def _figure(heading: str, figure: Figure, *caption: str) -> Html:
    return tag("figure", tag("h3", heading), Html(figure.svg), tag("figcaption", *caption))


def _tradeoffs(contents: Contents) -> Html | None:
    figures = []
    if contents.size:
        figures.append(
            _figure(
                "Accuracy against file size",
                contents.size,
                "Filled circles joined by the line: the Pareto front. Hollow: another champion is "
                "at least as accurate and no larger. Vertical bars: 95 % intervals.",
            )
        )
    if contents.latency:
        figures.append(
            _figure(
                "Accuracy against latency",
                contents.latency,
                f"Median of one inference of the int8 file, "
                f"{plural(contents.artefacts.threads or 1, 'thread')}, "
                f"on {contents.artefacts.host.get('cpu', 'an unknown processor')}.",
            )
        )
    if not figures:
        return None
    return tag("section", tag("h2", "What accuracy costs"), tag("div", *figures, class_="pair"))


def _champions(contents: Contents) -> Html | None:
    if not contents.champions:
        return None
    exports = [champion.export for champion in contents.champions if champion.export]
    notes = ["Test accuracy: of the files, in LiteRT. Validation accuracy chose the champions."]
    remark = None
    if exports:
        notes.insert(0, "● On the Pareto front of int8 accuracy, file size and latency.")
    if any(export.int8_latency for export in exports):
        found = contents.artefacts
        notes.append(
            f"Latency: {plural(found.runs or 0, 'inference')} each, batch 1, the models taking "
            f"turns, {plural(found.threads or 1, 'thread')}, {found.host.get('runtime', 'LiteRT')}."
        )
    elif exports:
        remark = missing(
            "No latency has been measured. Measure with ",
            command("benchmark", contents.workdir),
            ".",
        )
    return tag(
        "section",
        tag("h2", "Champions"),
        tables.champions(contents.champions),
        note(" ".join(notes)),
        remark,
        tables.verification(contents.champions),
    )


def _curves(contents: Contents) -> Html:
    drawn = [group for group in contents.summary.groups if group.number in contents.curves]
    waiting = [str(g.number) for g in contents.summary.groups if g.number not in contents.curves]
    remark = missing(f"No epoch has been trained yet in group {', '.join(waiting)}.")
    return tag(
        "section",
        tag("h2", "Learning curves"),
        tag(
            "p",
            "Validation accuracy after every epoch. A cross marks where a candidate left. Rounds "
            "are decided by the average since the first epoch, not by the last value, so that a "
            "curve can end above one that went on.",
            class_="lead",
        ),
        tag("div", *(_curve(g, contents.curves[g.number]) for g in drawn), class_="grid"),
        remark if waiting else None,
    )


def _curve(group: Group, figure: Figure) -> Html:
    params = [m.params for m in group.members]
    macs = [m.macs for m in group.members]
    caption = [f"{_range(params)} parameters, {_range(macs)} MACs. "]
    rounds: dict[int, list[str]] = {}
    for member in group.members:
        if member.state is State.ELIMINATED:
            rounds.setdefault(member.round or 0, []).append(member.name)
    if rounds:
        caption.append("Left after ")
        for place, (number, names) in enumerate(sorted(rounds.items())):
            caption += ["; " if place else "", f"round {number}: ", _names(names)]
        caption.append(". ")
    waiting = [m.name for m in group.members if m.state is State.RACING and not m.epochs_done]
    if waiting:
        caption += ["Not started: ", _names(waiting), "."]
    return _figure(f"Group {group.number}", figure, *caption)


def _names(names: Sequence[str]) -> Html:
    """A list of names that lines do not break in."""
    pieces = [tag("span", name, class_="unbroken") for name in names]
    return Html(", ".join(pieces))


def _range(values: Sequence[int]) -> str:
    low, high = quantity(min(values)), quantity(max(values))
    if low == high:
        return low
    return f"{low.split()[0]}–{high}" if low[-1] == high[-1] else f"{low}–{high}"


def _candidates(contents: Contents) -> Html:
    return tag(
        "section",
        tag("h2", "Every candidate"),
        tables.candidates(contents.summary.groups),
    )


def _footer(contents: Contents) -> Html:
    return tag(
        "footer",
        join(f"Written {contents.written} by ", command("report", contents.workdir), ". "),
        "Figures as PNG files: ",
        tag("code", "report/"),
        " beside this page.",
    )

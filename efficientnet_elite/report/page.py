"""The page of the report: one HTML file that loads no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientnet_elite.device.costs import METRICS
from efficientnet_elite.report import eliminations, mistakes_page, record, tables, verdict
from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.contents import Contents, Figures
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import (
    Html,
    command,
    document,
    join,
    listed,
    missing,
    note,
    plural,
    tag,
    titled,
)
from efficientnet_elite.report.tradeoff import Options
from efficientnet_elite.search.summary import Group, State
from efficientnet_elite.text import data_set_name, duration, percent, quantity


def render(contents: Contents, figures: Figures) -> str:
    """The whole page."""
    sections = (
        _selection(contents),
        verdict.section(contents),
        _tradeoffs(contents, figures),
        _champions(contents),
        mistakes_page.section(contents.mistakes, figures.mistakes),
        _curves(contents, figures),
        eliminations.tournament(contents, figures),
        eliminations.other_rules(contents),
        _candidates(contents),
        _others(contents),
        record.cost(contents),
        record.time(contents),
        record.images(contents.meta["data"], contents.artefacts.dataset.get("class_counts", {})),
        record.settings(contents),
    )
    title = f"{data_set_name(contents.summary.dataset)}: Network Candidate Search"
    return document(title, _header(contents), sections, footer(contents.workdir, contents.written))


def _header(contents: Contents) -> Html:
    summary = contents.summary
    state = (
        "finished"
        if summary.finished
        else f"{percent(summary.progress, 0)} of the training done"
        + (
            ""
            if summary.seconds_left is None
            else f", about {duration(summary.seconds_left)} of training on one worker left"
        )
    )
    facts = (
        ("Candidates", str(sum(len(group.members) for group in contents.groups))),
        ("Cost groups", str(len(contents.groups))),
        ("Champions", str(sum(group.champion is not None for group in contents.groups))),
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
        tag("h1", data_set_name(summary.dataset)),
        tag("ul", *(tag("li", f"{key} ", tag("b", value)) for key, value in facts), class_="facts"),
        meter,
    )


def figure_with(heading: str, figure: Figure, *caption: str) -> Html:
    """A figure with its heading and caption."""
    return tag("figure", tag("h3", heading), Html(figure.svg), tag("figcaption", *caption))


def _tradeoffs(contents: Contents, figures: Figures) -> Html | None:
    shown, score = [], contents.score
    bars = "" if score == "mIoU" else " Vertical bars are 95 % confidence intervals."
    if figures.size:
        shown.append(
            figure_with(
                f"{titled(score)} against file size",
                figures.size,
                "Filled circles, joined by the line, are the Pareto front. A hollow circle means "
                f"that another champion is at least as accurate and no larger.{bars}",
            )
        )
    if figures.latency:
        shown.append(
            figure_with(
                f"{titled(score)} against latency",
                figures.latency,
                f"Median latency of one inference of the int8 file with "
                f"{plural(contents.artefacts.threads or 1, 'thread')} "
                f"on {contents.artefacts.host.get('cpu', 'an unknown processor')}.",
            )
        )
    pictures = tag("div", *shown, class_="pair") if shown else None
    compared = _options(contents.options, score if contents.options.tested else contents.judged_by)
    if not (pictures or compared):
        return None
    return tag("section", tag("h2", f"What {score} costs"), pictures, compared)


def _options(options: Options, score: str) -> Html | None:
    """The Pareto front over all costs; None where there is nothing to compare."""
    if len(options.rows) < 2:
        return None
    worth = sum(row.on_front for row in options.rows)
    notes = [
        "● On the Pareto front: no other champion is at least as good in everything and better in "
        f"something. Bold: the champion would also be on the Pareto front of {score} and this cost "
        "alone. The more costs are compared, the more champions are on the front."
    ]
    computed = [
        n for n in options.metrics if METRICS[n].of and (n != "size_bytes" or not options.tested)
    ]
    notes.append(f"These costs are computed, not measured: {_titles(computed)}.")
    if not options.tested:
        notes.append(
            f"The {score} is that of {options.kind} on the validation part: nothing has been "
            "exported yet."
        )
    if options.partly:
        notes.append(
            f"These costs are left out because they are not known for all champions: "
            f"{_titles(options.partly)}."
        )
    return tag(
        "div",
        tag(
            "h3",
            f"All costs together: {worth} of {len(options.rows)} champions on the Pareto front",
        ),
        tables.options(options, score),
        note(" ".join(notes)),
        class_="below",
    )


def _titles(metrics: Sequence[str]) -> str:
    return ", ".join(METRICS[name].title for name in metrics)


def _champions(contents: Contents) -> Html | None:
    if not contents.champions:
        return None
    exports = [champion.export for champion in contents.champions if champion.export]
    notes, remark = [_chosen_by(contents)], None
    if exports:
        notes = [
            f"● On the Pareto front of int8 test {contents.score}, file size and latency. Test "
            f"{contents.score} is that of the files in LiteRT.",
            *notes,
        ]
    if any(export.int8_latency for export in exports):
        notes.append(how_latency_was_measured(contents.artefacts))
    elif exports:
        remark = no_latency(contents.workdir)
    return tag(
        "section",
        tag("h2", "Champions"),
        tables.champions(contents.champions, contents.score, contents.judged_by),
        note(" ".join(notes)),
        remark,
        tables.verification(exports),
    )


def how_latency_was_measured(benchmark: Artefacts) -> str:
    """A sentence on the benchmark."""
    return (
        f"Latency is that of {plural(benchmark.runs or 0, 'inference')} of each file with "
        f"batch size 1 and {plural(benchmark.threads or 1, 'thread')} in "
        f"{benchmark.host.get('runtime', 'LiteRT')}; the files took turns."
    )


def no_latency(workdir: Path) -> Html:
    """How to measure latencies."""
    return missing(
        "No latency has been measured. Measure it with ", command("benchmark", workdir), "."
    )


def _chosen_by(contents: Contents) -> str:
    if contents.meta["config"]["select"] != "int8":
        return f"Champions were chosen by float32 validation {contents.judged_by}."
    return (
        f"Champions were chosen by validation {contents.judged_by}, in the last eliminations by "
        "that of the int8 networks."
    )


def _curves(contents: Contents, figures: Figures) -> Html:
    drawn = [group for group in contents.summary.groups if group.number in figures.curves]
    waiting = [str(g.number) for g in contents.summary.groups if g.number not in figures.curves]
    remark = missing(f"No epoch has been trained yet in group {', '.join(waiting)}.")
    return tag(
        "section",
        tag("h2", "Learning curves"),
        tag(
            "p",
            f"The curves show validation {contents.judged_by} after every epoch. A cross marks "
            "where a candidate was eliminated. Candidates are ranked by the score of the rule of "
            "elimination, as the next section explains. An eliminated candidate can therefore have "
            "a higher accuracy than one that went on.",
            class_="lead",
        ),
        tag("div", *(_curve(g, figures.curves[g.number]) for g in drawn), class_="grid"),
        remark if waiting else None,
    )


def _curve(group: Group, figure: Figure) -> Html:
    params = [quantity(count) for count in sorted(m.params for m in group.members)]
    macs = [quantity(count) for count in sorted(m.macs for m in group.members)]
    caption = [
        f"{tables.span(params[0], params[-1])} parameters, {tables.span(macs[0], macs[-1])} MACs. "
    ]
    rounds: dict[int, list[str]] = {}
    for member in group.members:
        if member.state is State.ELIMINATED:
            rounds.setdefault(member.round or 0, []).append(member.name)
    if rounds:
        caption.append("Eliminated in ")
        for place, (number, left) in enumerate(sorted(rounds.items())):
            caption += ["; " if place else "", f"round {number}: ", listed(left)]
        caption.append(". ")
    waiting = [m.name for m in group.members if m.state is State.RACING and not m.epochs_done]
    if waiting:
        caption += ["Not started: ", listed(waiting), "."]
    return figure_with(f"Group {group.number}", figure, *caption)


def _candidates(contents: Contents) -> Html:
    return tag(
        "section",
        tag("h2", "Every candidate"),
        tables.candidates(contents.summary.groups),
        _over_limits(contents.meta.get("excluded", {})),
    )


def _selection(contents: Contents) -> Html | None:
    """Says that not all groups are shown in full; None where they are."""
    if not contents.others:
        return None
    shown = len(contents.summary.groups)
    return note(
        f"This page shows {shown} of {len(contents.groups)} groups, those with the most accurate "
        "champions. All that it says, counts in its head and times apart, is about them. ",
        "The other groups are listed at its end. All data: ",
        command("report", contents.workdir, "--format=json"),
        ".",
    )


def _others(contents: Contents) -> Html | None:
    """The groups that are not shown in full, one line each; None where there are none."""
    if not contents.others:
        return None
    return tag("section", tag("h2", "Other groups"), tables.groups(contents.others))


def _over_limits(reasons: Mapping[str, str]) -> Html | None:
    """Candidates that were excluded, to be unfolded; None where there are none."""
    if not reasons:
        return None
    text = f"{plural(len(reasons), 'candidate')} of the pool excluded because of a limit"
    return tag("details", tag("summary", text), tables.keys(list(reasons.items())))


def footer(workdir: Path, written: str) -> Html:
    """How the page was made, and where its data are."""
    return tag(
        "footer",
        join(f"Written {written} by ", command("report", workdir), ". "),
        "Figures as PNG files: ",
        tag("code", "report/"),
        " beside this page. To write all data of this page, run ",
        command("report", workdir, "--format=json"),
        ", or ",
        tag("code", "csv"),
        ".",
    )

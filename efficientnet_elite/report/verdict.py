"""The first section of the page: which champion is recommended."""

from __future__ import annotations

from efficientnet_elite.report import tables
from efficientnet_elite.report.artefacts import Export
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.markup import Html, command, missing, note, plural, tag
from efficientnet_elite.report.results import choices, given_up, validated
from efficientnet_elite.search.champions import ties
from efficientnet_elite.text import percent

_CARDS = 4


def section(contents: Contents) -> Html:
    """Which champion is recommended."""
    problems = [_time_was_up(contents)]
    problems += [missing(problem, alarm=True) for problem in contents.artefacts.problems]
    exports = [c.export for c in contents.champions if c.export]
    if not exports:
        return tag("section", tag("h2", "Result"), _no_result(contents), *problems)
    chosen = choices(contents.champions)
    first = chosen[0][1]
    verdict: list[str] = ["Take ", tag("b", first.name)]
    if len(exports) == 1:
        verdict += [", the only champion that has been exported."]
    else:
        exported = [c for c in contents.champions if c.export]
        kind, accuracies = validated(exported)
        points = 100 * given_up(exported)
        verdict += [
            f": the smallest champion within {points:.2g} point{'s' * (points != 1)} of the best "
            f"{kind} validation {contents.judged_by}."
        ]
        names = [c.member.name for c in exported]
        if tied := ties(dict(zip(names, accuracies, strict=True)), exported[0].noise):
            verdict += [
                f" {', '.join(tied)} are ties: their differences are smaller than the noise, "
                f"{100 * exported[0].noise:.2g} points."
            ]
        if contents.meta["config"]["select"] == "int8" != kind:
            problems.append(missing(_NOT_INT8))
    score = contents.score
    cards = [card(role, export, score, best=export is first) for role, export in chosen[:_CARDS]]
    others = ", ".join(export.name for _, export in chosen[_CARDS:])
    more = f"Also on the Pareto front: {others}. " if others else ""
    return tag(
        "section",
        tag("h2", "Result"),
        tag("p", *verdict, class_="verdict"),
        tag("p", _what_it_is(contents), class_="lead"),
        tag("div", *cards, class_="cards"),
        note(
            f"{more}The {contents.score} is that of the int8 files, measured on "
            f"{plural(first.test_images, 'test image')} that the search used for no decision. "
            f"{certainty(first)}"
        ),
        _left_out(contents),
        *problems,
    )


_NOT_INT8 = (
    "This search selects by int8 accuracy, but that was not measured for every champion. The "
    "recommendation therefore compares float32 accuracies."
)


def _what_it_is(contents: Contents) -> str:
    """What the page is about, for readers who see such a page for the first time."""
    groups = contents.groups
    members = sum(len(group.members) for group in groups)
    candidates = plural(members, "candidate network")
    text = (
        f"{candidates} in {plural(len(groups), 'group')} of similar cost were trained. The "
        "worse ones were eliminated early; the last one of each group, its champion, was trained "
        "to the end and converted to int8. "
        if members > len(groups)
        else f"{candidates} were trained and converted to int8. Each is alone in its cost group "
        "and therefore its champion. "
    )
    if len([champion for champion in contents.champions if champion.export]) > 1:
        text += "Smaller champions cost less but are usually less accurate."
    return text


def _time_was_up(contents: Contents) -> Html | None:
    """What was ended early to keep a budget in hours; None where nothing was."""
    short = []
    for number, halt in sorted(contents.halts.items()):
        changes = []
        if halt.round is not None:
            changes.append(f"the tournament was ended in round {halt.round}")
        epochs = contents.summary.epochs
        if halt.end is not None and halt.end < epochs:
            changes.append(f"the champion was trained for {halt.end} epochs instead of {epochs}")
        if changes:
            short.append(tag("li", f"Group {number}: {', '.join(changes)}."))
    if not short:
        return None
    return tag(
        "div",
        tag("p", tag("b", "Time was up. "), "To keep the budget of this search:"),
        tag("ul", *short),
        class_="missing",
    )


def certainty(export: Export) -> str:
    """How far the score of an export may be from its true value."""
    if export.interval is None:
        return (
            "mIoU is the intersection of the predicted and the true pixels of a class divided by "
            "their union, averaged over all classes."
        )
    low, high = export.interval
    return (
        f"With this number of images, the 95 % confidence interval of the "
        f"{percent(export.int8_accuracy)} of {export.name} is {100 * low:.1f} to {percent(high)}."
    )


def _left_out(contents: Contents) -> Html | None:
    names = [c.member.name for c in contents.champions if not c.export]
    if not names:
        return None
    return missing(f"Not exported yet: {', '.join(names)}. ", *_how_to_export(contents))


def _no_result(contents: Contents) -> Html:
    if contents.champions:
        names = ", ".join(champion.member.name for champion in contents.champions)
        return missing(
            f"Champions so far: {names}. None has been exported yet. There is no int8 "
            f"{contents.score}, file size or latency yet by which to choose. ",
            *_how_to_export(contents),
        )
    if contents.summary.finished:
        return missing("No group has a champion: every candidate has failed.")
    return missing(
        "No group has a champion yet. This page shows where the search stands; write it again "
        "later with ",
        command("report", contents.workdir),
        ".",
    )


def _how_to_export(contents: Contents) -> tuple[str, ...]:
    if not contents.summary.finished:
        return ("Champions are exported when all of them have been trained to the end.",)
    return ("Export with ", command("export", contents.workdir), ".")


def card(role: str | None, export: Export, score: str, *, best: bool) -> Html:
    """An export in short, with its role among others if there are any."""
    rows = [("int8 file", f"{export.int8_bytes / 1000:,.0f} kB")]
    if export.int8_latency:
        rows.append(("Latency, median", f"{tables.three_digits(export.int8_latency.median_ms)} ms"))
    rows.append((f"float32 {score}", percent(export.float_accuracy)))
    return tag(
        "div",
        role and tag("p", role, class_="role"),
        tag("p", export.name, class_="name"),
        tag("p", percent(export.int8_accuracy), class_="big"),
        tag("p", f"int8 test {score}", class_="unit"),
        tag("dl", *(cell for k, v in rows for cell in (tag("dt", k), tag("dd", v)))),
        tag("p", tag("code", export.int8_file), class_="file"),
        class_="card best" if best else "card",
    )

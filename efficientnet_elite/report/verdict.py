"""The page's first section: which champion to take."""

from __future__ import annotations

from efficientnet_elite.report import tables
from efficientnet_elite.report.artefacts import Export
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.markup import Html, command, missing, note, plural, tag
from efficientnet_elite.report.pareto import interval
from efficientnet_elite.report.results import WORTHWHILE, choices
from efficientnet_elite.units import percent

_CARDS = 4


def section(contents: Contents) -> Html:
    """Which champion to take."""
    problems = [missing(problem, alarm=True) for problem in contents.artefacts.problems]
    exports = [c.export for c in contents.champions if c.export]
    if not exports:
        return tag("section", tag("h2", "Result"), _no_result(contents), *problems)
    chosen = choices(contents.champions)
    first = chosen[0][1]
    verdict: list[str] = ["Take ", tag("b", first.name)]
    if len(exports) == 1:
        verdict += [", the only champion that has been exported."]
    else:
        verdict += [
            f": the smallest champion within {100 * WORTHWHILE:g} point of the best validation "
            "accuracy."
        ]
    cards = [_card(role, export, best=export is first) for role, export in chosen[:_CARDS]]
    others = ", ".join(export.name for _, export in chosen[_CARDS:])
    more = f"Also on the Pareto front: {others}. " if others else ""
    return tag(
        "section",
        tag("h2", "Result"),
        tag("p", *verdict, class_="verdict"),
        tag("div", *cards, class_="cards"),
        note(
            f"{more}Accuracies are those of the int8 files themselves, on "
            f"{plural(first.test_images, 'test image')} that no decision of the search has seen. "
            f"{_certainty(contents, first)}"
        ),
        _left_out(contents),
        *problems,
    )


def _certainty(contents: Contents, export: Export) -> str:
    if contents.meta["data"].get("score") == "mIoU":
        return (
            "Accuracy on this page is the mean intersection over union (mIoU) of the pixels' "
            "classes; the 95 % intervals are those of shares of images and do not hold for it."
        )
    low, high = interval(export.int8_accuracy, export.test_images)
    return (
        f"So many images leave the {percent(export.int8_accuracy)} of {export.name} uncertain: "
        f"the 95 % interval is {100 * low:.1f} to {percent(high)}."
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
            f"Champions so far: {names}. None has been exported yet, so that there is no int8 "
            "accuracy, file size or latency to choose by. ",
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
        return ("Champions are exported once all are trained to the end.",)
    return ("Export with ", command("export", contents.workdir), ".")


def _card(role: str, export: Export, *, best: bool) -> Html:
    rows = [("int8 file", f"{export.int8_bytes / 1000:,.0f} kB")]
    if export.int8_latency:
        rows.append(("Latency, median", f"{tables.three_digits(export.int8_latency.median_ms)} ms"))
    rows.append(("float32 accuracy", percent(export.float_accuracy)))
    return tag(
        "div",
        tag("p", role, class_="role"),
        tag("p", export.name, class_="name"),
        tag("p", percent(export.int8_accuracy), class_="big"),
        tag("p", "int8 test accuracy", class_="unit"),
        tag("dl", *(cell for k, v in rows for cell in (tag("dt", k), tag("dd", v)))),
        tag("p", tag("code", export.int8_file), class_="file"),
        class_="card best" if best else "card",
    )

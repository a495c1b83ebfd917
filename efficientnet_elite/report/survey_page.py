"""The page of a survey of a data set: one HTML file with contact sheets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.data.decode import UnreadableImage, decode
from efficientnet_elite.data.survey import KINDS, Survey
from efficientnet_elite.report import survey_data
from efficientnet_elite.report.markup import Html, data_url, document, missing, note, plural, tag
from efficientnet_elite.report.tables import framed, heads, words
from efficientnet_elite.text import data_set_name

_SIDE = 128  # shorter side of a picture, in pixels
_MOST_EXAMPLES = 240  # pictures of all classes together
_MOST_OF_CLASS = 7  # a row of the page
_MOST_SUSPICIOUS = 24  # of one kind
_MOST_GROUPS = 30
_MOST_OF_GROUP = 6
_WIDTH = 150  # pixels of the page that a picture of a group takes


def render(
    survey: Survey,
    training: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    note_on_training: str = "",
) -> str:
    """The whole page.

    Args:
      survey: what is shown.
      training: images as training sees them, uint8 (n, side, side, 3), and their labels.
      note_on_training: how these are made.
    """
    sections = (
        _classes(survey),
        _summary(survey),
        _groups(survey),
        *_findings(survey),
        _training(survey, training, note_on_training),
        _examples(survey),
    )
    end = tag("footer", _command(survey))
    return document(f"{data_set_name(survey.name)}: images", _header(survey), sections, end)


def _header(survey: Survey) -> Html:
    sides = survey.shorter_sides()
    facts = [
        ("Images", f"{len(survey.facts):,}"),
        ("Classes", f"{len(survey.listing.class_names):,}"),
        ("Parts", ", ".join(survey.counts())),
    ]
    if sides:
        span = f"{min(sides)} to {max(sides)} px, median {median_low(sides)} px"
        facts.append(("Shorter sides", span))
    return tag(
        "header",
        tag("p", "Images of a data set", class_="eyebrow"),
        tag("h1", data_set_name(survey.name)),
        tag("ul", *(tag("li", f"{key} ", tag("b", value)) for key, value in facts), class_="facts"),
    )


def _command(survey: Survey) -> Html:
    return tag("p", "Written by ", tag("code", f"elite data {survey.name} --html=data.html"))


def _classes(survey: Survey) -> Html:
    counts = survey.counts()
    total = survey.totals()
    most = max(1, int(total.max()))
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(tag("td", f"{number[label]:,}") for number in counts.values()),
            tag("td", tag("i", style=f"width:{100 * total[label] / most:.1f}%"), class_="bar"),
        )
        for label, name in enumerate(survey.listing.class_names)
    ]
    titles = [f"{part} images" for part in counts]
    return tag(
        "section",
        tag("h2", "Classes"),
        framed(heads("Class", *titles, "All"), rows),
        *(missing(f"{remark}.") for remark in survey_data.remarks(survey)),
    )


def _summary(survey: Survey) -> Html:
    rows = [
        tag("tr", tag("th", title, scope="row"), tag("td", f"{count:,}"),
            tag("td", meaning, class_="words"))
        for title, count, meaning, _ in survey_data.summary(survey)
    ]  # fmt: skip
    head = tag("tr", tag("th", "Finding", scope="col"), tag("th", "Images", scope="col"),
               words("What it means"))  # fmt: skip
    return tag(
        "section",
        tag("h2", "What to look at"),
        framed(head, rows) if rows else note("Nothing is suspicious."),
    )


def _groups(survey: Survey) -> Html | None:
    if not survey.groups:
        return None
    sheets = []
    for group in survey.groups[:_MOST_GROUPS]:
        title = f"{plural(len(group.images), 'image')}: {survey_data.kind_of(group)}"
        if len(group.classes) > 1:
            title += ", in several classes"
        if len(group.parts) > 1:
            title += ", in several parts"
        images = group.images[:_MOST_OF_GROUP]
        sheets.append(_sheet(survey, title, images, width=_WIDTH * len(images)))
    left = len(survey.groups) - len(sheets)
    return tag(
        "section",
        tag("h2", "Images that are the same or look alike"),
        note(
            "Groups of several classes come first, then those of several parts. Parts that are "
            "split off keep a group together."
        ),
        tag("div", *sheets, class_="brackets"),
        _left_out(left, "group"),
    )


def _findings(survey: Survey) -> Iterable[Html]:
    for kind, meaning in KINDS.items():
        found = [finding for finding in survey.findings if finding.kind == kind]
        if not found:
            continue
        title = tag("h2", f"{kind[0].upper()}{kind[1:]}: {plural(len(found), 'image')}")
        about = note(f"{meaning[0].upper()}{meaning[1:]}.")
        shown = found[:_MOST_SUSPICIOUS]
        rest = _left_out(len(found) - len(shown), "image")
        if kind == "unreadable":
            items = [
                tag("li", f"{survey.listing.examples[f.image].name} ", tag("span", f.detail))
                for f in shown
            ]
            yield tag("section", title, about, tag("ul", *items, class_="skipped"), rest)
        else:
            sheet = _sheet(survey, None, [f.image for f in shown])
            yield tag("section", title, about, sheet, rest)


def _training(
    survey: Survey,
    training: tuple[NDArray[np.uint8], NDArray[np.int64]] | None,
    note_on_training: str,
) -> Html | None:
    if training is None:
        return None
    names = survey.listing.class_names
    figures = [
        _figure(data_url(image), names[label], (tag("span", names[label], class_="answer"),))
        for image, label in zip(*training, strict=True)
    ]
    return tag(
        "section",
        tag("h2", "What training sees"),
        note(note_on_training),
        tag("div", tag("div", *figures, class_="album"), class_="below"),
    )


def _examples(survey: Survey) -> Html:
    names = survey.listing.class_names
    each = max(1, min(_MOST_OF_CLASS, _MOST_EXAMPLES // len(names)))
    by_class: dict[int, list[int]] = {}
    for number, (example, facts) in enumerate(
        zip(survey.listing.examples, survey.facts, strict=True)
    ):
        if facts is not None:
            by_class.setdefault(example.label, []).append(number)
    sheets = [
        _sheet(survey, names[label], _spread(by_class[label], each))
        for label in sorted(by_class)[:_MOST_EXAMPLES]
    ]
    rest = _left_out(len(by_class) - len(sheets), "class")
    return tag("section", tag("h2", "Examples of each class"), *sheets, rest)


def _spread(items: Sequence[int], count: int) -> list[int]:
    """At most so many items, evenly spread over a list."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(place)] for place in places]


def _left_out(count: int, what: str) -> Html | None:
    if not count:
        return None
    words = f"{count:,} more classes" if what == "class" else f"{plural(count, f'more {what}')}"
    return note(f"{words} not shown; --json=FILE lists everything.")


def _sheet(
    survey: Survey, title: str | None, images: Iterable[int], width: int | None = None
) -> Html:
    """Pictures with a heading; the width in pixels is for several sheets in one row."""
    figures = [_thumbnail(survey, number) for number in images]
    heading = None if title is None else tag("h3", title)
    album = tag("div", *figures, class_="album")
    if width is not None:
        return tag("div", heading, album, class_="below", style=f"flex:0 1 {width}px;margin:0")
    return tag("div", heading, album, class_="below")


def _thumbnail(survey: Survey, number: int) -> Html:
    example = survey.listing.examples[number]
    label = survey.listing.class_names[example.label]
    try:
        source = data_url(decode(survey.listing.encoded(number), _SIDE))
    except UnreadableImage as error:  # changed since it was looked at
        return tag("figure", tag("figcaption", example.name, f": {error}"))
    lines = (
        tag("span", label, class_="answer"),
        tag("span", f"{example.part}"),
        tag("span", example.name, class_="file"),
    )
    return _figure(source, f"{example.name}, {label}", lines)


def _figure(source: str, about: str, lines: Iterable[Html]) -> Html:
    return tag("figure", tag("img", src=source, alt=about, title=about), tag("figcaption", *lines))

"""A survey of a data set as values: what JSON, CSV and the terminal show of it."""

from __future__ import annotations

from collections import Counter
from statistics import median_low
from typing import Any

from efficientnet_elite.data.listing import single_class
from efficientnet_elite.data.survey import KINDS, Group, Survey
from efficientnet_elite.report.markup import plural

COPIES, NEAR = "copies", "near duplicates"


def kind_of(group: Group) -> str:
    """``copies`` or ``near duplicates``."""
    return COPIES if group.copies else NEAR


def as_object(survey: Survey) -> dict[str, Any]:
    """All of a survey but the facts of images that nothing is wrong with."""
    names, counts = survey.listing.class_names, survey.counts()
    sides = survey.shorter_sides()
    return {
        "dataset": survey.name,
        "images": len(survey.facts),
        "readable": len(sides),
        "shorter_side": {
            "least": min(sides, default=None),
            "median": median_low(sides) if sides else None,
            "most": max(sides, default=None),
        },
        "remarks": remarks(survey),
        "classes": [
            {"class": name, **{part: int(number[label]) for part, number in counts.items()}}
            for label, name in enumerate(names)
        ],
        "findings": [
            {"finding": f.kind, **_image(survey, f.image), "detail": f.detail}
            for f in survey.findings
        ],
        "groups": [
            {
                "finding": kind_of(group),
                "across_parts": len(group.parts) > 1,
                "across_classes": len(group.classes) > 1,
                "images": [_image(survey, i) for i in group.images],
            }
            for group in survey.groups
        ],
    }


ROW = ("finding", "group", "image", "class", "part", "detail")
"""The columns of `as_rows`."""


def as_rows(survey: Survey) -> list[dict[str, Any]]:
    """A row for each finding on an image, and for each image of a group."""
    found = [
        {"finding": f.kind, "group": "", **_image(survey, f.image), "detail": f.detail}
        for f in survey.findings
    ]
    grouped = [
        {"finding": kind_of(group), "group": number, **_image(survey, i), "detail": _across(group)}
        for number, group in enumerate(survey.groups, start=1)
        for i in group.images
    ]
    return found + grouped


def _image(survey: Survey, number: int) -> dict[str, Any]:
    example = survey.listing.examples[number]
    label = survey.listing.class_names[example.label]
    return {"image": example.name, "class": label, "part": example.part}


def _across(group: Group) -> str:
    across = [("classes", group.classes), ("parts", group.parts)]
    return " and ".join(f"several {name}" for name, values in across if len(values) > 1)


def summary(survey: Survey) -> list[tuple[str, int, str, str]]:
    """What is to be looked at: a title, the number of images, what it means, and an example."""
    counts = Counter(finding.kind for finding in survey.findings)
    rows = []
    for kind, meaning in KINDS.items():
        if counts[kind]:
            first = next(finding for finding in survey.findings if finding.kind == kind)
            name = survey.listing.examples[first.image].name
            detail = f": {first.detail}" if first.detail else ""
            rows.append((kind, counts[kind], meaning, f"{name}{detail}"))
    for title, meaning, groups in (
        (
            "contradicting labels",
            "an image, or nearly the same one, in several classes: at least one label is wrong",
            [group for group in survey.groups if len(group.classes) > 1],
        ),
        (
            "across parts",
            "an image, or nearly the same one, in several parts: accuracies come out too high",
            [group for group in survey.groups if len(group.parts) > 1],
        ),
        (COPIES, "files that are equal", [g for g in survey.groups if g.copies]),
        (
            NEAR,
            "alike, such as frames of one video; they stay together where parts are split off",
            [g for g in survey.groups if not g.copies],
        ),
    ):
        if groups:
            images = groups[0].images[:2]
            names = " = ".join(survey.listing.examples[i].name for i in images)
            rows.append((title, sum(len(group.images) for group in groups), meaning, names))
    return rows


def remarks(survey: Survey) -> list[str]:
    """Sentences on the classes: a single one, some with too few images to train, uneven ones."""
    names, counts = survey.listing.class_names, survey.counts()
    if len(names) < 2:
        return [single_class(names)]
    found = []
    # Each part that is missing is split off the training images, of which one has to remain.
    needed = 1 + len({"train", "validation", "test"} - counts.keys())
    scarce = [name for name, n in zip(names, counts["train"], strict=True) if n < needed]
    if scarce:
        more = ", ..." if len(scarce) > _NAMED else ""
        found.append(
            f"too few training images of {', '.join(scarce[:_NAMED])}{more}: "
            f"at least {needed} are needed of each class"
        )
    totals = survey.totals()
    least, most = int(totals.argmin()), int(totals.argmax())
    if totals[most] >= _UNBALANCED * totals[least]:
        found.append(
            f"{names[most]} has {plural(int(totals[most]), 'image')} and {names[least]} "
            f"{totals[least]:,}: look at the recall of each class, not at the accuracy alone"
        )
    return found


_UNBALANCED = 3  # times as many images
_NAMED = 5  # classes in a remark

"""The page's last sections: cost, time, images, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientnet_elite.report import tables
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.markup import Html, note, plural, tag


def cost(contents: Contents) -> Html:
    """What the search was to cost, and what it did."""
    total = contents.costs[-1]
    remarks = [
        "Planned: before the first epoch, without failures and without cuts put off. Work: the "
        "multiply-accumulates of one image, summed over epochs; who survives was not known, so "
        "every planned epoch costs the mean of its group."
    ]
    if total.epochs_left:
        remarks.append("The search goes on: its work can be compared when all is trained.")
    return tag(
        "section",
        tag("h2", "Cost: forecast and actual"),
        tables.costs(contents.costs),
        note(" ".join(remarks)),
    )


def time(contents: Contents) -> Html | None:
    """Where the time went; None where none was recorded."""
    seconds = contents.summary.seconds
    if not any(seconds.values()):
        return None
    return tag("section", tag("h2", "Where the time went"), tables.times(seconds))


def images(contents: Contents) -> Html:
    """The data set, its split, and what was left out."""
    data = contents.meta["data"]
    labels, skipped = data["labels"], data["skipped"]
    sizes = [(part, f"{count:,}") for part, count in data["sizes"].items()]
    shown = ", ".join(labels[:30]) + (
        f", and {len(labels) - 30:,} more" if len(labels) > 30 else ""
    )
    rows = [
        ("data set", data["name"]),
        *((f"{part} images", count) for part, count in sizes),
        ("classes", f"{len(labels):,}: {shown}"),
        ("fingerprint", data["fingerprint"]),
    ]
    return tag(
        "section",
        tag("h2", "Images"),
        tables.keys(rows),
        _skipped(skipped),
    )


_SKIPPED_SHOWN = 500


def _skipped(skipped: Sequence[Mapping[str, str]]) -> Html:
    if not skipped:
        return note("No image was skipped.")
    items = [
        tag("li", image["path"], tag("span", f": {image['reason']}"))
        for image in skipped[:_SKIPPED_SHOWN]
    ]
    if len(skipped) > _SKIPPED_SHOWN:
        items.append(tag("li", f"and {len(skipped) - _SKIPPED_SHOWN:,} more, listed in the ledger"))
    return tag(
        "details",
        tag("summary", f"{plural(len(skipped), 'image')} could not be used"),
        tag("ul", *items, class_="skipped"),
    )


_TITLES = {"train": "Training"}


def settings(contents: Contents) -> Html:
    """Everything the search was asked for and ran on."""
    config = dict(contents.meta["config"])
    nested = {name: config.pop(name) for name in list(config) if isinstance(config[name], dict)}
    parts = {"Search": config}
    parts |= {_TITLES.get(name, name.capitalize()): values for name, values in nested.items()}
    host = contents.artefacts.host
    machine = [
        ("search ran on", contents.meta.get("machine") or "unknown"),
        ("started", contents.meta.get("started", "")),
    ]
    machine += [(f"benchmark, {key}", value) for key, value in host.items()]
    blocks = [(name, [(k, _value(v)) for k, v in values.items()]) for name, values in parts.items()]
    blocks += [("Versions", list(contents.meta["versions"].items())), ("Machine", machine)]
    return tag(
        "section",
        tag("h2", "Settings"),
        tag(
            "div",
            *(tag("div", tag("h3", name), tables.keys(rows)) for name, rows in blocks),
            class_="columns",
        ),
    )


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

"""The page's last sections: cost, time, images, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientnet_elite.report import tables
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.cost import Planned
from efficientnet_elite.report.markup import Html, note, plural, tag
from efficientnet_elite.text import duration


def cost(contents: Contents) -> Html:
    """What the search was to cost, and what it did."""
    total = contents.costs[-1]
    remarks = [
        "A forecast is a range, failures aside: at least, no cut is too close to call and the "
        "cheapest candidates go on; at most, every cut is and the costliest do. Off: how far the "
        "actual is from its middle. Work: the multiply-accumulates of one image, summed over "
        "epochs."
    ]
    if total.replicas:
        remarks.append(
            "Replicas: further trainings of one candidate up to the first cut, which measure the "
            "noise of a score; epochs, work and time count them."
        )
    if total.epochs_left:
        remarks.append("The search goes on: its work can be compared when all is trained.")
    return tag(
        "section",
        tag("h2", "Cost: forecast and actual"),
        *(tag("p", told, class_="lead") for told in _planned(contents)),
        tables.costs(contents.costs),
        note(" ".join(remarks)),
    )


def _planned(contents: Contents) -> list[str]:
    """What was planned and what came of it, a line each."""
    told = [_came(forecast) for forecast in contents.plan]
    plan, config = contents.meta.get("plan", {}), contents.meta["config"]
    made = []
    if plan and plan["round_epochs"] != config["round_epochs"]:
        made.append(f"rounds of {plan['round_epochs']} epochs instead of {config['round_epochs']}")
    if plan and plan["candidates_left_out"]:
        made.append(f"{plural(plan['candidates_left_out'], 'candidate')} left out")
    if made:
        told.append(f"To keep the budget: {', '.join(made)}.")
    return told


def _came(forecast: Planned) -> str:
    """Such as ``Forecast: 54 to 69 epochs; actual: 57, as forecast.``."""
    amount = duration if forecast.of == "seconds" else "{:,.0f}".format
    low, high = amount(forecast.least), amount(forecast.most)
    unit = " of training on one worker" if forecast.of == "seconds" else " epochs"
    told = f"Forecast: {low if low == high else f'{low} to {high}'}{unit}"
    if forecast.budget is not None:
        told += f", within a budget of {amount(forecast.budget)}"
    verdict = {"within": "as forecast", "above": "more than that", "below": "less than that"}
    told += f"; actual: {amount(forecast.spent)}"
    if forecast.verdict:
        told += f", {verdict[forecast.verdict]}"
    elif forecast.left is not None:
        told += f" so far, and about {amount(forecast.left)} to go"
    if forecast.clock is not None:
        told += (
            f". By the clock, all that came before training included: {duration(forecast.clock)}, "
            "without what lies between two runs of the search"
        )
    return f"{told}."


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
    blocks = [
        (name, [(k, _value(v)) for k, v in values.items()])
        for name, values in parts.items()
        if any(value is not None for value in values.values())  # of the limits none may be set
    ]
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
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

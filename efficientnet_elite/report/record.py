"""The last sections of the page: cost, time, images, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from efficientnet_elite.report import tables
from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.cost import ForecastCheck
from efficientnet_elite.report.markup import Html, note, plural, tag
from efficientnet_elite.search.schedule import Schedule, asked_schedule, schedule_of
from efficientnet_elite.search.starts import RANDOM, Start, start_of_search
from efficientnet_elite.text import duration


def cost(contents: Contents) -> Html:
    """What the search was forecast to cost, and what it has cost."""
    total = contents.costs[-1]
    remarks = [
        "The forecast is a range, which does not include failed trainings. The lower end assumes "
        "that no elimination is too close to call and the cheapest candidates go on. The upper end "
        "assumes that every elimination is too close to call and the costliest candidates go on. "
        "Difference compares the actual cost with the middle of the range. Work is the number of "
        "multiply-accumulates of one image, summed over epochs."
    ]
    if total.repeats:
        remarks.append(
            "Repeats are further trainings of one candidate up to the first elimination, which "
            "measure the noise of a score. Epochs, work and time include them."
        )
    schedule = schedule_of(contents.meta)
    if schedule.final_epochs:
        remarks.append(
            f"Each champion has a final training of {schedule.final_epochs} epochs from its start, "
            "which is what is exported. Epochs, work and time include it; the learning curves "
            "above are those of the tournament."
        )
    if schedule.finalist_seed is not None:
        remarks.append(
            f"The last two candidates of a group have {_further(schedule)} where they were too "
            "close to call. Epochs, work and time include these."
        )
    if total.epochs_left:
        remarks.append(
            "The search is not finished; its work can be compared with the forecast at the end."
        )
    return tag(
        "section",
        tag("h2", "Cost: forecast and actual"),
        *(tag("p", text, class_="lead") for text in _forecast_checks(contents)),
        tables.costs(contents.costs),
        note(" ".join(remarks)),
    )


def _further(schedule: Schedule) -> str:
    """What the further trainings of a finalist are."""
    if schedule.folds == 1:
        return "a second training, with another seed,"
    return f"{plural(schedule.further, 'further training')}, each validated by another fold,"


def _forecast_checks(contents: Contents) -> list[str]:
    """Forecast and actual cost, and what was changed to keep the budget, one line each."""
    lines = [_check_text(check) for check in contents.forecast_checks]
    changes = []
    asked, planned = asked_schedule(contents.meta), schedule_of(contents.meta)
    if planned.round_epochs != asked.round_epochs:
        changes.append(f"rounds of {planned.round_epochs} epochs instead of {asked.round_epochs}")
    if planned.finalist_seed != asked.finalist_seed:
        changes.append("one training of each finalist")
    if planned.first_elimination != asked.first_elimination:  # by versions before 0.2
        first, asked_first = planned.elimination_epoch(1), asked.elimination_epoch(1)
        changes.append(f"first eliminations after epoch {first} instead of {asked_first}")
    if left_out := contents.meta.get("plan", {}).get("candidates_left_out"):
        changes.append(f"{plural(left_out, 'candidate')} left out")
    if changes:
        lines.append(f"To keep the budget: {', '.join(changes)}.")
    return lines


def _check_text(check: ForecastCheck) -> str:
    """Such as ``Forecast: 54 to 69 epochs; actual: 57, as forecast.``."""
    amount = duration if check.unit == "seconds" else "{:,.0f}".format
    low, high = amount(check.least), amount(check.most)
    unit = " of training on one worker" if check.unit == "seconds" else " epochs"
    text = f"Forecast: {low if low == high else f'{low} to {high}'}{unit}"
    if check.budget is not None:
        text += f", within a budget of {amount(check.budget)}"
    verdict = {"within": "as forecast", "above": "more than that", "below": "less than that"}
    text += f"; actual: {amount(check.spent)}"
    if check.verdict:
        text += f", {verdict[check.verdict]}"
    elif check.left is not None:
        text += f" so far, and about {amount(check.left)} to go"
    if check.clock is not None:
        text += (
            f". The search took {duration(check.clock)} of wall-clock time, including the "
            "preparation before training but not the time between two runs of the search"
        )
    return f"{text}."


def time(contents: Contents) -> Html | None:
    """Where the time went; None where none was recorded."""
    seconds = contents.summary.seconds
    if not any(seconds.values()):
        return None
    return tag("section", tag("h2", "Where the time went"), tables.times(seconds))


def images(data: Mapping[str, Any], counts: Mapping[str, Sequence[int] | None]) -> Html:
    """The data set, its split, and what was left out.

    Args:
      data: its ``name``, ``labels``, ``sizes`` of the parts, ``fingerprint`` and ``skipped``
        images; None for these where it is not known.
      counts: part to the number of images of each class; parts may be missing.
    """
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
        _class_counts(labels, counts),
        None if skipped is None else _skipped(skipped),
    )


def _class_counts(labels: Sequence[str], counts: Mapping[str, Sequence[int] | None]) -> Html | None:
    """Images of each class in each part; None where they are not known."""
    known = {part: each for part, each in counts.items() if each}
    if not known:
        return None
    head = tables.heads("Class", *((part.capitalize(), "images") for part in known))
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            *(tag("td", f"{each[number]:,}") for each in known.values()),
        )
        for number, label in enumerate(labels)
    ]
    return tag("details", tag("summary", "Images of each class"), tables.framed(head, rows))


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
    machine = [
        ("search ran on", contents.meta.get("machine") or "unknown"),
        ("started", contents.meta.get("started", "")),
    ]
    return setting_blocks(
        contents.meta["config"],
        "Search",
        start_of_search(contents.meta),
        contents.meta["versions"],
        [*machine, *benchmark_machine(contents.artefacts)],
    )


def benchmark_machine(artefacts: Artefacts) -> list[tuple[str, str]]:
    """The machine that latencies were measured on; nothing where they were not."""
    return [(f"benchmark, {key}", value) for key, value in artefacts.host.items()]


def setting_blocks(
    config: Mapping[str, Any],
    of: str,
    start: Start | None,
    versions: Mapping[str, str],
    machine: Iterable[tuple[str, str]],
) -> Html:
    """The section of settings.

    Args:
      config: the settings; those in inner mappings get a block of their own.
      of: title of the block of the others.
      start: what networks started from; None for random weights.
      versions: package to version.
      machine: what is known about machines.
    """
    config = dict(config)
    nested = {name: config.pop(name) for name in list(config) if isinstance(config[name], dict)}
    parts = {of: config}
    parts |= {_TITLES.get(name, name.capitalize()): values for name, values in nested.items()}
    blocks = [
        (name, [(k, _value(v)) for k, v in values.items()])
        for name, values in parts.items()
        if any(value is not None for value in values.values())  # of the limits none may be set
    ]
    blocks += [("Start", _start(start)), ("Versions", [*versions.items()])]
    blocks += [("Machine", [*machine])]
    return tag(
        "section",
        tag("h2", "Settings"),
        tag(
            "div",
            *(tag("div", tag("h3", name), tables.keys(rows)) for name, rows in blocks if rows),
            class_="columns",
        ),
    )


def _start(start: Start | None) -> list[tuple[str, str]]:
    """What the networks started from."""
    if start is None:
        return [("networks start from", RANDOM)]
    rows = [("networks start from", start.text), ("read from", start.origin)]
    rows += [("its SHA-256", start.sha256)]
    if start.deviation:
        rows += [("differs from its origin in", start.deviation)]
    if start.from_scratch:
        rows += [(f"start from {RANDOM}", ", ".join(start.from_scratch))]
    return rows


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

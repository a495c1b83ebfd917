"""The page of a comparison: the same tables as HTML, and accuracy against file size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientnet_elite.report import figures, markup, page, pareto, tables
from efficientnet_elite.report.compare import Comparison, Network, Pair
from efficientnet_elite.report.figures import Figure, Point
from efficientnet_elite.report.markup import Html, missing, note, tag, titled
from efficientnet_elite.search.workdir import write_bytes
from efficientnet_elite.text import now, percent


def write(comparison: Comparison, path: Path) -> None:
    """Writes the page, one file that loads no other."""
    write_bytes(path, render(comparison).encode())


def render(comparison: Comparison) -> str:
    """The whole page."""
    names = ", ".join(comparison.runs)
    header = tag(
        "header",
        tag("p", "Comparison", class_="eyebrow"),
        tag("h1", names),
        tag("ul", *(tag("li", tag("code", str(f))) for f in comparison.folders), class_="facts"),
    )
    sections = (
        _networks(comparison),
        _pairs(comparison.pairs),
        _settings(comparison),
    )
    end = tag("footer", f"Written {now()} by ", tag("code", "elite compare"), ".")
    return markup.document(f"Comparison: {names}", header, sections, end)


def scores(comparison: Comparison) -> str:
    """What networks are judged by, as a word."""
    kinds = {network.score for network in comparison.networks}
    return "mIoU" if kinds == {"mIoU"} else "accuracy" if kinds == {"top-1"} else "score"


def row(network: Network) -> list[str]:
    """The cells of a network, after its name: accuracies, interval, sizes, latency, network."""
    export, nothing = network.export, tables.NONE
    interval = export and export.interval
    return [
        nothing if export is None else tables.share(export.int8_accuracy),
        nothing if not interval else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}",
        tables.share(network.test_accuracy),
        nothing if export is None else f"{export.int8_bytes / 1000:,.0f}",
        nothing if export is None else tables.milliseconds(export.int8_latency, "median_ms"),
        str(network.resolution),
        f"{network.params / 1e6:.3f}",
        f"{network.macs / 1e6:,.2f}",
    ]


HEAD: tuple[tuple[str, str], ...] = (
    ("{}, %", "int8, test"),
    ("95 %", "interval"),
    ("{}, %", "float32, test"),
    ("File, kB", "int8"),
    ("Latency, ms", "int8, median"),
    ("Input", "px"),
    ("Params", "million"),
    ("MACs", "million"),
)


def _networks(comparison: Comparison) -> Html:
    score = titled(scores(comparison))
    head = tables.heads("Network", *((name.format(score), unit) for name, unit in HEAD))
    rows, run = [], ""
    for network in comparison.networks:
        if network.run != run:
            run = network.run
            title = tag("th", run, colspan=str(len(HEAD) + 1), scope="rowgroup")
            rows.append(tag("tr", title, class_="group"))
        cells = (tag("td", cell) for cell in row(network))
        rows.append(tag("tr", tag("th", network.name, scope="row"), *cells))
    sizes = _sizes(comparison)
    pictures = None
    if sizes:
        figure = page.figure_with(
            f"{score} against file size",
            sizes,
            "Filled circles, joined by the line, are the Pareto front. Vertical bars are 95 % "
            "confidence intervals.",
        )
        pictures = tag("div", figure, class_="pair")
    return tag(
        "section",
        tag("h2", "Networks"),
        tables.framed(head, rows),
        note(
            "Accuracies are those of the files in LiteRT on the test part; intervals are Wilson's. "
            "Latencies can be compared where they were measured on the same machine."
        ),
        *(missing(problem, alarm=True) for problem in comparison.problems),
        pictures,
    )


def _sizes(comparison: Comparison) -> Figure | None:
    exports = [(n, n.export) for n in comparison.networks if n.export]
    if len(exports) < 2:
        return None
    sizes = [export.int8_bytes / 1000 for _, export in exports]
    front = pareto.front([e.int8_accuracy for _, e in exports], [(size,) for size in sizes])
    points = [
        Point(network.title, size, export.int8_accuracy, export.interval, on)
        for (network, export), size, on in zip(exports, sizes, front, strict=True)
    ]
    score = scores(comparison)
    title = f"{titled(score)} against file size"
    return figures.scatter("compare-size", title, "int8 file, kB", points, score)


def _pairs(pairs: Sequence[Pair]) -> Html:
    if not pairs:
        return tag(
            "section",
            tag("h2", "Image by image"),
            missing(
                "No two networks were tested with the same images, or their predictions are not "
                "stored: export them again."
            ),
        )
    head = tables.heads(
        "First and second",
        ("Test images", "of both"),
        ("Only the first", "right"),
        ("Only the second", "right"),
        ("p", "McNemar, exact"),
    )
    rows = [
        tag(
            "tr",
            tag("th", f"{pair.first} – {pair.second}", scope="row"),
            *(tag("td", f"{n:,}") for n in (pair.images, pair.only_first, pair.only_second)),
            tag("td", tag("b", probability(pair.p)) if pair.p < 0.05 else probability(pair.p)),
        )
        for pair in pairs
    ]
    return tag(
        "section",
        tag("h2", "Image by image"),
        tag(
            "p",
            "How many test images only one of two networks gets right, int8. p is the probability "
            "of a difference like this or greater if both were equally good.",
            class_="lead",
        ),
        tables.framed(head, rows),
        note(_many(len(pairs))),
    )


def _many(count: int) -> str:
    if count == 1:
        return "Bold: p below 0.05."
    return (
        f"Bold: p below 0.05. Of {count} pairs of equal networks, {percent(1 - 0.95**count, 0)} "
        "of the time at least one would be bold if pairs were independent: take a single bold one "
        "for a hint."
    )


def probability(p: float) -> str:
    """A p-value in a cell."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _settings(comparison: Comparison) -> Html:
    if not comparison.settings:
        return tag("section", tag("h2", "Settings"), note("All settings are the same."))
    head = tag(
        "tr", tag("th", "Setting", scope="col"), *(tables.words(run) for run in comparison.runs)
    )
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(tag("td", value(each), class_="words") for each in values),
        )
        for name, values in comparison.settings.items()
    ]
    return tag("section", tag("h2", "Settings that differ"), tables.framed(head, rows))


def value(content: Any) -> str:
    """The value of a setting in a cell; long ones, such as fingerprints, are cut."""
    text = tables.NONE if content is None else str(content)
    if isinstance(content, float):
        text = f"{content:g}"
    return text if len(text) <= 40 else f"{text[:18]}…{text[-20:]}"

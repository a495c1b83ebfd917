"""The page on networks that were trained by name, of the same parts as that of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from efficientnet_elite.report import figures, markup, mistakes_page, page, record, tables, verdict
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import (
    LIGHT,
    SERIES,
    Html,
    command,
    missing,
    note,
    plural,
    tag,
    titled,
)
from efficientnet_elite.report.mistakes_page import Drawings
from efficientnet_elite.report.training import Trained, TrainingContents
from efficientnet_elite.search.starts import Start
from efficientnet_elite.text import data_set_name, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class TrainingFigures:
    """The figures of the page.

    Attributes:
      curves: network to validation score and training loss by epoch.
      mistakes: training to the figures of its mistakes.
    """

    curves: Mapping[str, tuple[Figure, Figure]]
    mistakes: Mapping[str, Drawings] = field(default_factory=dict)

    @property
    def all(self) -> list[Figure]:
        """Every figure."""
        both = [figure for pair in self.curves.values() for figure in pair]
        return [*both, *(figure for each in self.mistakes.values() for figure in each.all)]


def draw(contents: TrainingContents) -> TrainingFigures:
    """Draws all figures of which the data exist."""
    curves = {
        network: (
            _curve(f"curves-{network}", done, "validation_accuracy", contents.judged_by),
            _curve(f"loss-{network}", done, "train_loss", contents.judged_by),
        )
        for network, done in _by_network(contents).items()
        if any(training.epochs for training in done)
    }
    return TrainingFigures(curves, mistakes_page.draw(contents.mistakes))


def _by_network(contents: TrainingContents) -> dict[str, list[Trained]]:
    found: dict[str, list[Trained]] = {}
    for training in contents.trainings:
        found.setdefault(training.network, []).append(training)
    return found


def _curve(name: str, trainings: Sequence[Trained], of: str, score: str) -> Figure:
    what, factor = (f"validation {score}, %", 100) if of != "train_loss" else ("training loss", 1)

    def paint(ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for place, training in enumerate(trainings):
            ax.plot(
                [epoch.epoch for epoch in training.epochs],
                [factor * getattr(epoch, of) for epoch in training.epochs],
                color=LIGHT[SERIES[place % len(SERIES)]],
                linewidth=1.6,
                marker="o",
                markersize=4 if len(training.epochs) <= 30 else 0,
                label=training.name.removeprefix(f"{training.network}-").replace("seed", "seed "),
            )
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
        ax.set_xlabel("epoch")
        ax.set_ylabel(what)
        if len(trainings) > 1:
            ax.legend(frameon=False)

    title = f"{trainings[0].network}: {what.removesuffix(', %')} by epoch"
    return figures.drawn(name, title, title, (4.7, 3.0), paint)


def render(contents: TrainingContents, drawn: TrainingFigures) -> str:
    """The whole page."""
    dataset, artefacts = contents.dataset, contents.artefacts
    known = artefacts.dataset
    labels = next((s["labels"] for s in artefacts.sidecars.values()), None)
    about = {
        "name": dataset,
        "labels": labels,
        "sizes": known.get("parts", {}),
        "fingerprint": contents.settings.get("images", "unknown"),
        "skipped": None,
    }
    sections = (
        _result(contents),
        _trainings(contents),
        _curves(drawn),
        mistakes_page.section(contents.mistakes, drawn.mistakes),
        None if labels is None else record.images(about, known.get("class_counts", {})),
        _settings(contents),
    )
    end = page.footer(contents.workdir, contents.written)
    title = f"{data_set_name(dataset)}: training"
    return markup.document(title, _header(contents), sections, end)


def _header(contents: TrainingContents) -> Html:
    done = sum(training.result is not None for training in contents.trainings)
    start = Start.recorded(contents.settings.get("start"))
    facts = (
        ("Networks", str(len(_by_network(contents)))),
        ("Trainings", f"{done} of {len(contents.trainings)} finished"),
        ("Epochs", str(contents.settings["train"]["epochs"])),
        ("Start", "random weights" if start is None else start.name),
    )
    return tag(
        "header",
        tag("p", "Training", class_="eyebrow"),
        tag("h1", data_set_name(contents.dataset)),
        tag("ul", *(tag("li", f"{key} ", tag("b", value)) for key, value in facts), class_="facts"),
    )


def _result(contents: TrainingContents) -> Html:
    problems = [missing(problem, alarm=True) for problem in contents.artefacts.problems]
    exports = [training.export for training in contents.trainings if training.export]
    if not exports:
        how = (
            "No training has come to its end yet. The same command goes on with them."
            if not any(training.result for training in contents.trainings)
            else "Nothing has been exported yet, so that nothing is known of int8. Export with "
        )
        ended = any(training.result for training in contents.trainings)
        hint = command("export", contents.workdir) if ended else None
        return tag("section", tag("h2", "Result"), missing(how, hint or ""), *problems)
    score = contents.score
    first = max(exports, key=lambda export: export.int8_accuracy)
    images = plural(first.test_images, "test image")
    right = f"{percent(first.int8_accuracy)} {'of the ' + images if score != 'mIoU' else score}"
    verdict_text = (
        (tag("b", first.name), f" gets {right} right as an int8 file for devices.")
        if score != "mIoU"
        else (tag("b", first.name), f" reaches {right} as an int8 file for devices.")
    )
    return tag(
        "section",
        tag("h2", "Result"),
        tag("p", *verdict_text, class_="verdict"),
        tag(
            "div",
            *(verdict.card(None, export, score, best=export is first) for export in exports[:8]),
            class_="cards",
        ),
        note(
            f"The {score} is that of the files in LiteRT, measured on {images} that the training "
            f"did not see. {verdict.certainty(first)}"
        ),
        *problems,
    )


def _trainings(contents: TrainingContents) -> Html | None:
    done = [training for training in contents.trainings if training.result]
    if not done:
        return None
    score = titled(contents.score)
    head = tables.heads(
        "Training",
        (f"{score}, %", "int8, test"),
        (f"{score}, %", "float32, test"),
        ("File, kB", "int8"),
        ("File, kB", "float32"),
        ("Latency, ms", "int8, median"),
        ("Latency, ms", "float32, median"),
        ("Input", "px"),
        ("Params", "million"),
        ("MACs", "million"),
    )
    exports = [training.export for training in done if training.export]
    remark = None
    notes = [_spread(network, each) for network, each in _by_network(contents).items()]
    if any(export.int8_latency for export in exports):
        notes.append(page.how_latency_was_measured(contents.artefacts))
    elif exports:
        remark = page.no_latency(contents.workdir)
    text = " ".join(filter(None, notes))
    return tag(
        "section",
        tag("h2", "Networks"),
        tables.framed(head, [_row(training) for training in done]),
        note(text) if text else None,
        remark,
        tables.verification(exports),
    )


def _row(training: Trained) -> Html:
    result, export = training.result or {}, training.export
    nothing = tables.NONE
    cells = [
        nothing if export is None else tables.share(export.int8_accuracy),
        tables.share(result["test_accuracy"] if export is None else export.float_accuracy),
        nothing if export is None else f"{export.int8_bytes / 1000:,.0f}",
        nothing if export is None else f"{export.float_bytes / 1000:,.0f}",
        nothing if export is None else tables.milliseconds(export.int8_latency, "median_ms"),
        nothing if export is None else tables.milliseconds(export.float_latency, "median_ms"),
        str(result["resolution"]),
        f"{result['params'] / 1e6:.3f}",
        f"{result['macs'] / 1e6:,.2f}",
    ]
    head = tag("th", training.name, scope="row")
    return tag("tr", head, *(tag("td", cell) for cell in cells))


def _spread(network: str, trainings: Sequence[Trained]) -> str | None:
    """Mean and deviation over seeds; None with one seed."""
    accuracies = [training.result["test_accuracy"] for training in trainings if training.result]
    if len(accuracies) < 2:
        return None
    return (
        f"{network}, float32 over {len(accuracies)} seeds: mean {percent(fmean(accuracies))}, "
        f"standard deviation {100 * stdev(accuracies):.2f} points."
    )


def _curves(drawn: TrainingFigures) -> Html | None:
    shown = [
        page.figure_with(heading, figure)
        for network, (scores, losses) in drawn.curves.items()
        for heading, figure in ((network, scores), (f"{network}, loss", losses))
    ]
    if not shown:
        return None
    text = (
        "After every epoch: the score of the averaged weights on the validation part, and the mean "
        "loss of the training steps."
    )
    return tag(
        "section",
        tag("h2", "Learning curves"),
        tag("p", text, class_="lead"),
        tag("div", *shown, class_="pair"),
    )


def _settings(contents: TrainingContents) -> Html:
    left_out = ("start", "images", "pipeline", "max_side")
    config = {name: v for name, v in contents.settings.items() if name not in left_out}
    sidecars = contents.artefacts.sidecars.values()
    versions = next((dict(sidecar["versions"]) for sidecar in sidecars), {})
    return record.setting_blocks(
        config,
        "Trainings",
        Start.recorded(contents.settings.get("start")),
        versions,
        record.benchmark_machine(contents.artefacts),
    )

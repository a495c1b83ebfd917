"""The section of the page on what the networks get wrong: tables, figures, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from efficientnet_elite.export.predictions import Shown, worth_a_look
from efficientnet_elite.report import figures
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import LIGHT, Html, data_url, note, plural, tag
from efficientnet_elite.report.mistakes import FORMS, Mistakes, Quality
from efficientnet_elite.report.tables import framed, heads, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BYTES = 1_000_000  # of all pictures of a page, as they are embedded
_MOST_CLASSES = 25  # in the drawn matrix


@dataclass(frozen=True)
class Drawings:
    """The figures of a network: int8 on the test part."""

    matrix: Figure
    reliability: Figure
    coverage: Figure

    @property
    def all(self) -> tuple[Figure, ...]:
        """Every figure."""
        return self.matrix, self.reliability, self.coverage


def draw(mistakes: Sequence[Mistakes]) -> dict[str, Drawings]:
    """Network to its figures."""
    return {
        m.name: Drawings(_matrix(m, m.qualities["test", "int8"]), _reliability(m), _coverage(m))
        for m in mistakes
    }


def _most_confused(quality: Quality) -> np.ndarray:
    """The classes that the drawn matrix shows, in their order."""
    wrong = quality.matrix - np.diag(np.diag(quality.matrix))
    order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
    return np.sort(order[:_MOST_CLASSES])


def _matrix(mistakes: Mistakes, quality: Quality) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap

    kept = _most_confused(quality)
    counts = quality.matrix[np.ix_(kept, kept)]
    shares = counts / np.maximum(quality.matrix[kept].sum(1, keepdims=True), 1)
    names = [_short(mistakes.labels[i]) for i in kept]

    def paint(ax: Axes) -> None:
        shades = LinearSegmentedColormap.from_list("", [LIGHT["surface"], LIGHT["accent"]])
        ax.grid(visible=False)
        # Never so dark that the numbers could not be read on it.
        ax.pcolormesh(shares, cmap=shades, vmin=0, vmax=2)
        ax.set_ylim(len(kept), 0)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                ax.text(
                    j + 0.5,
                    i + 0.5,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=9 if len(kept) <= 12 else 6,
                    color=LIGHT["ink"],
                )
        ticks = np.arange(len(kept)) + 0.5
        turned = len(kept) > 6 or max(map(len, names)) > 9
        ax.set_xticks(ticks, names, rotation=90 if turned else 0, fontsize=8)
        ax.set_yticks(ticks, names, fontsize=8)
        ax.set_xlabel("class given by int8")
        ax.set_ylabel("true class")
        margin = 0.055 * max(map(len, names)) + 0.5
        width, height = size[0], size[1] + figures.TITLE
        bottom = margin if turned else 0.5
        ax.set_position(
            (
                margin / width,
                bottom / height,
                1 - (margin + 0.1) / width,
                1 - (bottom + 0.5) / height,
            )
        )

    side = min(7.0, 3.2 + 0.16 * len(kept))
    size = (side + 0.8, side)
    title = f"{mistakes.name}: confusion matrix, test part"
    return figures.drawn(f"confusion-{mistakes.name}", title, title, size, paint)


def _reliability(mistakes: Mistakes) -> Figure:
    def paint(ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color=LIGHT["faint"], linewidth=1, linestyle=(0, (4, 3)))
        float32, int8 = (mistakes.qualities["test", form] for form in FORMS)
        looks = {
            "float32": (float32.bins, "series2", "D", "--"),
            "int8": (int8.bins, "accent", "o", "-" if int8.bins == int8.calibrated_bins else ":"),
        }
        if int8.bins != int8.calibrated_bins:
            looks["int8, calibrated"] = (int8.calibrated_bins, "accent", "s", "-")
        for form, (every, color, marker, line) in looks.items():
            bins = [b for b in every if b.images]
            ax.plot(
                [100 * (b.confidence or 0) for b in bins],
                [100 * (b.accuracy or 0) for b in bins],
                color=LIGHT[color],
                marker=marker,
                markersize=5,
                linestyle=line,
                linewidth=1.4,
                label=form,
            )
        ax.set_xlim(0, 100)
        ax.set_ylim(0, 103)
        ax.set_xlabel("probability of the chosen class, %")
        ax.set_ylabel("right answers, %")
        ax.legend(frameon=False, loc="upper left")

    title = f"{mistakes.name}: reliability, test part"
    return figures.drawn(f"reliability-{mistakes.name}", title, title, (4.4, 3.6), paint)


def _coverage(mistakes: Mistakes) -> Figure:
    def paint(ax: Axes) -> None:
        curve = mistakes.coverages
        ax.plot(
            [100 * c.coverage for c in curve],
            [100 * c.wrong for c in curve],
            color=LIGHT["accent"],
            linewidth=1.6,
            drawstyle="steps-pre",
        )
        if given := mistakes.given:
            place = (100 * given.coverage, 100 * given.wrong)
            ax.plot(*place, color=LIGHT["series2"], marker="D", markersize=7, clip_on=False)
        ax.set_xlim(0, 100)
        ax.set_ylim(0, max(5.0, 108 * max(c.wrong for c in curve if c.coverage >= 0.05)))
        ax.set_xlabel("images that get an answer, %")
        ax.set_ylabel("wrong answers among these, %")

    title = f"{mistakes.name}: risk and coverage, test part"
    return figures.drawn(f"coverage-{mistakes.name}", title, title, (4.4, 3.6), paint)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


# -- the page -----------------------------------------------------------------------------------


def section(mistakes: Sequence[Mistakes], drawings: Mapping[str, Drawings]) -> Html | None:
    """What the networks get wrong; None where no predictions are stored."""
    if not mistakes:
        return None
    album = _Album(mistakes)
    blocks = [
        tag(
            "details",
            tag("summary", f"{m.name}: {_in_short(m)}"),
            *_network(m, drawings.get(m.name), album),
            open="" if place == 0 else None,
        )
        for place, m in enumerate(mistakes)
    ]
    remarks = [
        "Balanced accuracy is the mean recall of all classes, whatever their numbers of images. "
        "The calibration error is the mean difference between the probability that the network "
        "states and the share of its right answers: with 0 it may be taken at its word."
    ]
    if album.left_out:
        remarks.append(
            f"{plural(album.left_out, 'picture')} left out to keep the page small; the image names "
            "are all in wrong_images.csv (--format=csv)."
        )
    return tag("section", tag("h2", "What the networks get wrong"), *blocks, note(*remarks))


def _in_short(mistakes: Mistakes) -> str:
    test = mistakes.qualities["test", "int8"]
    wrong = test.images - int(np.trace(test.matrix))
    return f"{wrong:,} of {plural(test.images, 'test image')} wrong"


def _network(mistakes: Mistakes, drawings: Drawings | None, album: _Album) -> Iterable[Html | None]:
    p = mistakes.predictions
    shown = worth_a_look(p.part, p.label, p.float32, p.int8)
    yield _metrics(mistakes)
    if drawings:
        total = len(mistakes.labels)
        remark = (
            f" Of {total} classes the {_MOST_CLASSES} that are confused most."
            if total > _MOST_CLASSES
            else ""
        )
        yield tag(
            "div",
            _figure(
                "Confusion matrix of int8",
                drawings.matrix,
                f"Numbers of test images. The shade is the share of the true class.{remark}",
            ),
            _figure(
                "Reliability",
                drawings.reliability,
                "Below the diagonal the network is surer than it should be. The points are means "
                f"over intervals of 10 %; some hold few images.{_calibration(mistakes)}",
            ),
            _figure(
                "Risk and coverage",
                drawings.coverage,
                "Wrong answers if the least sure ones are not given, by the calibrated probability "
                f"of int8. {_unknown(mistakes)}",
            ),
            class_="pair",
        )
    yield _by_class(mistakes)
    yield from _pictures(mistakes, shown, album)


def _calibration(mistakes: Mistakes) -> str:
    if (temperature := mistakes.confidence.temperature) == 1:
        return ""
    return (
        f" Calibrated: the logits are divided by {temperature:.2f}, which was chosen on the "
        "validation part; elite predict shows these probabilities."
    )


def _unknown(mistakes: Mistakes) -> str:
    given = mistakes.given
    if given is None:
        return (
            "To have answers taken for unknown that are not sure enough, export with a wanted "
            "precision, such as --unknown_precision=0.95."
        )
    return (
        f"The diamond: answers below {100 * mistakes.confidence.threshold:.1f} % are taken for "
        f"unknown. Of the test images {100 * given.coverage:.1f} % then get an answer, and "
        f"{100 * given.wrong:.1f} % of these answers are wrong."
    )


def _figure(heading: str, figure: Figure, caption: str) -> Html:
    return tag("figure", tag("h3", heading), Html(figure.svg), tag("figcaption", caption))


def _metrics(mistakes: Mistakes) -> Html:
    head = heads(
        "Part and file",
        "Images",
        ("Accuracy", "%"),
        ("Balanced", "accuracy, %"),
        ("F1", "mean of classes, %"),
        *([("Top-5", "%")] if len(mistakes.labels) >= 10 else []),
        ("Calibration", "error, %"),
        *([("with the", "temperature, %")] if mistakes.confidence.temperature != 1 else []),
    )
    rows = [
        tag(
            "tr",
            tag("th", f"{q.part}, {q.form}", scope="row"),
            tag("td", f"{q.images:,}"),
            *(tag("td", share(v)) for v in (q.accuracy, q.balanced_accuracy, q.macro_f1)),
            None if q.top5 is None else tag("td", share(q.top5)),
            tag("td", share(q.calibration_error)),
            tag("td", share(q.calibrated_error)) if mistakes.confidence.temperature != 1 else None,
        )
        for q in mistakes.qualities.values()
    ]
    return framed(head, rows)


def _by_class(mistakes: Mistakes) -> Html:
    test = {form: mistakes.qualities["test", form] for form in FORMS}
    head = heads(
        "Class",
        ("Test images", "given this class"),
        "of this class",
        ("Precision", "int8, %"),
        ("Recall", "int8, %"),
        ("F1", "int8, %"),
        ("F1", "float32, %"),
    )
    both = zip(test["int8"].classes, test["float32"].classes, strict=True)
    rows = [
        tag(
            "tr",
            tag("th", quality.label, scope="row"),
            tag("td", f"{quality.predicted:,}"),
            tag("td", f"{quality.support:,}"),
            *(tag("td", share(v)) for v in (quality.precision, quality.recall, quality.f1)),
            tag("td", share(other.f1)),
        )
        # The worst first, as they are what one looks for.
        for quality, other in sorted(both, key=lambda pair: pair[0].f1)
    ]
    table = framed(head, rows)
    if len(rows) <= 30:
        return tag("div", tag("h3", "By class, the worst first"), table, class_="below")
    return tag("details", tag("summary", f"All {len(rows)} classes, the worst first"), table)


def _pictures(mistakes: Mistakes, shown: Shown, album: _Album) -> Iterable[Html | None]:
    labels = mistakes.labels
    for true, given, count, rows in shown.pairs:
        title = f"{labels[true]} taken for {labels[given]}: {plural(count, 'test image')}"
        yield album.sheet(mistakes, title, rows)
    yield album.sheet(mistakes, "The most confident mistakes", shown.confident)
    yield album.sheet(mistakes, "The least certain right answers", shown.uncertain)
    yield album.sheet(mistakes, "int8 and float32 disagree", shown.changed, both=True)


class _Album:
    """Pictures of a page, embedded while there is room.

    Args:
      mistakes: the networks; each gets an equal share of the room, so that none goes without.
    """

    def __init__(self, mistakes: Sequence[Mistakes]) -> None:
        self._room = {m.name: MOST_BYTES // len(mistakes) for m in mistakes}
        self.left_out = 0

    def sheet(
        self, mistakes: Mistakes, title: str, rows: np.ndarray, both: bool = False
    ) -> Html | None:
        """Pictures with a heading; None without rows. With ``both`` float32's answer as well."""
        items = []
        for row in rows.tolist():
            source = self._source(mistakes, row)
            if source is None:
                self.left_out += 1
                continue
            items.append(_thumbnail(mistakes, row, source, both))
        if not items:
            return None
        return tag("div", tag("h3", title), tag("div", *items, class_="album"), class_="below")

    def _source(self, mistakes: Mistakes, row: int) -> str | None:
        """A picture as a data URL; None where it does not fit any more."""
        p = mistakes.predictions
        place = int(np.searchsorted(p.shown, row))
        url = data_url(p.copies[place])
        if len(url) > self._room[mistakes.name]:
            return None
        self._room[mistakes.name] -= len(url)
        return url


def _thumbnail(mistakes: Mistakes, row: int, source: str, both: bool) -> Html:
    p, labels = mistakes.predictions, mistakes.labels
    forms = FORMS if both else ("int8",)
    answers = []
    for form in forms:
        chances = getattr(p, form)[row]
        answer = f"{labels[int(chances.argmax())]} {100 * chances.max():.0f} %"
        answers.append(tag("span", f"{form}: {answer}" if both else answer, class_="answer"))
    true = labels[int(p.label[row])]
    name = str(p.name[row])
    return tag(
        "figure",
        tag("img", src=source, alt=f"{name}, {true}", title=name),
        tag(
            "figcaption",
            *answers,
            tag("span", f"is {true}"),
            tag("span", name, class_="file"),
        ),
    )

"""What a network gets wrong: metrics by class, calibration, and tables of them.

All of it is computed from the predictions that an export has stored, with scikit-learn's metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientnet_elite.export.confidence import Confidence, calibrated
from efficientnet_elite.export.predictions import PARTS, Predictions
from efficientnet_elite.report.columns import Columns, Table, table

FORMS = ("float32", "int8")
BINS = 10
_TOP = 5
_LEAST_CLASSES = 10  # top-5 says little where there are fewer


@dataclass(frozen=True)
class ClassQuality:
    """How well one class is told from the others; all but the last two are shares, 0..1.

    Attributes:
      label: its name.
      precision: share of right answers among the images that were given this class.
      recall: share of right answers among the images of this class.
      f1: harmonic mean of both.
      support: number of images of this class.
      predicted: number of images that were given this class.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Bin:
    """Images whose most probable class has a probability in an interval.

    Attributes:
      low, high: the interval; its upper end belongs to it.
      images: how many.
      confidence: their mean probability, 0..1; None without images.
      accuracy: share of right answers, 0..1; None without images.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Quality:
    """Quality of one file on one part.

    Attributes:
      name: name of the network.
      part: ``validation`` or ``test``.
      form: ``float32`` or ``int8``.
      images: number of images.
      accuracy: share of right answers, 0..1.
      balanced_accuracy: mean recall of the classes that have images.
      macro_f1: mean F1 of all classes.
      top5: share of images whose class is among the five most probable; None with fewer than ten
        classes.
      calibration_error: expected calibration error (Guo et al., arXiv 1706.04599) over `bins`: the
        mean difference of confidence and accuracy, weighted by images.
      calibrated_error: the same of the probabilities that the temperature has calibrated.
      matrix: number of images by true class (rows) and predicted class (columns).
      classes: quality of each class.
      bins, calibrated_bins: the reliability curve, without and with the temperature.
    """

    name: str
    part: str
    form: str
    images: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top5: float | None
    calibration_error: float
    calibrated_error: float
    matrix: np.ndarray
    classes: tuple[ClassQuality, ...]
    bins: tuple[Bin, ...]
    calibrated_bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Coverage:
    """What happens if the least sure answers are not given; int8 on the test part.

    Attributes:
      threshold: calibrated probability from which answers are given.
      coverage: share of the images that get an answer, 0..1.
      wrong: share of wrong answers among these, 0..1.
    """

    threshold: float
    coverage: float
    wrong: float


@dataclass(frozen=True)
class Mistakes:
    """What is known about a network's mistakes.

    Attributes:
      name: name of the network.
      labels: names of the classes.
      predictions: of the images of both parts.
      qualities: by part and form.
      confidence: the temperature, and the threshold below which an answer is unknown.
      coverages: the risk-coverage curve, the surest answers first.
    """

    name: str
    labels: tuple[str, ...]
    predictions: Predictions
    qualities: Mapping[tuple[str, str], Quality]
    confidence: Confidence
    coverages: tuple[Coverage, ...]

    @property
    def given(self) -> Coverage | None:
        """Where the threshold lies on the curve; None where no answer is taken for unknown."""
        if not self.confidence.threshold:
            return None
        every = [c for c in self.coverages if c.threshold >= self.confidence.threshold]
        return every[-1] if every else Coverage(self.confidence.threshold, 0.0, 0.0)


def analyse(
    name: str,
    labels: Sequence[str],
    predictions: Predictions,
    confidence: Confidence | None = None,
) -> Mistakes:
    """Computes all metrics of a network; without `confidence` nothing is calibrated."""
    confidence = confidence or Confidence()
    qualities = {}
    for part in PARTS:
        rows = predictions.of_part(part)
        for form in FORMS:
            chances = getattr(predictions, form)[rows]
            qualities[part, form] = quality(
                name, part, form, labels, predictions.label[rows], chances, confidence.temperature
            )
    test = predictions.of_part("test")
    answers = calibrated(predictions.int8[test], confidence.temperature)
    right = answers.argmax(-1) == predictions.label[test]
    curve = tuple(coverages(right, answers.max(-1)))
    return Mistakes(name, tuple(labels), predictions, qualities, confidence, curve)


def coverages(right: np.ndarray, confidence: np.ndarray) -> Iterator[Coverage]:
    """The risk-coverage curve; answers of equal confidence are given together.

    Args:
      right: whether each answer is right, bool (n,), n > 0.
      confidence: probability of each answer, (n,).
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], np.cumsum(~right[order])
    for last in np.flatnonzero(np.append(np.diff(sorted_confidence) < 0, True)).tolist():
        given = last + 1
        yield Coverage(
            float(sorted_confidence[last]), given / len(right), float(wrong[last] / given)
        )


def quality(
    name: str,
    part: str,
    form: str,
    labels: Sequence[str],
    truth: np.ndarray,
    chances: np.ndarray,
    temperature: float = 1.0,
) -> Quality:
    """Quality of probabilities.

    Args:
      name, part, form: see `Quality`.
      labels: names of the classes.
      truth: true classes (n,), n > 0.
      chances: probabilities (n, classes).
      temperature: by which they are calibrated.
    """
    from sklearn import metrics

    numbers, chosen = np.arange(len(labels)), chances.argmax(-1)
    matrix = metrics.confusion_matrix(truth, chosen, labels=numbers)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, chosen, labels=numbers, zero_division=0.0
    )
    bins = tuple(reliability(truth == chosen, chances.max(-1)))
    sure = chances.max(-1) if temperature == 1 else calibrated(chances, temperature).max(-1)
    calibrated_bins = tuple(reliability(truth == chosen, sure))
    return Quality(
        name=name,
        part=part,
        form=form,
        images=len(truth),
        accuracy=float((truth == chosen).mean()),
        # As `balanced_accuracy_score`, which warns where a class has predictions but no images.
        balanced_accuracy=float(recall[support > 0].mean()),
        macro_f1=float(f1.mean()),
        top5=float(metrics.top_k_accuracy_score(truth, chances, k=_TOP, labels=numbers))
        if len(labels) >= _LEAST_CLASSES
        else None,
        calibration_error=_calibration_error(bins),
        calibrated_error=_calibration_error(calibrated_bins),
        matrix=matrix,
        classes=tuple(
            ClassQuality(label, float(p), float(r), float(f), int(s), int(column))
            for label, p, r, f, s, column in zip(
                labels, precision, recall, f1, support, matrix.sum(0), strict=True
            )
        ),
        bins=bins,
        calibrated_bins=calibrated_bins,
    )


def _calibration_error(bins: Sequence[Bin]) -> float:
    return sum(
        b.images / sum(each.images for each in bins) * abs(b.confidence - b.accuracy)
        for b in bins
        if b.confidence is not None and b.accuracy is not None
    )


def reliability(right: np.ndarray, confidence: np.ndarray) -> Iterator[Bin]:
    """Accuracy by confidence, in `BINS` intervals of equal width."""
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    for number in range(BINS):
        inside = place == number
        count = int(inside.sum())
        yield Bin(
            number / BINS,
            (number + 1) / BINS,
            count,
            float(confidence[inside].mean()) if count else None,
            float(right[inside].mean()) if count else None,
        )


# -- tables for JSON and CSV --------------------------------------------------------------------

_OF = {
    "name": ("name of the network", "name"),
    "part": ("part of the data set", "part"),
    "form": ("file: float32 or int8", "form"),
}


def tables(mistakes: Sequence[Mistakes]) -> list[Table]:
    """Metrics, metrics by class, confusions, reliability, and the images worth a look."""
    qualities = [quality for m in mistakes for quality in m.qualities.values()]
    metrics: Columns = {
        **_OF,
        "images": ("number of images", "images"),
        "accuracy": ("share of right answers", "accuracy"),
        "balanced_accuracy": ("mean recall of the classes", "balanced_accuracy"),
        "macro_f1": ("mean F1 of the classes", "macro_f1"),
        "top5": ("share with the class among the five most probable; from ten classes", "top5"),
        "calibration_error": ("expected calibration error, ten bins", "calibration_error"),
        "calibrated_error": (
            "the same of probabilities that the temperature has calibrated",
            "calibrated_error",
        ),
    }
    by_class: dict[str, tuple[str, Any]] = {
        "class": ("name of the class", "label"),
        "precision": ("share of right answers among images given this class", "precision"),
        "recall": ("share of right answers among images of this class", "recall"),
        "f1": ("harmonic mean of precision and recall", "f1"),
        "support": ("images of this class", "support"),
        "predicted": ("images that were given this class", "predicted"),
    }
    by_bin: dict[str, tuple[str, Any]] = {
        "low": ("probability above which the interval begins", "low"),
        "high": ("probability with which it ends", "high"),
        "images": ("images whose most probable class lies there", "images"),
        "confidence": ("their mean probability", "confidence"),
        "accuracy": ("share of right answers", "accuracy"),
    }
    curve: Columns = {
        "name": ("name of the network", lambda pair: pair[0].name),
        "threshold": (
            "calibrated probability from which answers are given",
            lambda pair: pair[1].threshold,
        ),
        "coverage": ("share of the test images that get an answer", lambda pair: pair[1].coverage),
        "wrong": ("share of wrong answers among these, int8", lambda pair: pair[1].wrong),
    }
    points = [(m, point) for m in mistakes for point in m.coverages]
    return [
        table("quality", "The quality of a file on a part.", metrics, qualities),
        _nested("quality_by_class", "The quality for one class.", by_class, qualities, "classes"),
        _confusions(mistakes, qualities),
        _nested("reliability", "Accuracy by confidence.", by_bin, qualities, "bins"),
        table("coverage", "Answers if the least sure ones are not given.", curve, points),
        _images(mistakes),
    ]


def _nested(
    name: str, about: str, columns: Columns, qualities: Sequence[Quality], field: str
) -> Table:
    """A table with a row for each entry of a field of the qualities."""
    inner = [table(name, about, columns, getattr(quality, field)) for quality in qualities]
    rows = [
        [quality.name, quality.part, quality.form, *row]
        for quality, each in zip(qualities, inner, strict=True)
        for row in each.rows
    ]
    meanings = {column: meaning for column, (meaning, _) in {**_OF, **columns}.items()}
    return Table(name, about, meanings, rows)


def _confusions(mistakes: Sequence[Mistakes], qualities: Sequence[Quality]) -> Table:
    labels = {m.name: m.labels for m in mistakes}
    columns = {
        **{column: meaning for column, (meaning, _) in _OF.items()},
        "true_class": "class of the images",
        "predicted_class": "class that they were given",
        "images": "how many; pairs without images are left out",
    }
    rows = [
        [q.name, q.part, q.form, labels[q.name][i], labels[q.name][j], int(q.matrix[i, j])]
        for q in qualities
        for i, j in np.argwhere(q.matrix).tolist()
    ]
    return Table("confusions", "Images of one class that were given one class.", columns, rows)


def _images(mistakes: Sequence[Mistakes]) -> Table:
    columns = {
        "name": "name of the network",
        "part": "part of the data set",
        "image": "name of the image",
        "true_class": "its class",
        "float32_class": "class that the float32 file chose",
        "float32_probability": "probability of that class",
        "int8_class": "class that the int8 file chose",
        "int8_probability": "probability of that class",
    }
    rows = []
    for m in mistakes:
        p = m.predictions
        chosen = {form: getattr(p, form).argmax(-1) for form in FORMS}
        wrong = (chosen["float32"] != p.label) | (chosen["int8"] != p.label)
        for row in np.flatnonzero(wrong).tolist():
            answers = []
            for form in FORMS:
                number = int(chosen[form][row])
                answers += [m.labels[number], float(getattr(p, form)[row, number])]
            named = [m.name, str(p.part[row]), str(p.name[row]), m.labels[p.label[row]]]
            rows.append([*named, *answers])
    about = "An image for which either file chose a wrong class."
    return Table("wrong_images", about, columns, rows)

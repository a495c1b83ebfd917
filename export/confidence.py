"""How sure a network's answers are: calibrated probabilities, and when an answer is "unknown".

Networks are mostly surer than they are right. Dividing the logits by one number, the temperature,
corrects that on average and changes no answer (Guo et al., arXiv 1706.04599). An answer whose
calibrated probability is below a threshold is then taken for "none of these classes". Both numbers
are chosen on the validation part, from what the int8 file predicts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .predictions import Predictions

PRECISION = 0.95
"""Wanted share of right answers where images that are to be unknown are given without one."""

UNKNOWN = "unknown"
"""What an answer that is not sure enough is called."""

_TEMPERATURES = (0.05, 20.0)  # least and greatest


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The softmax of logits that are divided by a temperature, from their plain softmax.

    Logits themselves are not needed: they are the logarithms of the probabilities, but for a
    constant.

    Args:
      probabilities: (..., classes).
      temperature: above 0; 1 changes nothing.
    """
    tiny = np.finfo(np.float32).tiny
    return softmax(np.log(np.maximum(probabilities, tiny)) / np.float32(temperature))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with which answers are most likely, judged by the logarithmic loss.

    One answer among all and one more is taken for a guess. Otherwise the few images of a part in
    which all answers are right would make a network infinitely sure.

    Args:
      probabilities: softmax of the logits, (n, classes), n > 0.
      labels: true classes, (n,).
    """
    from scipy.optimize import minimize_scalar

    count, classes = probabilities.shape
    guessed = 1 / (count + 1)
    target = (1 - guessed) * np.eye(classes)[labels] + guessed / classes
    chances = np.asarray(probabilities, np.float64)

    def loss(logarithm: float) -> float:
        answers = calibrated(chances, np.exp(logarithm))
        return -float((target * np.log(np.maximum(answers, 1e-300))).sum(-1).mean())

    found = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Threshold:
    """When an answer is taken for unknown.

    Attributes:
      threshold: the calibrated probability below which it is.
      wanted_precision: share of right answers among those that are given, 0..1, for which the
        threshold was chosen.
      precision: the share that was reached on the images it was chosen with.
      coverage: share of the validation images that get an answer.
      unknown_images: number of images of none of the classes; they count as wrong wherever they
        get an answer.
      unknown_rejected: share of these that are taken for unknown; None without any.
    """

    threshold: float
    wanted_precision: float
    precision: float
    coverage: float
    unknown_images: int = 0
    unknown_rejected: float | None = None


def choose_threshold(
    right: np.ndarray, confidence: np.ndarray, unknown: np.ndarray, wanted: float
) -> Threshold | None:
    """The threshold that leaves most answers and reaches a wanted precision; None if none does.

    Args:
      right: whether each answer is right, bool (n,).
      confidence: calibrated probability of each answer, (n,).
      unknown: the same of images of none of the classes, (k,); none are needed.
      wanted: share of right answers, 0..1.
    """
    every = np.concatenate([confidence, unknown])
    order = np.argsort(-every, kind="stable")
    sorted_confidence = every[order]
    is_right = np.concatenate([right, np.zeros(len(unknown), bool)])[order]
    precision = np.cumsum(is_right) / np.arange(1, len(every) + 1)
    # Equal probabilities lie on the same side.
    ends = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    reaching = np.flatnonzero(ends & (precision >= wanted))
    if not len(reaching):
        return None
    last = reaching[-1]
    # In the middle between two answers, so that rounding elsewhere cannot move one across.
    below = sorted_confidence[last + 1] if last + 1 < len(every) else 0.0
    threshold = float((sorted_confidence[last] + below) / 2)
    return Threshold(
        threshold=threshold,
        wanted_precision=wanted,
        precision=float(precision[last]),
        coverage=float((confidence >= threshold).mean()),
        unknown_images=len(unknown),
        unknown_rejected=float((unknown < threshold).mean()) if len(unknown) else None,
    )


def entry(stored: Predictions, precision: float | None) -> dict[str, Any]:
    """What the sidecar says about confidence.

    Args:
      stored: predictions; the int8 file's for the validation part are used, and those for images of
        none of the classes.
      precision: wanted share of right answers, 0..1; None for no threshold, or for `PRECISION`
        where there are images of none of the classes.

    Returns:
      ``temperature``, ``images`` (of the validation part), and ``unknown``: a `Threshold` as a
      dictionary, whose ``threshold`` is None where the precision cannot be reached; None where no
      threshold is wanted.
    """
    rows = stored.of_part("validation")
    labels, chances = stored.label[rows], stored.int8[rows]
    temperature = fit_temperature(chances, labels)
    found: dict[str, Any] = {"temperature": temperature, "images": len(rows), "unknown": None}
    if precision is None and not len(stored.unknown):
        return found
    wanted = PRECISION if precision is None else precision
    answers = calibrated(chances, temperature)
    unknown = calibrated(stored.unknown, temperature).max(-1, initial=0)
    chosen = choose_threshold(answers.argmax(-1) == labels, answers.max(-1), unknown, wanted)
    nothing = {"threshold": None, "wanted_precision": wanted}
    return {**found, "unknown": nothing if chosen is None else asdict(chosen)}


@dataclass(frozen=True)
class Confidence:
    """How a classifier's probabilities are made, and when an answer is unknown.

    Attributes:
      temperature: see `calibrated`.
      threshold: calibrated probability below which an answer is unknown; 0 for never.
    """

    temperature: float = 1.0
    threshold: float = 0.0

    @classmethod
    def recorded(cls, sidecar: Mapping[str, Any]) -> Confidence:
        """That of a sidecar; those of older versions have none.

        Raises:
          AttributeError, TypeError, ValueError: the entry is damaged.
        """
        found = sidecar.get("confidence") or {}
        threshold = (found.get("unknown") or {}).get("threshold") or 0.0
        confidence = cls(float(found.get("temperature", 1.0)), float(threshold))
        if not (confidence.temperature > 0 and 0 <= confidence.threshold <= 1):
            raise ValueError("no confidence")
        return confidence

"""Scores of predictions: top-1 accuracy for classification, mean IoU for segmentation.

IoU is the intersection over union of the pixels that are of a class and those that are predicted to
be. The mean IoU is computed from one confusion matrix over all pixels of all images, and so is
exact; it is not a mean over images or batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.data import IGNORED


def score_predictions(
    predictions: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]], classes: int
) -> float:
    """Returns the score of predicted classes, 0..1.

    Args:
      predictions: predicted classes, of the same shape as ``labels``.
      labels: true classes, (n,) for classification, (n, height, width) for segmentation.
      classes: number of classes.

    Returns:
      Top-1 accuracy for classification, mean IoU for segmentation.
    """
    if labels.ndim == 1:
        return float((predictions == labels).mean())
    return mean_iou(confusion_matrix(predictions, labels, classes))


def confusion_matrix(
    predictions: NDArray[np.integer[Any]], masks: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Counts pixels by true and predicted class.

    Args:
      predictions: predicted classes, of any shape.
      masks: true classes, of the same shape; pixels that are `IGNORED` are not counted.
      classes: number of classes.

    Returns:
      (classes, classes); rows are true classes, columns predicted ones.
    """
    counted = masks != IGNORED
    pairs = masks[counted].astype(np.int64) * classes + predictions[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the IoU of each class, 0..1.

    Args:
      matrix: a `confusion_matrix`, (classes, classes).

    Returns:
      (classes,); NaN for classes that no pixel has and none is predicted to have.
    """
    intersections = np.diag(matrix)
    unions = matrix.sum(0) + matrix.sum(1) - intersections
    no_iou = np.full(len(intersections), np.nan)
    return np.divide(intersections, unions, out=no_iou, where=unions > 0)


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Returns the mean IoU over the classes that have one, 0..1; 0 if none has.

    Args:
      matrix: a `confusion_matrix`, (classes, classes).
    """
    ious = class_iou(matrix)
    defined = ~np.isnan(ious)
    return float(ious[defined].mean()) if defined.any() else 0.0

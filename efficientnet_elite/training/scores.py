"""Mean intersection over union (mIoU), the score of segmentation networks.

Exact: from the confusion matrix over all pixels of a part, not a mean over images or batches. This
module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.data import IGNORED


def confusion(
    choices: NDArray[np.integer[Any]], masks: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Pixels by true and chosen class.

    Args:
      choices: chosen classes, of any shape.
      masks: true classes, of the same shape; `IGNORED` does not count.
      classes: how many there are.

    Returns:
      (classes, classes); rows are the true ones.
    """
    counted = masks != IGNORED
    pairs = masks[counted].astype(np.int64) * classes + choices[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def score(
    choices: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]], classes: int
) -> float:
    """Share of images that are right, 0..1; of masks (N, height, width) the mIoU."""
    if labels.ndim == 1:
        return float((choices == labels).mean())
    return mean_iou(confusion(choices, labels, classes))


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Mean of `class_iou` over the classes that have one, 0..1; 0 where none has."""
    shares = class_iou(matrix)
    counted = ~np.isnan(shares)
    return float(shares[counted].mean()) if counted.any() else 0.0


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection of each class's true and chosen pixels over their union, 0..1.

    Args:
      matrix: of `confusion`.

    Returns:
      (classes,); NaN for classes that are neither there nor chosen and so have no union.
    """
    hits = np.diag(matrix)
    unions = matrix.sum(0) + matrix.sum(1) - hits
    return np.divide(hits, unions, out=np.full(len(hits), np.nan), where=unions > 0)

"""The tasks that a network can be trained for: classification and segmentation.

The data set decides which task it is (`task_for`). A task provides the loss to train with and the
score that ranks candidates.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite.data import IGNORED, ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.scores import confusion_matrix, mean_iou


class Task(Protocol):
    """Loss and score of a network's logits.

    To score a data set, `tally` each batch, add up the tallies, and take the `score` of the sum.
    """

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """Returns the shape of a batch of labels, for images with ``side`` pixels a side."""

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """Returns the mean cross-entropy, a scalar.

        Args:
          logits: float32, of the labels' shape and (classes,).
          labels: int32, of `labels_shape`.
          smoothing: share of each target that is spread evenly over all classes, 0..1.
        """

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the counts of a batch from which the score is computed.

        Args:
          predictions: predicted classes, of `labels_shape`.
          labels: true classes, of `labels_shape`.
        """

    def score(self, tally: NDArray[np.int64]) -> float:
        """Returns the score of a sum of tallies, 0..1."""


class Classification:
    """One class for each image. The score is the top-1 accuracy."""

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return (batch,)

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`."""
        return tf.reduce_mean(_cross_entropy(logits, labels, smoothing))

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the number of correct images and the number of images, (2,)."""
        return np.array([(predictions == labels).sum(), labels.size], np.int64)

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return int(tally[0]) / int(tally[1])


class Segmentation:
    """One class for each pixel. The score is the mean intersection over union.

    Args:
      classes: number of classes.
    """

    def __init__(self, classes: int):
        self._classes = classes

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return batch, side, side

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`. The mean is over the pixels that are not `IGNORED`."""
        counted = labels != IGNORED
        losses = _cross_entropy(logits, tf.where(counted, labels, 0), smoothing)
        weights = tf.cast(counted, losses.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the confusion matrix, (classes, classes)."""
        return confusion_matrix(predictions, labels, self._classes)

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return mean_iou(tally)


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Returns the cross-entropy of each label, of the labels' shape."""
    classes = logits.shape[-1]
    target = tf.one_hot(labels, classes)
    target = target * (1 - smoothing) + smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def task_for(spec: ArchSpec, data: ImageData) -> Task:
    """Returns the task that a data set is for.

    Raises:
      UserError: the network is for the other task.
    """
    *output_sides, classes = spec.graph.nodes[-1].shape
    if not data.masks:
        if output_sides:
            raise UserError(
                f"{spec.name} is a segmentation network, but {data.name} has one class for each "
                "image: use --dataset=rendered_masks, or another pool"
            )
        return Classification()
    if tuple(output_sides) != spec.input_shape[:2]:
        raise UserError(
            f"{spec.name} does not predict a class for each pixel, as {data.name} needs: use "
            "--pool=segmentation, or another data set"
        )
    return Segmentation(classes)

"""The tasks that a network can be trained for: classification and segmentation.

The data set decides which task it is (`task_for`). A task provides the loss to train with and the
score that ranks candidates.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config.training import BALANCED
from efficientnet_elite.data import IGNORED, ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.scores import confusion_matrix, mean_iou


class Task(Protocol):
    """Loss and score of a network's logits.

    To score a data set, `tally` each batch, add up the tallies, and take the `score` of the sum.
    """

    def labels_shape(self, batch: int | None, height: int, width: int) -> tuple[int | None, ...]:
        """Returns the shape of a batch of labels, for images of this height and width."""

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """Returns the mean cross-entropy, a scalar.

        Args:
          logits: float32, of the labels' shape and (classes,).
          labels: int32, of `labels_shape`; or the share of each class, float32, of the logits'
            shape, where images were mixed.
          smoothing: share of each target that is spread evenly over all classes, 0..1.
        """

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the counts of a batch from which the score is computed.

        Args:
          predictions: predicted classes, of `labels_shape`.
          labels: true classes, of `labels_shape`.
        """

    def score(self, tally: NDArray[np.int64]) -> float:
        """Returns the score of a sum of tallies, 0..1, by which networks are judged."""

    def accuracies(self, tally: NDArray[np.int64]) -> dict[str, float]:
        """Returns ``top1`` and ``balanced`` accuracy of a sum of tallies; empty for masks."""


class Classification:
    """One class for each image. The score is the top-1 or the balanced accuracy.

    Args:
      classes: number of classes.
      weights: weight of each class in the loss, (classes,); None: all have the same.
      score: ``top-1`` or ``balanced``.
    """

    def __init__(
        self,
        classes: int,
        weights: NDArray[np.float32] | None = None,
        score: str = "top-1",
    ):
        self._classes, self._weights = classes, weights
        self._score = score

    def labels_shape(self, batch: int | None, height: int, width: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return (batch,)

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`."""
        losses = _cross_entropy(logits, labels, smoothing)
        return keras.ops.mean(_weighted(losses, labels, self._weights))

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns each class's number of correct images and number of images, (2, classes)."""
        right = labels[predictions == labels]
        return np.stack([np.bincount(each, minlength=self._classes) for each in (right, labels)])

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return self.accuracies(tally)["balanced" if self._score == BALANCED else "top1"]

    def accuracies(self, tally: NDArray[np.int64]) -> dict[str, float]:
        """See `Task`. Classes without images do not count in the balanced accuracy."""
        right, images = tally
        known = images > 0
        return {
            "top1": int(right.sum()) / int(images.sum()),
            "balanced": float((right[known] / images[known]).mean()),
        }


class Segmentation:
    """One class for each pixel. The score is the mean intersection over union.

    Args:
      classes: number of classes.
      weights: weight of each class in the loss, (classes,); None: all have the same.
    """

    def __init__(self, classes: int, weights: NDArray[np.float32] | None = None):
        self._classes, self._weights = classes, weights

    def labels_shape(self, batch: int | None, height: int, width: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return batch, height, width

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`. The mean is over the pixels that are not `IGNORED`."""
        counted = labels != IGNORED
        known = keras.ops.where(counted, labels, 0)
        losses = _weighted(_cross_entropy(logits, known, smoothing), known, self._weights)
        weights = keras.ops.cast(counted, losses.dtype)
        # Where no pixel counts, the sum of the losses is 0, too.
        return keras.ops.sum(losses * weights) / keras.ops.maximum(keras.ops.sum(weights), 1)

    def tally(self, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the confusion matrix, (classes, classes)."""
        return confusion_matrix(predictions, labels, self._classes)

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return mean_iou(tally)

    def accuracies(self, tally: NDArray[np.int64]) -> dict[str, float]:
        """See `Task`."""
        return {}


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Returns the cross-entropy of each label, of the logits' shape without the classes."""
    classes = logits.shape[-1]
    target = labels if _are_shares(labels) else keras.ops.one_hot(labels, classes)
    target = target * (1 - smoothing) + smoothing / classes
    return keras.ops.categorical_crossentropy(target, logits, from_logits=True)


def _weighted(losses: Any, labels: Any, weights: NDArray[np.float32] | None) -> Any:
    """Returns each loss times the weight of its label's class, or the mean of those it shares."""
    if weights is None:
        return losses
    if _are_shares(labels):
        return losses * keras.ops.matmul(labels, weights)
    return losses * keras.ops.take(weights, labels)


def _are_shares(labels: Any) -> bool:
    """Whether labels are the share of each class, of images that were mixed."""
    return "float" in keras.backend.standardize_dtype(labels.dtype)


def task_for(
    spec: ArchSpec,
    data: ImageData,
    weights: NDArray[np.float32] | None = None,
    score: str = "top-1",
) -> Task:
    """Returns the task that a data set is for.

    Args:
      spec: the network.
      data: the data set.
      weights: weight of each class in the loss, (classes,); None: all have the same.
      score: `TrainConfig.score`.

    Raises:
      UserError: the network is for the other task, or masks have no such score.
    """
    *output_sides, classes = spec.graph.nodes[-1].shape
    if not data.masks:
        if output_sides:
            raise UserError(
                f"{spec.name} is a segmentation network, but {data.name} has one class for each "
                "image: use --dataset=rendered_masks, or another pool"
            )
        return Classification(classes, weights, score)
    if tuple(output_sides) != spec.input_shape[:2]:
        raise UserError(
            f"{spec.name} does not predict a class for each pixel, as {data.name} needs: use "
            "--pool=segmentation, or another data set"
        )
    if score == BALANCED:
        raise UserError(
            f"score={score} is for classifiers, and {data.name} has masks: leave it out (mIoU "
            "counts all classes the same)"
        )
    return Segmentation(classes, weights)


def images_of_score(score: str, data: ImageData) -> int:
    """How many validation images the noise of a score is that of.

    A balanced accuracy is the mean over classes: rare ones make it as noisy as the accuracy on
    fewer images.

    Args:
      score: what networks are judged by, see `TrainConfig.score`.
      data: the data set.
    """
    counts = data.class_counts("validation")
    if score != BALANCED or counts is None:
        return data.sizes["validation"]
    known = counts[counts > 0]
    return round(len(known) ** 2 / float((1 / known).sum()))

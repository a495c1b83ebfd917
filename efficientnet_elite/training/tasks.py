"""What a network is trained for: classes of images, or of pixels.

The data say which. A task gives the loss to train by and the score to choose by.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite.data import IGNORED, ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.scores import confusion, mean_iou


class Task(Protocol):
    """How a network's logits are judged."""

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """Shape of a batch of labels for images of so many pixels a side."""

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """Mean cross-entropy with smoothed labels."""

    def tally(self, choices: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """What counts for the score in a batch; tallies of batches add up."""

    def score(self, tally: NDArray[np.int64]) -> float:
        """From 0 to 1, of a sum of tallies."""


class Classification:
    """A class an image; scored by the share of images that are right (top-1)."""

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return (batch,)

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`."""
        return tf.reduce_mean(_cross_entropy(logits, labels, smoothing))

    def tally(self, choices: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Right images, images."""
        return np.array([(choices == labels).sum(), labels.size], np.int64)

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return int(tally[0]) / int(tally[1])


class Segmentation:
    """A class a pixel; scored by the mean intersection over union.

    Args:
      classes: number of classes.
    """

    def __init__(self, classes: int):
        self._classes = classes

    def labels_shape(self, batch: int | None, side: int) -> tuple[int | None, ...]:
        """See `Task`."""
        return batch, side, side

    def loss(self, logits: Any, labels: Any, smoothing: float) -> Any:
        """See `Task`; the mean is over the pixels that are not ignored."""
        counted = labels != IGNORED
        losses = _cross_entropy(logits, tf.where(counted, labels, 0), smoothing)
        weights = tf.cast(counted, losses.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))

    def tally(self, choices: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """The confusion matrix."""
        return confusion(choices, labels, self._classes)

    def score(self, tally: NDArray[np.int64]) -> float:
        """See `Task`."""
        return mean_iou(tally)


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    classes = logits.shape[-1]
    target = tf.one_hot(labels, classes)
    target = target * (1 - smoothing) + smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def task(spec: ArchSpec, data: ImageData) -> Task:
    """The task that the data set; UserError where the network is for another."""
    *outputs, classes = spec.graph.nodes[-1].shape
    if not data.masks:
        if outputs:
            raise UserError(
                f"{spec.name} classifies pixels, but {data.name} has a class for each image: use "
                "--dataset=rendered_masks, or another pool"
            )
        return Classification()
    if tuple(outputs) != spec.input_shape[:2]:
        raise UserError(
            f"{spec.name} does not classify each pixel, as {data.name} wants: use "
            "--pool=segmentation, or another data set"
        )
    return Segmentation(classes)

"""What a training reports: results of epochs, accuracies in int8, and errors that end it."""

from __future__ import annotations

from dataclasses import dataclass


class Diverged(Exception):
    """The loss is no longer finite; the text says where."""


class TrainingError(Exception):
    """The training of a candidate cannot continue: it diverged or does not fit into memory."""


class OutOfMemory(TrainingError):
    """Memory is too small for this candidate, alone or beside others that are trained now."""


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch of training.

    Attributes:
      epoch: number of the epoch, from 1.
      validation_accuracy: score of the averaged weights on the validation part, 0..1: top-1 or
        balanced accuracy for classification (`TrainConfig.score`), mean intersection over union for
        segmentation.
      train_loss: mean loss over the steps of the epoch (cross-entropy with label smoothing).
      seconds: time for training and validation.
      top1, balanced: top-1 and balanced accuracy, whichever of them is the score; None for
        segmentation, and in records of earlier versions.
    """

    epoch: int
    validation_accuracy: float
    train_loss: float
    seconds: float
    top1: float | None = None
    balanced: float | None = None


@dataclass(frozen=True)
class Int8Result:
    """The score of an epoch's averaged weights after quantization to int8.

    Attributes:
      epoch: number of the epoch, from 1.
      float_accuracy: score in float32, 0..1, as `EpochResult.validation_accuracy`.
      int8_accuracy: score in int8 on the same images, 0..1; None if quantization failed.
      images: number of images of the validation part that were used.
      seconds: time for quantization and evaluation.
      fault: why quantization failed; empty if it did not.
    """

    epoch: int
    float_accuracy: float
    int8_accuracy: float | None
    images: int
    seconds: float
    fault: str = ""

    @property
    def change(self) -> float:
        """Score in int8 minus score in float32, mostly below 0; -1 if quantization failed."""
        return -1.0 if self.int8_accuracy is None else self.int8_accuracy - self.float_accuracy

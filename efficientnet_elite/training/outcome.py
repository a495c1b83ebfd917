"""What a training reports: an epoch that is done, its int8 form's accuracy, or why it has ended.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass


class TrainingError(Exception):
    """A candidate's training cannot go on: diverged, or does not fit into memory."""


class OutOfMemory(TrainingError):
    """Memory does not suffice, be it for this candidate or beside others."""


@dataclass(frozen=True)
class EpochResult:
    """One trained epoch.

    Attributes:
      epoch: from 1.
      validation_accuracy: top-1 of the averaged weights, 0..1.
      train_loss: mean over the steps (cross-entropy, label smoothing included).
      seconds: training and validation.
    """

    epoch: int
    validation_accuracy: float
    train_loss: float
    seconds: float


@dataclass(frozen=True)
class Int8Result:
    """What an epoch's averaged weights are worth in full int8.

    Attributes:
      epoch: from 1.
      float_accuracy: top-1 in float32 on these images, 0..1.
      int8_accuracy: top-1 in int8 on the same images, 0..1; None where there is no int8 form.
      images: how many, of the validation part.
      seconds: conversion and evaluation.
      fault: why there is no int8 form.
    """

    epoch: int
    float_accuracy: float
    int8_accuracy: float | None
    images: int
    seconds: float
    fault: str = ""

    @property
    def change(self) -> float:
        """Accuracy that int8 adds, mostly below 0; without an int8 form all of it is lost: -1."""
        return -1.0 if self.int8_accuracy is None else self.int8_accuracy - self.float_accuracy

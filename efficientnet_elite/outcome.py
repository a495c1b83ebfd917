"""What a training reports: an epoch that is done, or why there will be no more of them.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass


class TrainingError(Exception):
    """A candidate's training cannot go on: diverged, or does not fit into memory."""


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

"""Learning rate as a function of the step, over the whole training whatever the rounds.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from math import cos, pi

from efficientnet_elite.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step ``step`` (from 0), paper.md section 5: linear warm-up, then the decay.

    The exponential decay counts from the beginning of training and falls at whole multiples of
    ``decay_epochs`` ("times 0.97 each 2.4 epochs"); the cosine one ends at 0.
    """
    epoch = step / steps_per_epoch
    if epoch < config.warmup_epochs:
        risen = (step + 1) / (config.warmup_epochs * steps_per_epoch)
        return config.learning_rate * min(1.0, risen)  # warm-up may end within a step
    if config.schedule == "exponential":
        return config.learning_rate * config.decay_rate ** (epoch // config.decay_epochs)
    rest = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.learning_rate * 0.5 * (1 + cos(pi * min(1.0, rest)))

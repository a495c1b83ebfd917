"""The learning rate as a function of the training step.

The schedule covers the whole training; the rounds of a search do not influence it.
"""

from __future__ import annotations

from math import cos, pi

from efficientnet_elite.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step: linear warm-up, then decay.

    The exponential schedule is that of section 5.1 of arXiv 2009.07409: the rate is multiplied by
    0.97 every 2.4 epochs, in steps, counted from the beginning of training. The cosine schedule
    falls from the end of the warm-up to 0.

    Args:
      config: the recipe.
      step: number of the step, from 0.
      steps_per_epoch: steps in an epoch.
    """
    epoch = step / steps_per_epoch
    if epoch < config.warmup_epochs:
        warmup_share = (step + 1) / (config.warmup_epochs * steps_per_epoch)
        # Above 1 if the warm-up ends between this step and the next.
        return config.learning_rate * min(1.0, warmup_share)
    if config.schedule == "exponential":
        return config.learning_rate * config.decay_rate ** (epoch // config.decay_epochs)
    decay_share = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.learning_rate * 0.5 * (1 + cos(pi * min(1.0, decay_share)))

"""Frozen settings. Command-line flags become these at once; nothing below reads a flag.

This module must not import TensorFlow or Keras, nor read the environment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split.

    Attributes:
      dataset: ``digits``, ``folder:PATH``, ``tfds:NAME`` or ``rendered[:key=value,...]``.
      validation_fraction: share of the training part split off for eliminations, where the source
        brings no validation part of its own.
      test_fraction: share of all images held out for the reported accuracy, where the source
        brings no test part of its own.
      seed: of the splits (and of nothing else).
      data_dir: where TFDS looks for prepared data sets (None: its own default).
      cache_gb: decoded images up to this many gigabytes are kept in memory and shared by all
        candidates; a larger set is decoded anew each epoch.
    """

    dataset: str = "digits"
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    data_dir: str | None = None
    cache_gb: float = 2.0

"""How TensorFlow runs the graphs of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from efficientnet_elite.training.outcome import OutOfMemory


@contextmanager
def out_of_memory_as_training_error() -> Iterator[None]:
    """Raises `OutOfMemory` in place of the errors by which TensorFlow and Python report it."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise OutOfMemory("out of memory: try a smaller --batch_size") from error


@contextmanager
def unoptimized_graphs() -> Iterator[None]:
    """Switches off TensorFlow's graph optimizer, which takes seconds and makes nothing faster."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        disabled = before.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": disabled})

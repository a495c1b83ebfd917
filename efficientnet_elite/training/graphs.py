"""How TensorFlow runs the graphs of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
from tensorflow.python.framework import ops

from efficientnet_elite.training.outcome import OutOfMemory

_OUT_OF_MEMORY = "out of memory: try a smaller --batch_size"


@contextmanager
def out_of_memory_as_training_error() -> Iterator[None]:
    """Raises `OutOfMemory` in place of the errors by which TensorFlow and Python report it."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise OutOfMemory(_OUT_OF_MEMORY) from error
    except RuntimeError as error:  # the class of JAX's errors
        if "RESOURCE_EXHAUSTED" in str(error):
            raise OutOfMemory(_OUT_OF_MEMORY) from error
        raise


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


@contextmanager
def removable_graphs() -> Iterator[None]:
    """Lets the graphs that are traced in this context be freed with their functions.

    Each operation with a gradient of its own, such as swish, enters a function into a table of
    TensorFlow that lasts as long as the process. That keeps the function's whole graph, which has
    more than 100 MB for a training. The entries are needed only for gradients of a finished graph,
    which nothing here asks for: a training step computes its gradients while it is traced.
    """
    table = getattr(
        ops.gradient_registry, "_registry", {}
    )  # not public: memory alone depends on it
    before = set(table)
    try:
        yield
    finally:
        for name in [name for name in table if name not in before]:
            if name.startswith("CustomGradient-"):
                del table[name]

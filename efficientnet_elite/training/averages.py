"""The exponential moving average of a model's weights, which is what is evaluated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class Averages:
    """Moving averages of the variables of a model that are floating point numbers.

    They include the statistics of batch normalisation, as in the code of EfficientNet's authors.

    Args:
      model_variables: all variables of the model. The averages begin with their values.

    Attributes:
      averaged: the variables of the model that are averaged.
      variables: the averages, in the same order.
    """

    def __init__(self, model_variables: Sequence[Any]):
        self.averaged = [v for v in model_variables if "float" in v.dtype]
        self.variables = [keras.Variable(v, trainable=False) for v in self.averaged]

    def update(self, decay: Any) -> None:
        """Moves the averages towards the current values, with TensorFlow; can be traced.

        Args:
          decay: share of the old average that remains, a scalar.
        """
        moved = tf.convert_to_tensor(1 - decay)
        for average, variable in zip(self.variables, self.averaged, strict=True):
            # average -= (1 - decay) * (average - variable). The kernel does it in place, because
            # memory traffic is what makes this step slow. Raw operations, because there are
            # hundreds of variables, and operators take a third of the time for building a graph.
            values = [
                tf.raw_ops.ReadVariableOp(resource=each.value.handle, dtype=average.dtype)
                for each in (average, variable)
            ]
            delta = tf.raw_ops.Sub(x=values[0], y=values[1])
            tf.raw_ops.ResourceApplyGradientDescent(
                var=average.value.handle, alpha=moved, delta=delta
            )

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Context in which the model has the averages as its weights."""
        current_values = [keras.ops.copy(v) for v in self.averaged]
        for variable, average in zip(self.averaged, self.variables, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self.averaged, current_values, strict=True):
                variable.assign(value)

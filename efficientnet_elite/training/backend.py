"""The backends of Keras that train: TensorFlow, and JAX where a worker was started with it.

Pretrained starts, losses, distillation and evaluation are the same code for both. What differs is
the training step (`step`, `jax_step`), and how functions are compiled. Images come from tf.data
with both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def uses_jax() -> bool:
    """Whether Keras runs on JAX in this process; otherwise it runs on TensorFlow."""
    return keras.backend.backend() == "jax"


def compiled(
    function: Callable[[Any], Any], model: keras.Model, shape: Sequence[int | None] | None = None
) -> Callable[[Any], Any]:
    """Compiles a function of images that calls a Keras model in inference.

    Args:
      function: takes images, float32 (n, height, width, channels). What it computes must depend on
        these and on the variables of the model alone.
      model: the model. The function sees the values that its variables have at each call.
      shape: of the images, to compile for at once; by default, and with JAX, it is compiled when it
        is called.
    """
    if uses_jax():
        return _compiled_by_jax(function, model)
    traced = tf.function(function, autograph=False)
    if shape is None:
        return traced
    return traced.get_concrete_function(tf.TensorSpec(shape, tf.float32))


def _compiled_by_jax(function: Callable[[Any], Any], model: keras.Model) -> Callable[[Any], Any]:
    import jax

    variables = list(model.variables)

    @jax.jit
    def compute(values: list[Any], images: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(images)

    return lambda images: compute([v.value for v in variables], np.asarray(images))


def use_jax_devices(number: int, workers: int | None) -> None:
    """Chooses the devices that this process trains on, of those that JAX finds.

    A worker that is alone divides each batch over all of them, by Keras' distribution API.

    Args:
      number: of the worker; workers are spread over the devices, and may share one.
      workers: number of workers on this machine; None where it is not known.
    """
    import jax

    devices = jax.devices()
    if workers == 1 and len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    else:
        jax.config.update("jax_default_device", devices[number % len(devices)])


def as_arrays(outputs: Any) -> list[Any]:
    """The outputs of a Keras model as NumPy arrays, also where there is only one."""
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]

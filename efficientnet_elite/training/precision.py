"""Mixed precision and determinism: in which numbers a training step computes, by which kernels.

Only the training step computes in fewer bits. Weights, averages and the state of the optimizer are
float32, batch normalisation and the loss are computed in it, and so is all that is evaluated,
quantized and exported. A checkpoint therefore does not depend on the precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from efficientnet_elite.config import FLOAT32, TrainConfig

# The first generation of NVIDIA's GPUs for which Keras recommends mixed_float16 (compute capability
# 7.0 and higher, https://www.tensorflow.org/guide/mixed_precision).
_FAST_FLOAT16 = (7, 0)
# Those of keras.optimizers.LossScaleOptimizer: the factor at first, and after how many steps it
# doubles.
_FIRST_SCALE, _GROWTH_STEPS = 2.0**15, 2000


def decided(train: TrainConfig, backend: str = "tensorflow") -> TrainConfig:
    """The recipe with precision and determinism by the devices of this machine, if it has none.

    Args:
      train: the recipe.
      backend: of Keras that trains. With JAX a loss is not scaled, so that it needs bfloat16.
    """
    gpus = tf.config.list_physical_devices("GPU")
    fast = "float16" if backend == "tensorflow" else "bfloat16"
    precision = fast if gpus and all(map(_is_fast_in_float16, gpus)) else FLOAT32
    return train.as_begun(replace(train, precision=precision, deterministic=not gpus))


def _is_fast_in_float16(gpu: Any) -> bool:
    details = tf.config.experimental.get_device_details(gpu)
    return details.get("compute_capability", (0, 0)) >= _FAST_FLOAT16


def remarks(asked: TrainConfig, train: TrainConfig) -> list[str]:
    """Lines about what was decided on a GPU.

    Args:
      asked: the recipe that a user asked for.
      train: what `decided` has made of it.
    """
    lines = []
    if asked.precision != train.precision != FLOAT32:
        lines.append(
            f"training computes in mixed {train.precision}, as Keras recommends for this GPU: "
            f"--precision={FLOAT32} computes in float32"
        )
    if asked.deterministic is None and not train.deterministic:
        lines.append(
            "training on this GPU is faster and not deterministic: with --deterministic, the same "
            "command gives the same scores"
        )
    return lines


def use_deterministic_kernels(wanted: bool) -> None:
    """Has TensorFlow use deterministic kernels only, for as long as this process lives.

    Args:
      wanted: whether to do so. TensorFlow cannot go back: after a training with deterministic
        kernels, those of the same process without them have them, too.
    """
    if wanted:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def in_precision(model: keras.Model, precision: str) -> Iterator[None]:
    """Context in which a model computes in mixed precision; graphs that are traced in it stay so.

    Args:
      model: its variables are float32, and stay so.
      precision: ``float32``, ``bfloat16`` or ``float16``.
    """
    policy = keras.DTypePolicy(precision if precision == FLOAT32 else f"mixed_{precision}")
    layers = [*_layers(model)]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = policy
    try:
        yield
    finally:
        for layer, its_own in zip(layers, before, strict=True):
            layer.dtype_policy = its_own


def _layers(model: Any) -> Iterable[Any]:
    """All layers of a model, also those of models within it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


class LossScale:
    """The factor of the loss that keeps gradients in the range of float16.

    It follows `keras.optimizers.LossScaleOptimizer`, which wraps optimizers of Keras alone: a step
    with gradients that are not finite is left out and halves the factor, and it doubles after 2,000
    steps without one.
    """

    def __init__(self) -> None:
        self._scale = tf.Variable(_FIRST_SCALE, trainable=False)
        self._good_steps = tf.Variable(0, trainable=False)

    @property
    def state(self) -> tuple[float, int]:
        """The factor, and the number of steps since it changed."""
        return float(self._scale), int(self._good_steps)

    @state.setter
    def state(self, value: tuple[float, int]) -> None:
        self._scale.assign(value[0])
        self._good_steps.assign(value[1])

    def scaled(self, loss: Any) -> Any:
        """A loss times the factor."""
        return loss * self._scale

    def unscaled(self, gradients: Sequence[Any]) -> list[Any]:
        """Gradients of a scaled loss, divided by the factor."""
        return [gradient / self._scale for gradient in gradients]

    def apply(self, gradients: Sequence[Any], step: Callable[[], None]) -> None:
        """Makes a step where all gradients are finite, and updates the factor.

        Args:
          gradients: unscaled ones.
          step: updates the variables of the model.
        """
        scale, good_steps = self._scale, self._good_steps

        def finite() -> None:
            step()
            grows = tf.equal(good_steps, _GROWTH_STEPS - 1)
            scale.assign(tf.where(grows, 2 * scale, scale))
            good_steps.assign(tf.where(grows, 0, good_steps + 1))

        def not_finite() -> None:
            scale.assign(scale / 2)
            good_steps.assign(0)

        is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        tf.cond(is_finite, finite, not_finite)

"""Optimizers of the training loop, each as a few fused kernels on the model's variables.

Keras' own optimizers run about eight small kernels for each variable, which takes longer than the
arithmetic in the small networks of this project. Everything here can be traced into a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from efficientnet_elite.config import TrainConfig

BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class Optimizer(Protocol):
    """Updates the trainable variables of a model.

    Attributes:
      variables: the whole state of the optimizer, in an order that is always the same.
    """

    variables: list[Any]

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """Makes one step.

        Args:
          gradients: of the loss, one for each trainable variable.
          rate: learning rate, a float32 scalar.
          step: number of the step, from 0, an int64 scalar.
        """


class RMSProp:
    """RMSProp with momentum and L2 penalty, as in the code of EfficientNet's authors.

    Args:
      trainable: trainable Keras variables of the model.
      config: the recipe; its rho, momentum, epsilon and weight_decay are used.
    """

    def __init__(self, trainable: Sequence[Any], config: TrainConfig):
        self._trainable, self._config = trainable, config
        # The mean squares start at one, as in TensorFlow's RMSProp; those of Keras start at zero.
        self._mean_squares = [_state(v, "ones") for v in trainable]
        self._momenta = [_state(v, "zeros") for v in trainable]
        self.variables = [*self._mean_squares, *self._momenta]

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """See `Optimizer.apply`; the step is not used."""
        config = self._config
        # Tensors, because each use of a number would add a constant to the graph.
        rho, momentum_rate, epsilon, weight_decay = map(
            tf.constant, (config.rho, config.momentum, config.epsilon, config.weight_decay)
        )
        for gradient, variable, mean_square, momentum in zip(
            gradients, self._trainable, self._mean_squares, self._momenta, strict=True
        ):
            if not is_batch_norm(variable):
                gradient = _penalized(gradient, variable, weight_decay)
            # Its epsilon is inside the root, as in the paper's code.
            tf.raw_ops.ResourceApplyRMSProp(
                var=variable.value.handle,
                ms=mean_square.value.handle,
                mom=momentum.value.handle,
                lr=rate,
                rho=rho,
                momentum=momentum_rate,
                epsilon=epsilon,
                grad=gradient,
            )


class AdamW:
    """Adam (arXiv 1412.6980) with decoupled weight decay (arXiv 1711.05101).

    Only kernels decay. Biases and the variables of batch normalisation do not.

    Args:
      trainable: trainable Keras variables of the model.
      config: the recipe; its weight_decay is used.
    """

    def __init__(self, trainable: Sequence[Any], config: TrainConfig):
        self._trainable, self._weight_decay = trainable, config.weight_decay
        self._means = [_state(v, "zeros") for v in trainable]
        self._mean_squares = [_state(v, "zeros") for v in trainable]
        self.variables = [*self._means, *self._mean_squares]

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """See `Optimizer.apply`."""
        # The bias correction depends on the step alone, so these powers are no state.
        exponent = tf.cast(step + 1, tf.float32)
        beta_1_power, beta_2_power = tf.pow(BETA_1, exponent), tf.pow(BETA_2, exponent)
        decay = rate * self._weight_decay
        beta_1, beta_2, epsilon = map(tf.constant, (BETA_1, BETA_2, ADAM_EPSILON))
        for gradient, variable, mean, mean_square in zip(
            gradients, self._trainable, self._means, self._mean_squares, strict=True
        ):
            if self._weight_decay and is_kernel(variable):
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=variable.value.handle,
                    alpha=decay,
                    delta=_read(variable),
                )
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=mean.value.handle,
                v=mean_square.value.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=rate,
                beta1=beta_1,
                beta2=beta_2,
                epsilon=epsilon,
                grad=gradient,
            )


class SGD:
    """Stochastic gradient descent with Nesterov momentum and L2 penalty on kernels.

    Args:
      trainable: trainable Keras variables of the model.
      config: the recipe; its momentum and weight_decay are used.
    """

    def __init__(self, trainable: Sequence[Any], config: TrainConfig):
        self._trainable, self._config = trainable, config
        self._momenta = [_state(v, "zeros") for v in trainable]
        self.variables = list(self._momenta)

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """See `Optimizer.apply`; the step is not used."""
        momentum_rate, weight_decay = map(
            tf.constant, (self._config.momentum, self._config.weight_decay)
        )
        for gradient, variable, momentum in zip(
            gradients, self._trainable, self._momenta, strict=True
        ):
            if self._config.weight_decay and is_kernel(variable):
                gradient = _penalized(gradient, variable, weight_decay)
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.value.handle,
                accum=momentum.value.handle,
                lr=rate,
                grad=gradient,
                momentum=momentum_rate,
                use_nesterov=True,
            )


_OPTIMIZERS: Mapping[str, Callable[[Sequence[Any], TrainConfig], Optimizer]] = {
    "rmsprop": RMSProp,
    "adamw": AdamW,
    "sgd": SGD,
}


def optimizer_for(config: TrainConfig, trainable: Sequence[Any]) -> Optimizer:
    """Returns the optimizer that a recipe names, for the trainable variables of a model."""
    return _OPTIMIZERS[config.optimizer](trainable, config)


def clipped(gradients: Sequence[Any], norm: float | None) -> Sequence[Any]:
    """Returns the gradients, scaled down if their common L2 norm exceeds ``norm``; None: as is."""
    return gradients if norm is None else tf.clip_by_global_norm(gradients, norm)[0]


def _penalized(gradient: Any, variable: Any, weight_decay: Any) -> Any:
    """The gradient with that of weight_decay / 2 * |w|^2 (L2), without computing this sum."""
    decay = tf.raw_ops.Mul(x=weight_decay, y=_read(variable))
    return tf.raw_ops.AddV2(x=gradient, y=decay)


def _state(variable: Any, values: str) -> keras.Variable:
    """A variable of an optimizer, of the shape of one of the model, all ``zeros`` or ``ones``."""
    return keras.Variable(values, shape=variable.shape, dtype=variable.dtype, trainable=False)


def _read(variable: Any) -> Any:
    return tf.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.value.dtype)


def is_batch_norm(variable: Any) -> bool:
    """Whether a variable is the scale or shift of batch normalisation."""
    return variable.path.split("/")[-1] in ("gamma", "beta")


def is_kernel(variable: Any) -> bool:
    """Whether a variable is the kernel of a convolution or dense layer."""
    return variable.path.split("/")[-1] == "kernel"

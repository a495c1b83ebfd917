"""One step of a training with Keras' JAX backend.

It computes what `step.TrainingStep` computes, from and to the same variables, so that a checkpoint
of either is continued by the other. JAX works on values instead of variables: the state of the
training is held here between steps, and written to the variables when somebody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import condense
from efficientnet_elite.training import mixing
from efficientnet_elite.training.averages import Averages
from efficientnet_elite.training.distillation import Distillation
from efficientnet_elite.training.objective import Objective
from efficientnet_elite.training.optimizers import (
    ADAM_EPSILON,
    BETA_1,
    BETA_2,
    is_batch_norm,
    is_kernel,
    optimizer_for,
)
from efficientnet_elite.training.precision import in_precision
from efficientnet_elite.training.tasks import Task

Arrays: TypeAlias = list[Any]  # of JAX, one for each variable


class JaxStep:
    """Trains a network on one batch after the other; see `step.TrainingStep` for the arguments.

    Attributes:
      loss_scale: None, because there is no float16 here.

    Raises:
      UserError: the recipe computes in float16. `trace`: devices cannot share a batch equally.
    """

    loss_scale = None

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        config: TrainConfig,
        *,
        seed: int,
        unlabelled: int = 0,
        distillation: Distillation | None = None,
        frozen_norms: tuple[Any, ...] = (),
    ) -> None:
        if config.precision == "float16":
            raise UserError("JAX trains in float32 or bfloat16: use --precision=bfloat16")
        self._model, self._task, self._config, self._seed = model, task, config, seed
        self._unlabelled = unlabelled
        self._objective = Objective(model, task, config, distillation, frozen_norms)
        self._learned_convolutions = condense.learned_layers(model)
        weights = list(model.variables)
        self._averages = Averages(weights)
        self._variables = {
            "weights": weights,
            "average": self._averages.variables,
            "optimizer": optimizer_for(config, model.trainable_variables).variables,
        }
        self._parts = {
            "trainable": list(model.trainable_variables),
            "others": list(model.non_trainable_variables),
            "average": self._averages.variables,
            "optimizer": self._variables["optimizer"],
        }
        self._teacher = [] if distillation is None else list(distillation.variables)
        self._state: dict[str, Arrays] | None = None  # None: the variables have it
        self._mix = tf.function(self._mixed, autograph=False)
        self._compiled: Any = None
        self._shardings: tuple[Any, Any] = (None, None)  # of images and labels

    @property
    def averages(self) -> Averages:
        """The averaged weights."""
        self._write_back()
        return self._averages

    @property
    def variables(self) -> Mapping[str, Sequence[Any]]:
        """The whole state by the parts of a checkpoint. It may be changed between two steps."""
        self._write_back()
        return self._variables

    def _write_back(self) -> None:
        if self._state is None:
            return
        for part, variables in self._parts.items():
            for variable, value in zip(variables, self._state[part], strict=True):
                variable.assign(value)
        self._state = None

    def _read(self) -> dict[str, Arrays]:
        # Copies, because the step reuses the memory of what it is given.
        return {
            part: [jnp.array(variable.value) for variable in variables]
            for part, variables in self._parts.items()
        }

    def trace(self) -> None:
        """Compiles the step, for batches of the recipe's size."""
        image, size = self._model.input_shape[1:], self._config.batch_size
        images = self._batch((size + self._unlabelled, *image), np.float32)
        labels = self._batch(self._task.labels_shape(size, *image[:2]), np.int32)
        if self._config.mix != "none":
            labels = self._batch((size, self._model.output_shape[-1]), np.float32)
        self._shardings = images.sharding, labels.sharding
        scalar = jax.ShapeDtypeStruct((), np.float32)
        state = self._read()
        # New values lie where the old ones did: on each of the devices that share a batch.
        places = jax.tree.map(lambda array: array.sharding, state), None
        step = jax.jit(self._train, donate_argnums=0, out_shardings=places)
        with in_precision(self._model, self._config.precision):
            lowered = step.lower(
                state,
                [variable.value for variable in self._teacher],
                images,
                labels,
                scalar,
                scalar,
                scalar,
                scalar,
            )
        self._compiled = lowered.compile()

    def _batch(self, shape: Any, dtype: Any) -> jax.ShapeDtypeStruct:
        """A batch, divided over the devices if this process trains on several."""
        distribution = keras.distribution.distribution()
        if distribution is None:
            return jax.ShapeDtypeStruct(shape, dtype)
        parts = self._config.accumulate * len(distribution.device_mesh.devices)
        if shape[0] % parts:
            raise UserError(
                f"{shape[0]} images cannot be divided over {len(distribution.device_mesh.devices)} "
                "devices: use a multiple as --batch_size, or --workers=2 or more"
            )
        layout = distribution.get_data_layout(shape).backend_layout
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)

    def __call__(self, images: Any, labels: Any, rate: float, *, step: int, steps: int) -> Any:
        """See `step.TrainingStep`."""
        if self._learned_convolutions:
            self._write_back()
            condense.drop_due_channels(self._learned_convolutions, step, steps)
        if self._config.mix != "none":
            images, labels = self._mix(images, labels, tf.constant(step, tf.int64))
        state, self._state = self._state or self._read(), None
        numbers = (
            rate,
            min(self._config.ema, (1 + step) / (10 + step)),  # see `step.TrainingStep`
            step,
            self._config.distill_weight * max(0.0, 1 - step / steps),
        )
        self._state, loss = self._compiled(
            state,
            [variable.value for variable in self._teacher],
            jax.device_put(np.asarray(images), self._shardings[0]),
            jax.device_put(np.asarray(labels), self._shardings[1]),
            *map(np.float32, numbers),
        )
        return loss

    def _mixed(self, images: Any, labels: Any, step: Any) -> Any:
        classes = self._model.output_shape[-1]
        return mixing.mixed(self._config.mix, images, labels, classes, seed=self._seed, step=step)

    # -- what is compiled ------------------------------------------------------------------------

    def _train(
        self,
        state: dict[str, Arrays],
        teacher: Arrays,
        images: Any,
        labels: Any,
        rate: Any,
        decay: Any,
        step: Any,
        distill_weight: Any,
    ) -> tuple[dict[str, Arrays], Any]:
        loss, gradients, others = self._mean_gradients(
            state, teacher, images, labels, distill_weight
        )
        if (norm := self._config.gradient_clip) is not None:
            length = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients))
            gradients = [gradient * (norm / jnp.maximum(length, norm)) for gradient in gradients]
        update = _UPDATES[self._config.optimizer]
        trainable, optimizer = update(
            self._config,
            self._parts["trainable"],
            state["trainable"],
            gradients,
            state["optimizer"],
            rate,
            step,
        )
        new = {"trainable": trainable, "others": others, "optimizer": optimizer}
        value_of = {
            id(variable): value
            for part in ("trainable", "others")
            for variable, value in zip(self._parts[part], new[part], strict=True)
        }
        new["average"] = [
            average - (1 - decay) * (average - value_of[id(variable)])
            for variable, average in zip(self._averages.averaged, state["average"], strict=True)
        ]
        return new, loss

    def _mean_gradients(
        self,
        state: dict[str, Arrays],
        teacher: Arrays,
        images: Any,
        labels: Any,
        distill_weight: Any,
    ) -> tuple[Any, Arrays, Arrays]:
        """Loss, gradients and the new values of what is not trained, see `step.TrainingStep`."""

        def objective(
            trainable: Arrays, others: Arrays, images: Any, labels: Any
        ) -> tuple[Any, tuple[Any, Arrays]]:
            variables = [*self._parts["trainable"], *self._parts["others"], *self._teacher]
            values = [*trainable, *others, *teacher]
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
                targets = jax.lax.stop_gradient(self._objective.targets(images))
                loss, total = self._objective(images, labels, targets, distill_weight)
            new = [scope.get_current_value(variable) for variable in self._parts["others"]]
            return total, (loss, new)

        gradients_of = jax.grad(objective, has_aux=True)
        trainable, others = state["trainable"], state["others"]
        parts = self._config.accumulate
        if parts == 1:
            gradients, (loss, others) = gradients_of(trainable, others, images, labels)
            return loss, gradients, others
        batch = labels.shape[0]

        def split(x: Any) -> Any:
            return jnp.reshape(x, (parts, x.shape[0] // parts, *x.shape[1:]))

        def add(sums: Any, part: Any) -> Any:
            loss, gradients, others = sums
            its_gradients, (its_loss, others) = gradients_of(trainable, others, *part)
            pairs = zip(gradients, its_gradients, strict=True)
            return (loss + its_loss / parts, [a + b / parts for a, b in pairs], others), None

        each = jnp.concatenate([split(images[:batch]), split(images[batch:])], 1), split(labels)
        zeros = [jnp.zeros_like(value) for value in trainable]
        (loss, gradients, others), _ = jax.lax.scan(add, (jnp.zeros(()), zeros, others), each)
        return loss, gradients, others


# -- optimizers: those of `optimizers`, on values ------------------------------------------------

_Update: TypeAlias = Callable[
    [TrainConfig, Sequence[Any], Arrays, Arrays, Arrays, Any, Any], tuple[Arrays, Arrays]
]
"""Takes the recipe, the variables, their values and gradients, the optimizer's state, the learning
rate and the number of the step to new values and the new state."""


def _halves(state: Arrays) -> tuple[Arrays, Arrays]:
    middle = len(state) // 2
    return state[:middle], state[middle:]


def _rmsprop(
    config: TrainConfig,
    variables: Sequence[Any],
    values: Arrays,
    gradients: Arrays,
    state: Arrays,
    rate: Any,
    step: Any,
) -> tuple[Arrays, Arrays]:
    squares, momenta = _halves(state)
    gradients = [
        gradient if is_batch_norm(variable) else gradient + config.weight_decay * value
        for variable, value, gradient in zip(variables, values, gradients, strict=True)
    ]
    squares = [
        s + (jnp.square(g) - s) * (1 - config.rho) for s, g in zip(squares, gradients, strict=True)
    ]
    momenta = [
        config.momentum * m + rate * g / jnp.sqrt(s + config.epsilon)
        for m, g, s in zip(momenta, gradients, squares, strict=True)
    ]
    return [v - m for v, m in zip(values, momenta, strict=True)], [*squares, *momenta]


def _adamw(
    config: TrainConfig,
    variables: Sequence[Any],
    values: Arrays,
    gradients: Arrays,
    state: Arrays,
    rate: Any,
    step: Any,
) -> tuple[Arrays, Arrays]:
    means, squares = _halves(state)
    values = [
        value * (1 - rate * config.weight_decay) if is_kernel(variable) else value
        for variable, value in zip(variables, values, strict=True)
    ]
    means = [m + (g - m) * (1 - BETA_1) for m, g in zip(means, gradients, strict=True)]
    squares = [
        s + (jnp.square(g) - s) * (1 - BETA_2) for s, g in zip(squares, gradients, strict=True)
    ]
    rate = rate * jnp.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1))
    values = [
        v - rate * m / (jnp.sqrt(s) + ADAM_EPSILON)
        for v, m, s in zip(values, means, squares, strict=True)
    ]
    return values, [*means, *squares]


def _sgd(
    config: TrainConfig,
    variables: Sequence[Any],
    values: Arrays,
    gradients: Arrays,
    state: Arrays,
    rate: Any,
    step: Any,
) -> tuple[Arrays, Arrays]:
    gradients = [
        gradient + config.weight_decay * value if is_kernel(variable) else gradient
        for variable, value, gradient in zip(variables, values, gradients, strict=True)
    ]
    momenta = [config.momentum * m + g for m, g in zip(state, gradients, strict=True)]
    values = [
        v - rate * (g + config.momentum * m)
        for v, g, m in zip(values, gradients, momenta, strict=True)
    ]
    return values, momenta


_UPDATES: Mapping[str, _Update] = {"rmsprop": _rmsprop, "adamw": _adamw, "sgd": _sgd}

"""One step of a training as a graph of TensorFlow: from a batch of images to new weights and
averages. `jax_step` is the same with JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.networks import condense
from efficientnet_elite.training import mixing
from efficientnet_elite.training.averages import Averages
from efficientnet_elite.training.distillation import Distillation
from efficientnet_elite.training.objective import Objective
from efficientnet_elite.training.optimizers import clipped, optimizer_for
from efficientnet_elite.training.precision import LossScale, in_precision
from efficientnet_elite.training.tasks import Task


class TrainingStep:
    """Trains a network on one batch after the other.

    Args:
      model: the network, with the weights that its training begins with.
      task: what it is trained for.
      config: the recipe.
      seed: of what is mixed.
      unlabelled: number of images without labels that follow those with labels in each batch, a
        multiple of `TrainConfig.accumulate`.
      distillation: of another network; None without one.
      frozen_norms: layers of batch normalisation whose statistics stay as they are.

    Attributes:
      averages: the averaged weights.
      loss_scale: the factor of the loss in float16; None for other numbers.
      variables: the whole state by the parts of a checkpoint, see `checkpoint.PARTS`.
    """

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
        self._model, self._task, self._config, self._seed = model, task, config, seed
        self._unlabelled = unlabelled
        self._objective = Objective(model, task, config, distillation, frozen_norms)
        self._learned_convolutions = condense.learned_layers(model)
        weights = list(model.variables)
        self.averages = Averages(weights)
        self._optimizer = optimizer_for(config, model.trainable_variables)
        self.loss_scale = LossScale() if config.precision == "float16" else None
        self.variables = {
            "weights": weights,
            "average": self.averages.variables,
            "optimizer": self._optimizer.variables,
        }
        self.graph: Any = None

    def trace(self) -> None:
        """Builds the graph, for batches of the recipe's size."""
        image, size = self._model.input_shape[1:], self._config.batch_size
        scalar = tf.TensorSpec((), tf.float32)
        with in_precision(self._model, self._config.precision):
            self.graph = tf.function(self._train, autograph=False).get_concrete_function(
                tf.TensorSpec((size + self._unlabelled, *image), tf.float32),
                tf.TensorSpec(self._task.labels_shape(size, *image[:2]), tf.int32),
                scalar,
                scalar,
                tf.TensorSpec((), tf.int64),
                scalar,
            )

    def __call__(self, images: Any, labels: Any, rate: float, *, step: int, steps: int) -> Any:
        """Trains on one batch and updates the averages.

        Args:
          images: float32 (batch, height, width, channels); the unlabelled ones are the last.
          labels: int32, of the task's shape.
          rate: learning rate.
          step: number of the step, from 0.
          steps: of the whole training.

        Returns:
          The loss of the labels, a scalar.
        """
        condense.drop_due_channels(self._learned_convolutions, step, steps)
        # The decay grows with the step, so that short trainings have a useful average as well.
        decay = min(self._config.ema, (1 + step) / (10 + step))
        distill_weight = self._config.distill_weight * max(0.0, 1 - step / steps)
        return self.graph(
            images,
            labels,
            tf.constant(rate),
            tf.constant(decay),
            tf.constant(step, tf.int64),
            tf.constant(distill_weight),
        )

    def _train(
        self, images: Any, labels: Any, rate: Any, decay: Any, step: Any, distill_weight: Any
    ) -> Any:
        # Before the teacher looks: it teaches what the student sees.
        images, labels = mixing.mixed(
            self._config.mix,
            images,
            labels,
            self._model.output_shape[-1],
            seed=self._seed,
            step=step,
        )
        loss, gradients = self._mean_gradients(images, labels, distill_weight)
        if self.loss_scale is not None:
            gradients = self.loss_scale.unscaled(gradients)

        def update() -> None:
            clip = self._config.gradient_clip
            self._optimizer.apply(clipped(gradients, clip), rate, step)
            self.averages.update(decay)

        if self.loss_scale is None:
            update()
        else:
            self.loss_scale.apply(gradients, update)
        return loss

    def _mean_gradients(
        self, images: Any, labels: Any, distill_weight: Any
    ) -> tuple[Any, Sequence[Any]]:
        """Returns the means of what `_gradients` gives for the parts of a batch.

        The parts follow one another, so that memory holds the feature maps of one part only.
        """
        parts = self._config.accumulate
        if parts == 1:
            return self._gradients(images, labels, distill_weight)
        batch = labels.shape[0]

        def part(x: Any, number: Any) -> Any:
            return tf.reshape(x, (parts, x.shape[0] // parts, *x.shape[1:]))[number]

        def add(number: Any, *sums: Any) -> tuple[Any, ...]:
            loss, gradients = self._gradients(
                tf.concat([part(images[:batch], number), part(images[batch:], number)], 0),
                part(labels, number),
                distill_weight,
            )
            terms = zip(sums, [loss, *gradients], strict=True)
            return number + 1, *(total + term / parts for total, term in terms)

        zeros = [tf.zeros(variable.shape) for variable in self._model.trainable_variables]
        _, loss, *gradients = tf.while_loop(
            lambda number, *sums: number < parts,
            add,
            (tf.constant(0), tf.constant(0.0), *zeros),
            parallel_iterations=1,
        )
        return loss, gradients

    def _gradients(self, images: Any, labels: Any, distill_weight: Any) -> tuple[Any, list[Any]]:
        """Returns the loss of the labels, and the gradients of all that is minimised, scaled."""
        targets = self._objective.targets(images)
        with tf.GradientTape() as tape:
            loss, objective = self._objective(images, labels, targets, distill_weight)
            if self.loss_scale is not None:
                objective = self.loss_scale.scaled(objective)
        return loss, tape.gradient(objective, self._model.trainable_variables)

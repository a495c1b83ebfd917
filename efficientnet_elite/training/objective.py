"""What a training minimises, for one batch. It is the same with each backend of Keras."""

from __future__ import annotations

from typing import Any

import keras

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.networks import condense
from efficientnet_elite.training.distillation import Distillation
from efficientnet_elite.training.statistics import frozen_statistics
from efficientnet_elite.training.tasks import Task


class Objective:
    """The loss of the labels, with what is added to it.

    Args:
      model: the network.
      task: what it is trained for.
      config: the recipe.
      distillation: of another network; None without one.
      frozen_norms: layers of batch normalisation whose statistics stay as they are.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        config: TrainConfig,
        distillation: Distillation | None,
        frozen_norms: tuple[Any, ...],
    ) -> None:
        self._task, self._smoothing = task, config.label_smoothing
        self._distillation, self._frozen_norms = distillation, frozen_norms
        self._network = model if distillation is None else distillation.outputs
        self._learned_convolutions = condense.learned_layers(model)

    def targets(self, images: Any) -> Any:
        """What the teacher makes of images; no gradient of this is needed."""
        return [] if self._distillation is None else self._distillation.targets(images)

    def __call__(
        self, images: Any, labels: Any, targets: Any, distill_weight: Any
    ) -> tuple[Any, Any]:
        """Computes the losses of a batch in training.

        Args:
          images: float32 (batch, height, width, channels); the unlabelled ones are the last.
          labels: of the others, see `Task.loss`.
          targets: of `targets`, for these images.
          distill_weight: weight of the distance from the teacher, a scalar.

        Returns:
          The loss of the labels, and the sum that is minimised; both are scalars.
        """
        with frozen_statistics(self._frozen_norms):
            computed = keras.tree.flatten(self._network(images, training=True))
        outputs = [keras.ops.cast(output, "float32") for output in computed]
        loss = self._task.loss(outputs[0][: labels.shape[0]], labels, self._smoothing)
        objective = loss
        if self._distillation is not None:
            objective += distill_weight * self._distillation.loss(outputs, targets)
        if self._learned_convolutions:
            lasso = condense.group_lasso_loss(self._learned_convolutions)
            loss += lasso
            objective += lasso
        return loss, objective

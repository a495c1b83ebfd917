"""Trains one network: the recipe of section 5.1 of arXiv 2009.07409, with exact continuation.

There is a training loop here instead of `keras.Model.fit` for three reasons. The averaged weights
include the statistics of batch normalisation, as in the authors' code. The graph is built once,
however many rounds a candidate survives. And the time for building it is measured apart from the
time for training.

It needs Keras with the TensorFlow backend. It knows nothing about groups, rounds or ledgers: those
belong to the search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import CALIBRATION_IMAGES, TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import condense
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.layers import unsplit_groups
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training import start
from efficientnet_elite.training.averages import Averages
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.distillation import Distillation, check_settings
from efficientnet_elite.training.graphs import out_of_memory_as_training_error, unoptimized_graphs
from efficientnet_elite.training.learning_rate import learning_rate
from efficientnet_elite.training.optimizers import clipped, optimizer_for
from efficientnet_elite.training.outcome import EpochResult, Int8Result, TrainingError
from efficientnet_elite.training.statistics import batch_norm_layers, frozen_statistics
from efficientnet_elite.training.tasks import task_for

Infer: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes images (n, height, width, 3), normalised to pixel / 128 - 1, to their logits: (n, classes)
for classification, (n, height, width, classes) for segmentation."""
Quantize: TypeAlias = Callable[[keras.Model, NDArray[np.float32]], Infer]
"""Takes a model and the images of a representative data set to the int8 model; raises UserError if
the model cannot be quantized."""

# The most images for evaluation in int8, which is slow: one image at a time, one thread.
INT8_IMAGES = 5000


class Trainer:
    """Trains one network.

    Args:
      spec: the network.
      config: the recipe.
      data: the data set; the training part trains, the validation part scores.
      base_resolution: input side of the pool's unscaled network in pixels, for the evaluation crop.
      seed: seed of initial weights, data order, augmentation and dropout.
      checkpoint: file that is written after each epoch. If it exists, training continues from it.

    Attributes:
      model: the network in training, with its current (not averaged) weights.
      history: results of the epochs trained so far.
      build_seconds: time for building the network and its graphs, with ``start_seconds``.
      start_seconds: time for loading pretrained weights, adapting them and fitting classifiers; 0
        where a training begins from random weights.
      teacher_seconds: time that the teacher of a distillation takes in each epoch, measured on one
        batch in the first epoch; 0 without distillation.

    Raises:
      TrainingError: memory does not suffice.
      UserError: the network does not fit the data set's task, the checkpoint cannot be used, or the
        network cannot begin from the pretrained weights or learn from them.
    """

    @out_of_memory_as_training_error()
    def __init__(
        self,
        spec: ArchSpec,
        config: TrainConfig,
        data: ImageData,
        *,
        base_resolution: int,
        seed: int,
        checkpoint: Path,
    ):
        started = time.perf_counter()
        # Only deterministic kernels give the same scores from the same seed.
        tf.config.experimental.enable_op_determinism()
        self.spec, self.config, self.checkpoint = spec, config, checkpoint
        self._data, self._seed, self._base_resolution = data, seed, base_resolution
        self._task = task_for(spec, data)
        check_settings(config, data)
        self._unlabelled = 0  # images without labels in a batch, for distillation only
        self.history: list[EpochResult] = []
        trained_spec = training_form(spec.with_drop_rates(config.drop_rates))
        self.model = build(trained_spec, seed=seed, split_groups=True)
        self._learned_convolutions = condense.learned_layers(self.model)
        for layer in batch_norm_layers(self.model):
            layer.momentum = config.batch_norm_momentum
        saved = Checkpoint.load(checkpoint) if checkpoint.is_file() else None
        self._outputs: Callable[..., Any] = self.model
        self._distillation: Distillation | None = None
        self._frozen_norms: list[Any] = []
        self.start_seconds = self.teacher_seconds = 0.0
        self._source = start.load(config.pretrained)
        if self._source is not None:
            self._start_from(self._source, trained_spec, is_new=saved is None)
        self._variables = list(self.model.variables)
        self._averages = Averages(self._variables)
        self._optimizer = optimizer_for(config, self.model.trainable_variables)
        if saved is not None:
            self._restore(saved)
        self._batches: Iterator[Any] | None = None
        self._validation_batches = self._eval_batches("validation")
        self._train_function = tf.function(self._train_step, autograph=False)
        self._predict = tf.function(self._predict_step, autograph=False)
        self._trace_functions()
        self._is_first_step = True
        self.build_seconds = time.perf_counter() - started

    def _start_from(self, source: PretrainedWeights, spec: ArchSpec, is_new: bool) -> None:
        """Gives a new model its pretrained weights, and prepares distillation if it is wanted."""
        started = time.perf_counter()
        selection = start.selection_for(source, spec)
        self.config = start.recipe_for(self.config, selection)
        if self.config.freeze_statistics:
            # Only statistics that were taken over or measured are worth keeping.
            norms = batch_norm_layers(self.model)
            self._frozen_norms = [layer for layer in norms if layer.name in selection.nodes]
        options = {"base_resolution": self._base_resolution, "seed": self._seed}
        if is_new:
            start.begin(self.model, selection, self._data, **options)
        if self.config.distill != "none":
            if self._data.unlabelled is not None:
                self._unlabelled = max(1, self.config.batch_size // 2)
            self._distillation = Distillation(
                self.model,
                selection,
                self.config.distill,
                self._data,
                batch_size=self.config.batch_size + self._unlabelled,
                **options,
            )
            self._outputs = self._distillation.outputs
        self.start_seconds += time.perf_counter() - started

    def _eval_batches(self, part: str) -> Any:
        return data_lib.eval_batches(
            self._data,
            part,
            resolution=self.spec.resolution,
            batch_size=self.config.batch_size,
            base_resolution=self._base_resolution,
        )

    def _trace_functions(self) -> None:
        """Builds the graphs of training and prediction now, so that it counts as building."""
        side, size = self.spec.resolution, self.config.batch_size
        images = tf.TensorSpec((size + self._unlabelled, side, side, 3), tf.float32)
        labels = tf.TensorSpec(self._task.labels_shape(size, side), tf.int32)
        scalar = tf.TensorSpec((), tf.float32)
        self._train_function = self._train_function.get_concrete_function(
            images, labels, scalar, scalar, tf.TensorSpec((), tf.int64), scalar
        )
        self._predict = self._predict.get_concrete_function(
            tf.TensorSpec((None, side, side, 3), tf.float32)
        )

    # -- one step --------------------------------------------------------------------------------

    def _train_step(
        self, images: Any, labels: Any, rate: Any, decay: Any, step: Any, distill_weight: Any
    ) -> Any:
        """Trains on one batch and updates the averages.

        Args:
          images: float32 (batch, side, side, 3); the unlabelled ones are the last.
          labels: int32, of the task's shape.
          rate: learning rate.
          decay: decay of the averages.
          step: number of the step, from 0.
          distill_weight: factor of the distillation loss.

        Returns:
          The loss of the labels, a scalar.
        """
        trainable = self.model.trainable_variables
        teacher = self._distillation
        targets = [] if teacher is None else teacher.targets(images)
        with (
            tf.GradientTape() as tape,
            frozen_statistics(self._frozen_norms),
        ):
            outputs = self._outputs(images, training=True)
            logits = outputs if teacher is None else outputs[0][: self.config.batch_size]
            loss = self._task.loss(logits, labels, self.config.label_smoothing)
            if self._learned_convolutions:
                loss += condense.group_lasso_loss(self._learned_convolutions)
            objective = loss
            if teacher is not None:
                objective += distill_weight * teacher.loss(outputs, targets)
        gradients = clipped(tape.gradient(objective, trainable), self.config.gradient_clip)
        self._optimizer.apply(gradients, rate, step)
        self._averages.update(decay)
        return loss

    def _predict_step(self, images: Any) -> Any:
        """Takes images, float32 (n, side, side, 3), to predicted classes, int32."""
        return tf.argmax(self.model(images, training=False), -1, tf.int32)

    # -- epochs ----------------------------------------------------------------------------------

    @property
    def epochs_done(self) -> int:
        """Number of epochs trained so far."""
        return len(self.history)

    def run(
        self,
        until_epoch: int,
        on_epoch: Callable[[EpochResult], None],
        on_step: Callable[[int, int], None] = lambda step, steps: None,
    ) -> None:
        """Trains until ``until_epoch`` epochs are done and saves a checkpoint after each of them.

        Args:
          until_epoch: number of epochs in all, from the beginning of training.
          on_epoch: called with the result of each epoch once its checkpoint is saved.
          on_step: called after each step with the number of steps done in this epoch and the number
            of steps in an epoch.

        Raises:
          TrainingError: the loss is no longer finite, or memory does not suffice.
        """
        while self.epochs_done < until_epoch:
            started = time.perf_counter()
            build_seconds_before = self.build_seconds
            with out_of_memory_as_training_error(), unoptimized_graphs():
                loss = self._train_epoch(on_step)
                accuracy = self._accuracy(self._validation_batches)
            seconds = time.perf_counter() - started - (self.build_seconds - build_seconds_before)
            result = EpochResult(self.epochs_done + 1, accuracy, loss, seconds)
            self.history.append(result)
            self._save()
            on_epoch(result)

    def _train_epoch(self, on_step: Callable[[int, int], None]) -> float:
        """Trains one epoch and returns its mean loss."""
        if self._batches is None:
            stream, self._steps = data_lib.train_batches(
                self._data,
                resolution=self.spec.resolution,
                batch_size=self.config.batch_size,
                seed=self._seed,
                first_epoch=self.epochs_done,
                unlabelled=self._unlabelled,
            )
            self._batches = iter(stream)
        first_step = self.epochs_done * self._steps
        total_steps = self.config.epochs * self._steps
        losses = []
        for step in range(first_step, first_step + self._steps):
            condense.drop_due_channels(self._learned_convolutions, step, total_steps)
            images, labels = next(self._batches)
            rate = learning_rate(self.config, step, self._steps)
            # The decay grows with the step, so that short trainings have a useful average as well.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            distill_weight = self.config.distill_weight * max(0.0, 1 - step / total_steps)
            started = time.perf_counter()
            losses.append(
                self._train_function(
                    images,
                    labels,
                    tf.constant(rate),
                    tf.constant(decay),
                    tf.constant(step, tf.int64),
                    tf.constant(distill_weight),
                )
            )
            if self._is_first_step:
                # The first call creates the kernels of the graph, which counts as building.
                self.build_seconds += time.perf_counter() - started
                self._is_first_step = False
                if self._distillation is not None:
                    self.teacher_seconds = self._distillation.seconds(images) * self._steps
            on_step(step - first_step + 1, self._steps)
        loss = float(np.mean([float(value) for value in losses]))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss became {loss}: try a lower --learning_rate")
        return loss

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Gives the model the averaged weights for the duration of a with statement."""
        return self._averages.in_model()

    def accuracy(self, part: str) -> float:
        """Returns the score of the averaged weights on a part of the data set, 0..1.

        It is the top-1 accuracy for classification, the mean IoU for segmentation.
        """
        return self._accuracy(self._eval_batches(part))

    def _accuracy(self, batches: Any) -> float:
        with self.averaged_weights():
            tallies = [
                self._task.tally(self._predict(images).numpy(), labels.numpy())
                for images, labels in batches
            ]
        return self._task.score(np.sum(tallies, axis=0))

    def evaluate_int8(self, quantize: Quantize, part: str = "validation") -> Int8Result:
        """Compares the averaged weights in int8 and in float32 on the same images of a part.

        All of its images are used, or `INT8_IMAGES` of them, drawn with the seed, if there are
        more.

        Args:
          quantize: quantizes the model.
          part: of the data set.

        Raises:
          TrainingError: memory does not suffice.
        """
        started = time.perf_counter()
        representative_images, _ = data_lib.calibration_images(
            self._data,
            resolution=self.spec.resolution,
            base_resolution=self._base_resolution,
            count=CALIBRATION_IMAGES,
            seed=self._seed,
        )
        size = self._data.parts[part].size
        is_used = np.random.default_rng(self._seed).permutation(size) < INT8_IMAGES
        infer, fault = None, ""
        float_tallies, int8_tallies, first_in_batch = [], [], 0
        with out_of_memory_as_training_error(), self.averaged_weights():
            try:
                with unsplit_groups(self.model):
                    infer = quantize(self.model, representative_images)
            except UserError as error:
                fault = str(error)
            for batch_images, batch_labels in self._eval_batches(part):
                used_in_batch = is_used[first_in_batch : first_in_batch + len(batch_labels)]
                first_in_batch += len(batch_labels)
                if not used_in_batch.any():
                    continue
                images = batch_images.numpy()[used_in_batch]
                labels = batch_labels.numpy()[used_in_batch]
                float_tallies.append(self._task.tally(self._predict(images).numpy(), labels))
                if infer is not None:
                    int8_tallies.append(self._task.tally(infer(images).argmax(-1), labels))
        return Int8Result(
            epoch=self.epochs_done,
            float_accuracy=self._task.score(np.sum(float_tallies, axis=0)),
            int8_accuracy=None if infer is None else self._task.score(np.sum(int8_tallies, axis=0)),
            images=int(is_used.sum()),
            seconds=time.perf_counter() - started,
            fault=fault,
        )

    # -- state -----------------------------------------------------------------------------------

    def _save(self) -> None:
        Checkpoint(
            spec=self.spec.to_json(),
            history=[asdict(result) for result in self.history],
            parts={
                "weights": [np.asarray(v) for v in self._variables],
                "average": [v.numpy() for v in self._averages.variables],
                "optimizer": [v.numpy() for v in self._optimizer.variables],
            },
            start=start.identity(self._source),
        ).save(self.checkpoint)

    def _restore(self, saved: Checkpoint) -> None:
        variables_of_parts = (self._variables, self._averages.variables, self._optimizer.variables)
        if ArchSpec.from_json(saved.spec) != self.spec:
            raise UserError(
                f"checkpoint {self.checkpoint} belongs to another network than {self.spec.name}: "
                "delete it to train this network from the start"
            )
        start.check_same(saved, self._source, self.checkpoint)
        for variables, arrays in zip(variables_of_parts, saved.parts.values(), strict=True):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self.history = [EpochResult(**entry) for entry in saved.history]


def load_averaged(path: Path) -> tuple[keras.Model, ArchSpec, int]:
    """Loads the model in a checkpoint, with its averaged weights.

    Networks with learned group convolutions are converted to the form in which they are deployed.

    Returns:
      The model, its spec, and the number of epochs that it was trained for.

    Raises:
      UserError: the checkpoint is missing or damaged, or the learned convolutions have not been
        trained long enough to be converted.
    """
    if not path.is_file():
        raise UserError(
            f"checkpoint {path} is missing: run the same `elite search` again to train it"
        )
    saved = Checkpoint.load(path)
    spec = ArchSpec.from_json(saved.spec)
    model = build(training_form(spec))
    float_variables = [v for v in model.variables if "float" in v.dtype]
    for variable, array in zip(float_variables, saved.parts["average"], strict=True):
        variable.assign(array)
    masks = [array for array in saved.parts["weights"] if array.dtype == bool]
    for layer, mask in zip(condense.learned_layers(model), masks, strict=True):
        layer.mask.assign(mask)
    return *condense.deployed_form(model, spec), len(saved.history)

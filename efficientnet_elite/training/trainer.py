"""Trains one network: the recipe of section 5.1 of arXiv 2009.07409, with exact continuation.

There is a training loop here instead of `keras.Model.fit` for three reasons. The averaged weights
include the statistics of batch normalisation, as in the authors' code. The graph is built once,
however many rounds a candidate survives. And the time for building it is measured apart from the
time for training.

It trains with the TensorFlow or the JAX backend of Keras, whichever this process has. It knows
nothing about groups, rounds or ledgers: those belong to the search.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import CALIBRATION_IMAGES, SizeLike, TrainConfig
from efficientnet_elite.data import IGNORED, ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.layers import unsplit_groups
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training import mixing, start
from efficientnet_elite.training.backend import compiled, uses_jax
from efficientnet_elite.training.checkpoint import Checkpoint, check_arrays
from efficientnet_elite.training.class_weights import as_drawn, class_weights
from efficientnet_elite.training.distillation import Distillation, check_settings
from efficientnet_elite.training.graphs import (
    out_of_memory_as_training_error,
    removable_graphs,
    unoptimized_graphs,
)
from efficientnet_elite.training.initial import draw_as_tensorflow
from efficientnet_elite.training.interruption import held_signals
from efficientnet_elite.training.learning_rate import learning_rate
from efficientnet_elite.training.outcome import Diverged, EpochResult, Int8Result, TrainingError
from efficientnet_elite.training.precision import decided, use_deterministic_kernels
from efficientnet_elite.training.running_epoch import RunningEpoch
from efficientnet_elite.training.statistics import batch_norm_layers
from efficientnet_elite.training.step import TrainingStep
from efficientnet_elite.training.tasks import task_for

Infer: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes images (n, height, width, channels), normalised to pixel / 128 - 1, to their logits: (n,
classes) for classification, (n, height, width, classes) for segmentation."""
Quantize: TypeAlias = Callable[[keras.Model, NDArray[np.float32]], Infer]
"""Takes a model and the images of a representative data set to the int8 model; raises UserError if
the model cannot be quantized."""

# The most images for evaluation in int8, which is slow: one image at a time, one thread.
INT8_IMAGES = 5000


def _step_class() -> Any:
    """What trains with the backend of this process."""
    if uses_jax():
        from efficientnet_elite.training.jax_step import JaxStep

        return JaxStep
    return TrainingStep


class Trainer:
    """Trains one network.

    Args:
      spec: the network.
      config: the recipe.
      data: the data set; the training part trains, the validation part scores.
      base_resolution: input size of the pool's unscaled network in pixels, for the evaluation crop.
      seed: seed of initial weights, data order, augmentation and dropout.
      checkpoint: file that is written after each epoch. If it exists, training continues from it.

    Attributes:
      model: the network in training, with its current (not averaged) weights.
      history: results of the epochs trained so far.
      build_seconds: time for building the network and its graphs, with ``start_seconds``.
      start_seconds: time for loading pretrained weights, adapting them and fitting classifiers; 0
        where a training begins from random weights.

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
        base_resolution: SizeLike,
        seed: int,
        checkpoint: Path,
    ):
        started = time.perf_counter()
        config = decided(config)
        use_deterministic_kernels(bool(config.deterministic))
        self.spec, self.config, self.checkpoint = spec, config, checkpoint
        self._data, self._seed, self._base_resolution = data, seed, base_resolution
        self._steps = data_lib.steps_per_epoch(data, config.batch_size)
        self._epoch = RunningEpoch(checkpoint, config.checkpoint_minutes)
        weights = class_weights(config.class_weights, data, self._pixels_by_class)
        self._drawn = as_drawn(config.class_weights, data)
        self._task = task_for(spec, data, weights, config.score)
        check_settings(config, data)
        mixing.check_settings(config, data)
        self._unlabelled = 0  # images without labels in a batch, for distillation only
        self.history: list[EpochResult] = []
        trained_spec = training_form(spec.with_drop_rates(config.drop_rates))
        self.model = build(trained_spec, seed=seed, split_groups=True)
        if uses_jax():
            draw_as_tensorflow(self.model)
        for layer in batch_norm_layers(self.model):
            layer.momentum = config.batch_norm_momentum
        saved = Checkpoint.load(checkpoint) if checkpoint.is_file() else None
        self._distillation: Distillation | None = None
        self._frozen_norms: tuple[Any, ...] = ()
        self.start_seconds = 0.0
        self._source = start.load(config.pretrained, spec)
        if self._source is not None:
            self._start_from(self._source, trained_spec, is_new=saved is None)
        self._step = _step_class()(
            self.model,
            self._task,
            self.config,
            seed=seed,
            unlabelled=self._unlabelled,
            distillation=self._distillation,
            frozen_norms=self._frozen_norms,
        )
        self._rate_factor = 1.0  # of the learning rate, less after a divergence
        if saved is not None:
            self._restore(saved, checkpoint)
        self._initial = self._state() if saved is None else None  # until there is a checkpoint
        self._batches: Iterator[Any] | None = None
        self._validation_batches = self._eval_batches("validation")
        with removable_graphs():
            # Now, so that it counts as building.
            self._step.trace()
            self._predict = compiled(self._predict_step, self.model, (None, *spec.input_shape))
        self._is_first_step = True
        self.build_seconds = time.perf_counter() - started

    def _start_from(self, source: PretrainedWeights, spec: ArchSpec, is_new: bool) -> None:
        """Gives a new model its pretrained weights, and prepares distillation if it is wanted."""
        started = time.perf_counter()
        selection = select(source, spec)
        self.config = start.recipe_for(self.config, selection)
        if self.config.freeze_statistics:
            # Only statistics that were taken over or measured are worth keeping.
            norms = batch_norm_layers(self.model)
            self._frozen_norms = tuple(x for x in norms if x.name in selection.nodes)
        options: dict[str, Any] = {"base_resolution": self._base_resolution, "seed": self._seed}
        if is_new:
            start.begin(self.model, selection, self._data, **options)
        parts = self.config.accumulate
        if self.config.distill != "none":
            if self._data.unlabelled is not None:
                self._unlabelled = parts * max(1, self.config.batch_size // parts // 2)
            self._distillation = Distillation(
                self.model,
                selection,
                self.config.distill,
                self._data,
                reads=self.config.teacher_reads,
                **options,
            )
        self.start_seconds += time.perf_counter() - started

    def _eval_batches(self, part: str, data: ImageData | None = None) -> Any:
        return data_lib.eval_batches(
            data or self._data,
            part,
            resolution=self.spec.size,
            batch_size=self.config.batch_size,
            base_resolution=self._base_resolution,
        )

    def _pixels_by_class(self) -> NDArray[np.int64]:
        """Counts the pixels of each class in the masks of the training part."""
        counts = np.zeros(self._data.num_classes, np.int64)
        for _, masks in self._eval_batches("train"):
            known = masks.numpy()[masks.numpy() != IGNORED]
            counts += np.bincount(known, minlength=len(counts))
        return counts

    def _predict_step(self, images: Any) -> Any:
        """Takes images, float32 (n, height, width, channels), to predicted classes, int32."""
        return keras.ops.argmax(self.model(images, training=False), -1)

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

        An epoch that was interrupted goes on at the step that was written last, see
        `RunningEpoch`. Where a signal ends the program, such as Ctrl-C, that is the last step.

        Where the loss is no longer finite, the training goes back to the last checkpoint and
        continues at half the learning rate, to its end; a line on stderr says so.

        Args:
          until_epoch: number of epochs in all, from the beginning of training.
          on_epoch: called with the result of each epoch once its checkpoint is saved.
          on_step: called after each step with the number of steps done in this epoch and the number
            of steps in an epoch.

        Raises:
          TrainingError: that has been done before, or memory does not suffice.
        """
        while self.epochs_done < until_epoch:
            with out_of_memory_as_training_error(), unoptimized_graphs():
                try:
                    loss = self._train_epoch(on_step)
                except Diverged as diverged:
                    self._go_back(diverged)
                    continue
                tally = self._tally(self._validation_batches)
            score, accuracies = self._task.score(tally), self._task.accuracies(tally)
            seconds = self._epoch.seconds
            result = EpochResult(self.epochs_done + 1, score, loss, seconds, **accuracies)
            self.history.append(result)
            self._save()
            on_epoch(result)

    def _train_epoch(self, on_step: Callable[[int, int], None]) -> float:
        """Trains one epoch, or what is left of it, and returns its mean loss."""
        batches = self._batches
        if batches is None:
            self._continue_within_epoch()
            stream, _ = data_lib.train_batches(
                self._drawn,
                resolution=self.spec.size,
                batch_size=self.config.batch_size,
                seed=self._seed,
                first_epoch=self.epochs_done,
                first_step=self._epoch.steps,
                unlabelled=self._unlabelled,
            )
            batches = self._batches = iter(stream)
        elif not self._epoch.steps:
            self._epoch.begin()
        first_step = self.epochs_done * self._steps
        with held_signals() as held:
            while self._epoch.steps < self._steps:
                images, labels = next(batches)
                self._train_batch(images, labels, first_step + self._epoch.steps)
                on_step(self._epoch.steps, self._steps)
                if held.arrived or self._epoch.is_due:
                    self._check_losses()  # what is written must be sound
                    self._epoch.write(self._state(within_epoch=True))
                held.deliver()
        self._check_losses()
        return float(np.mean(self._epoch.losses))

    def _train_batch(self, images: Any, labels: Any, step: int) -> None:
        started = time.perf_counter()
        rate, steps = self._learning_rate(step), self.config.epochs * self._steps
        self._epoch.add(self._step(images, labels, rate, step=step, steps=steps))
        if self._is_first_step:
            # The first call creates the kernels of the graph, which counts as building.
            seconds = time.perf_counter() - started
            self.build_seconds += seconds
            self._epoch.leave_out(seconds)
            self._is_first_step = False

    def _check_losses(self) -> None:
        """Raises Diverged where a loss of this epoch is not finite."""
        values = np.array(self._epoch.losses)
        if not np.isfinite(values).all():
            first = int(np.isfinite(values).argmin())
            step = self.epochs_done * self._steps + first
            raise Diverged(
                f"the loss became {values[first]} in step {step + 1} at a learning rate of "
                f"{self._learning_rate(step):.3g}"
            )

    def _learning_rate(self, step: int) -> float:
        return self._rate_factor * learning_rate(self.config, step, self._steps)

    def _go_back(self, diverged: Diverged) -> None:
        """Continues from the last checkpoint at half the learning rate, once in a training."""
        if self._rate_factor < 1:
            raise TrainingError(
                f"{diverged}, which is half of what was asked for: try a lower --learning_rate"
            ) from diverged
        saved = self._initial or Checkpoint.load(self.checkpoint)
        tqdm.write(
            f"{self.spec.name}: {diverged}; it is trained again from epoch {len(saved.history)} on "
            "at half the rate",
            file=sys.stderr,
        )
        self._restore(saved, self.checkpoint)
        self._rate_factor = 0.5
        self._epoch.remove()
        self._epoch.begin()
        self._batches = None  # they begin with the epoch again

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Gives the model the averaged weights for the duration of a with statement."""
        return self._step.averages.in_model()

    def accuracy(self, part: str, data: ImageData | None = None) -> float:
        """Returns the accuracy of the averaged weights on a part of a data set, 0..1.

        It is the top-1 accuracy for classification, whatever networks are judged by, and the mean
        IoU for segmentation.

        Args:
          part: of the data set.
          data: another data set with the same classes; by default the one of the training.
        """
        tally = self._tally(self._eval_batches(part, data))
        return self._task.accuracies(tally).get("top1", self._task.score(tally))

    def _tally(self, batches: Any) -> NDArray[np.int64]:
        with self.averaged_weights():
            tallies = [
                self._task.tally(np.asarray(self._predict(images)), labels.numpy())
                for images, labels in batches
            ]
        return np.sum(tallies, axis=0)

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
            resolution=self.spec.size,
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
                predicted = np.asarray(self._predict(images))
                float_tallies.append(self._task.tally(predicted, labels))
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
        self._epoch.begin()
        self._state().save(self.checkpoint)
        self._epoch.remove()
        self._initial = None

    def _state(self, *, within_epoch: bool = False) -> Checkpoint:
        scale = self._step.loss_scale
        return Checkpoint(
            spec=self.spec.to_json(),
            history=[asdict(result) for result in self.history],
            parts={
                part: [np.asarray(variable) for variable in variables]
                for part, variables in self._step.variables.items()
            },
            start=start.identity(self._source),
            rate_factor=self._rate_factor,
            loss_scale=None if scale is None else scale.state,
            losses=self._epoch.losses if within_epoch else (),
            seconds=self._epoch.seconds if within_epoch else 0.0,
        )

    def _continue_within_epoch(self) -> None:
        """Goes to the step of this epoch that was written last, if there is one."""
        history = [asdict(result) for result in self.history]
        saved = self._epoch.read(history, self._steps)
        if saved is None:
            self._epoch.begin()
            return
        self._restore(saved, self._epoch.path)
        self._epoch.begin(saved.losses, saved.seconds)

    def _restore(self, saved: Checkpoint, path: Path) -> None:
        """Takes over the state of a checkpoint that was read from ``path``."""
        if ArchSpec.from_json(saved.spec) != self.spec:
            raise UserError(
                f"checkpoint {path} belongs to another network than {self.spec.name}: "
                "delete it to train this network from the start"
            )
        start.check_same(saved, self._source, path)
        for part, variables in self._step.variables.items():
            check_arrays(path, saved.parts[part], [variable.shape for variable in variables])
            for variable, array in zip(variables, saved.parts[part], strict=True):
                variable.assign(array)
        if self._step.loss_scale is not None and saved.loss_scale is not None:
            self._step.loss_scale.state = saved.loss_scale
        self.history = [EpochResult(**entry) for entry in saved.history]
        self._rate_factor = saved.rate_factor

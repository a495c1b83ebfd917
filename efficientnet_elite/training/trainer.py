"""Training of one candidate: the recipe, averaged weights, exact continuation.

The loop is ours rather than `keras.Model.fit` for three reasons: the average covers batch
normalisation's statistics too (as in the authors' code), the graph is built once however many
rounds a candidate survives, and the time that building takes is measured apart from training.

TensorFlow backend. This module must not know of groups, rounds or ledgers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import condense
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.layers import unsplit_groups
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.learning_rate import learning_rate
from efficientnet_elite.training.outcome import EpochResult, Int8Result, OutOfMemory, TrainingError
from efficientnet_elite.training.tasks import task

Infer: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images (N, height, width, 3), pixel / 128 - 1, to their logits (N, classes)."""
Quantize: TypeAlias = Callable[[keras.Model, NDArray[np.float32]], Infer]
"""(model, calibration images) to the model's int8 form; UserError where it has none."""

CALIBRATION_IMAGES = 200  # of the training part, which set the int8 ranges
INT8_IMAGES = 5000  # of the validation part at most: int8 takes them one by one, on one thread


@contextmanager
def _out_of_memory_named() -> Iterator[None]:
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise OutOfMemory("out of memory: try a smaller --batch_size") from error


class Trainer:
    """A candidate in training.

    Args:
      spec: the network.
      config: the recipe.
      data: images; the training part trains, the validation part scores.
      base_resolution: input side at resolution coefficient 1, for the evaluation crop.
      seed: of initial weights, data order, dropout.
      checkpoint: file to continue from (where it exists) and to keep up to date.
    """

    @_out_of_memory_named()
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
        # The same scores from the same seed need deterministic kernels.
        tf.config.experimental.enable_op_determinism()
        self.spec, self.config, self.checkpoint = spec, config, checkpoint
        self._data, self._seed, self._base_resolution = data, seed, base_resolution
        self._task = task(spec, data)
        self.history: list[EpochResult] = []
        trained = training_form(spec.with_drop_rates(config.drop_rates))
        self.model = build(trained, seed=seed, split_groups=True)
        self._learned = condense.learned_layers(self.model)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.batch_norm_momentum
        self._variables = list(self.model.variables)
        self._averaged = [v for v in self._variables if "float" in v.dtype]
        self._average = [tf.Variable(v, trainable=False) for v in self._averaged]
        # TensorFlow's RMSProp starts its mean square at one (Keras' at zero).
        trainable = self.model.trainable_variables
        self._mean_squares = [tf.Variable(tf.ones_like(v), trainable=False) for v in trainable]
        self._momenta = [tf.Variable(tf.zeros_like(v), trainable=False) for v in trainable]
        self._decayed = [not _is_batch_norm(v) for v in trainable]
        if checkpoint.is_file():
            self._restore(Checkpoint.load(checkpoint))
        self._batches: Iterator[Any] | None = None
        self._validation = self._part("validation")
        self._step = tf.function(self._train_step, autograph=False)
        self._choices = tf.function(self._choose, autograph=False)
        self._trace()
        self._instantiated = False
        self.build_seconds = time.perf_counter() - started

    def _part(self, part: str) -> Any:
        return data_lib.eval_batches(
            self._data,
            part,
            resolution=self.spec.resolution,
            batch_size=self.config.batch_size,
            base_resolution=self._base_resolution,
        )

    def _trace(self) -> None:
        side, size = self.spec.resolution, self.config.batch_size
        images = tf.TensorSpec((size, side, side, 3), tf.float32)
        labels = tf.TensorSpec(self._task.labels_shape(size, side), tf.int32)
        scalar = tf.TensorSpec((), tf.float32)
        self._step = self._step.get_concrete_function(images, labels, scalar, scalar)
        self._choices = self._choices.get_concrete_function(
            tf.TensorSpec((None, side, side, 3), tf.float32)
        )

    # -- one step --------------------------------------------------------------------------------

    def _train_step(self, images: Any, labels: Any, rate: Any, decay: Any) -> Any:
        trainable = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = self._task.loss(logits, labels, self.config.label_smoothing)
            if self._learned:
                loss += condense.group_lasso_loss(self._learned)
        gradients = tape.gradient(loss, trainable)
        for gradient, variable, decayed, mean_square, momentum in zip(
            gradients, trainable, self._decayed, self._mean_squares, self._momenta, strict=True
        ):
            if decayed:
                # The gradient of L2's weight_decay / 2 * |w|^2, without computing that sum.
                gradient += self.config.weight_decay * variable.value
            # One kernel a variable, with epsilon inside the root; Keras' optimizer builds eight.
            tf.raw_ops.ResourceApplyRMSProp(
                var=variable.value.handle,
                ms=mean_square.handle,
                mom=momentum.handle,
                lr=rate,
                rho=self.config.rho,
                momentum=self.config.momentum,
                epsilon=self.config.epsilon,
                grad=gradient,
            )
        for average, variable in zip(self._average, self._averaged, strict=True):
            # average -= (1 - decay) * (average - variable), in place: memory traffic counts here.
            tf.raw_ops.ResourceApplyGradientDescent(
                var=average.handle, alpha=1 - decay, delta=average - variable.value
            )
        return loss

    def _choose(self, images: Any) -> Any:
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
        """Trains on until ``until_epoch`` epochs are done, saving a checkpoint after each.

        Args:
          until_epoch: number of epochs in all.
          on_epoch: called after the epoch's checkpoint is on disk.
          on_step: called after each step with (steps done, steps an epoch).

        Raises:
          TrainingError: the loss is no longer finite, or memory does not suffice.
        """
        while self.epochs_done < until_epoch:
            started = time.perf_counter()
            building = self.build_seconds
            with _out_of_memory_named(), _unoptimized_graphs():
                loss = self._train_epoch(on_step)
                accuracy = self._accuracy(self._validation)
            seconds = time.perf_counter() - started - (self.build_seconds - building)
            result = EpochResult(self.epochs_done + 1, accuracy, loss, seconds)
            self.history.append(result)
            self._save()
            on_epoch(result)

    def _train_epoch(self, on_step: Callable[[int, int], None]) -> float:
        if self._batches is None:
            stream, self._steps = data_lib.train_batches(
                self._data,
                resolution=self.spec.resolution,
                batch_size=self.config.batch_size,
                seed=self._seed,
                first_epoch=self.epochs_done,
            )
            self._batches = iter(stream)
        first = self.epochs_done * self._steps
        losses = []
        for step in range(first, first + self._steps):
            condense.drop_due_channels(self._learned, step, self.config.epochs * self._steps)
            images, labels = next(self._batches)
            rate = learning_rate(self.config, step, self._steps)
            decay = min(self.config.ema, (1 + step) / (10 + step))
            started = time.perf_counter()
            losses.append(self._step(images, labels, tf.constant(rate), tf.constant(decay)))
            if not self._instantiated:
                # The first call instantiates the graph's kernels; that is building, not training.
                self.build_seconds += time.perf_counter() - started
                self._instantiated = True
            on_step(step - first + 1, self._steps)
        loss = float(np.mean([float(value) for value in losses]))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss became {loss}: try a lower --learning_rate")
        return loss

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within this context the model carries the averaged weights."""
        kept = [tf.identity(v.value) for v in self._averaged]
        for variable, average in zip(self._averaged, self._average, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self._averaged, kept, strict=True):
                variable.assign(value)

    def accuracy(self, part: str) -> float:
        """Score of the averaged weights on a part of the data, 0..1: top-1, or mIoU of masks."""
        return self._accuracy(self._part(part))

    def _accuracy(self, batches: Any) -> float:
        with self.averaged_weights():
            tallies = [
                self._task.tally(self._choices(images).numpy(), labels.numpy())
                for images, labels in batches
            ]
        return self._task.score(np.sum(tallies, axis=0))

    def int8(self, quantize: Quantize) -> Int8Result:
        """Accuracy of the averaged weights in int8 and in float32, on the same validation images.

        On all of them, or on `INT8_IMAGES` drawn with the seed where there are more.

        Raises:
          TrainingError: memory does not suffice.
        """
        started = time.perf_counter()
        calibration, _ = data_lib.calibration_images(
            self._data,
            resolution=self.spec.resolution,
            base_resolution=self._base_resolution,
            count=CALIBRATION_IMAGES,
            seed=self._seed,
        )
        size = self._data.parts["validation"].size
        chosen = np.random.default_rng(self._seed).permutation(size) < INT8_IMAGES
        infer, fault = None, ""
        in_float, in_int8, seen = [], [], 0
        with _out_of_memory_named(), self.averaged_weights():
            try:
                with unsplit_groups(self.model):
                    infer = quantize(self.model, calibration)
            except UserError as error:
                fault = str(error)
            for batch, classes in self._validation:
                own = chosen[seen : seen + len(classes)]
                seen += len(classes)
                if not own.any():
                    continue
                images, labels = batch.numpy()[own], classes.numpy()[own]
                in_float.append(self._task.tally(self._choices(images).numpy(), labels))
                if infer is not None:
                    in_int8.append(self._task.tally(infer(images).argmax(-1), labels))
        return Int8Result(
            epoch=self.epochs_done,
            float_accuracy=self._task.score(np.sum(in_float, axis=0)),
            int8_accuracy=None if infer is None else self._task.score(np.sum(in_int8, axis=0)),
            images=int(chosen.sum()),
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
                "average": [v.numpy() for v in self._average],
                "optimizer": [v.numpy() for v in (*self._mean_squares, *self._momenta)],
            },
        ).save(self.checkpoint)

    def _restore(self, saved: Checkpoint) -> None:
        optimizer = (*self._mean_squares, *self._momenta)
        targets = (self._variables, self._average, optimizer)
        if ArchSpec.from_json(saved.spec) != self.spec:
            raise UserError(f"checkpoint {self.checkpoint} belongs to another network: delete it")
        for variables, arrays in zip(targets, saved.parts.values(), strict=True):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self.history = [EpochResult(**entry) for entry in saved.history]


@contextmanager
def _unoptimized_graphs() -> Iterator[None]:
    """Leaves out TensorFlow's graph optimizer: it takes seconds a candidate and gains no speed."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        disabled = before.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": disabled})


def _is_batch_norm(variable: Any) -> bool:
    return variable.path.split("/")[-1] in ("gamma", "beta")


def load_averaged(path: Path) -> tuple[keras.Model, ArchSpec, int]:
    """The model in a checkpoint with its averaged weights, its spec, and its number of epochs.

    Networks with learned convolutions come in their deployed form. UserError where the checkpoint
    is missing or damaged, or these have not yet learned what to keep.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} is missing: `elite search` again trains it anew")
    saved = Checkpoint.load(path)
    spec = ArchSpec.from_json(saved.spec)
    model = build(training_form(spec))
    floats = [v for v in model.variables if "float" in v.dtype]
    for variable, array in zip(floats, saved.parts["average"], strict=True):
        variable.assign(array)
    masks = [array for array in saved.parts["weights"] if array.dtype == bool]
    for layer, mask in zip(condense.learned_layers(model), masks, strict=True):
        layer.mask.assign(mask)
    return *condense.deployed_form(model, spec), len(saved.history)

"""Distillation: the network that the pretrained weights belong to teaches a smaller one.

A network that took its weights from the source has a subset of the source's channels. Its feature
maps can therefore be compared with the same channels of the source, without layers in between. The
teacher sees the crops that the student sees, at the student's input size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import LAST, STAGES, SizeLike, TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.mobile import stage_ends
from efficientnet_elite.networks.graph import Graph
from efficientnet_elite.networks.pretrained.selection import Selection
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.head import Head, classifier_name, features_before, fit_head
from efficientnet_elite.training.start import source_model

TEMPERATURE = 2.0
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class Tap:
    """Two feature maps that are compared.

    Attributes:
      student, teacher: names of the layers that give them.
      channels: for each channel of the student's map the index of the teacher's channel.
    """

    student: str
    teacher: str
    channels: NDArray[np.int64]


def find_taps(selection: Selection) -> list[Tap]:
    """Returns the feature maps that are compared: the last one of each stage.

    A stage are the blocks with outputs of one shape. The stem is no stage; the last convolution
    before the pooling is one. Maps without counterpart in the source are left out.
    """
    spec = selection.spec
    source = selection.source.spec
    teacher = source.resized((*spec.input_shape[:2], source.input_shape[-1])).graph
    number_of = {node.name: number for number, node in enumerate(teacher.nodes)}
    taps = {}
    for block in spec.blocks[1:]:
        node = spec.graph.nodes[spec.graph.outputs[block.name].node]
        if block.top or len(node.shape) != 3 or node.name not in selection.channels:
            continue
        end = _end_of_stream(teacher, number_of[selection.nodes[node.name]])
        if teacher.nodes[end].shape[:2] == node.shape[:2]:
            channels = selection.channels[node.name]
            taps[node.shape] = Tap(node.name, teacher.nodes[end].name, channels)
    return list(taps.values())


def _end_of_stream(graph: Graph, number: int) -> int:
    """Follows a residual stream from a node to its last addition.

    A shallower network takes the first blocks of a stage. They have to compute what all of them
    compute in the teacher.
    """
    for later in range(number + 1, len(graph.nodes)):
        node = graph.nodes[later]
        if isinstance(node.op, ops.Add) and number in node.inputs:
            number = later
    return number


class _MeanAndDeviation(keras.layers.Layer):
    """Mean and standard deviation of each channel of a feature map, over its positions."""

    def call(self, x: Any) -> Any:
        """Takes (batch, h, w, channels) to (batch, 2 * channels)."""
        means, deviations = keras.ops.mean(x, (1, 2)), keras.ops.std(x, (1, 2))
        return keras.ops.concatenate([means, deviations], -1)


def stage_features(model: keras.Model, spec: ArchSpec) -> keras.Model:
    """Returns a model of what all stages of a network see: (batch, features).

    It gives mean and deviation of each channel of the last map of each stage. The last convolution
    before the pooling is left out: its channels are made for the classes of the pretraining. On few
    images, or images of little detail, a classifier is better with these features than with the
    last ones alone (docs/transfer.md).

    Args:
      model: Keras model of the network, at any input size.
      spec: the network, a classifier.
    """
    names = [spec.graph.nodes[end.node].name for end in stage_ends(spec.graph)]
    maps = [model.get_layer(name).output for name in names[:-1] or names]
    vectors = [_MeanAndDeviation()(x) for x in maps]
    return keras.Model(model.inputs, keras.ops.concatenate(vectors, axis=-1))


class Distillation:
    """The teacher of one network, and the loss of the network's distance from it.

    Args:
      model: the student.
      selection: what the student took from the pretrained weights.
      method: ``features``, ``logits`` or ``both``.
      data: the data set, to which the teacher's classifier is fitted for ``logits`` and ``both``.
      base_resolution: input size of the pool's unscaled network in pixels.
      seed: seed of the choice of images for the teacher's classifier.
      reads: what the teacher's classifier reads, see `TrainConfig.teacher_reads`. With ``stages``,
        ``features`` is the same as ``both`` where a classifier can be fitted.

    Attributes:
      variables: of the teacher; they never change.

    Raises:
      UserError: the teacher has nothing that can be compared in this way.
    """

    def __init__(
        self,
        model: keras.Model,
        selection: Selection,
        method: str,
        data: ImageData,
        *,
        base_resolution: SizeLike,
        seed: int,
        reads: str = LAST,
    ):
        teacher = source_model(selection.source, selection.spec.size)
        self._taps = find_taps(selection) if method in ("features", "both") else []
        self._head: Head | None = None
        layers = [tap.teacher for tap in self._taps]
        outputs = [teacher.get_layer(name).output for name in layers]
        if method in ("logits", "both") or (reads == STAGES and _classifier(selection, data)):
            features = _features(teacher, selection, data, reads)
            self._head = fit_head(features, data, base_resolution=base_resolution, seed=seed)
            outputs.append(features.outputs[0])
        if not outputs:
            raise UserError(
                f"{selection.spec.name} has no feature maps in common with "
                f"{selection.source.name}: use --distill=none or logits"
            )
        self._teacher = keras.Model(teacher.inputs, outputs)
        maps = [model.get_layer(tap.student).output for tap in self._taps]
        self._student = keras.Model(model.inputs, [model.outputs[0], *maps])
        self.variables = self._teacher.variables

    def targets(self, images: Any) -> list[Any]:
        """What the teacher makes of images, (batch, height, width, channels), for `loss`."""
        outputs = _as_list(self._teacher(images, training=False))
        maps = [
            keras.ops.take(output, tap.channels, axis=-1)
            for output, tap in zip(outputs, self._taps, strict=False)
        ]
        if self._head is None:
            return maps
        kernel, bias = self._head
        features = keras.ops.reshape(outputs[-1], (images.shape[0], -1))
        return [keras.ops.matmul(features, kernel) + bias, *maps]

    def outputs(self, images: Any, training: bool) -> list[Any]:
        """Returns the student's logits for images and its feature maps that are compared."""
        return _as_list(self._student(images, training=training))

    def loss(self, outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        """Returns the distance of the student from the teacher, a scalar.

        Args:
          outputs: of `outputs`, for a batch of images.
          targets: of `targets`, for the same images.
        """
        logits, *maps = outputs
        loss = 0.0
        if self._head is not None:
            loss += logits_loss(logits, targets[0])
            targets = targets[1:]
        if maps:
            losses = [features_loss(*pair) for pair in zip(maps, targets, strict=True)]
            loss += sum(losses) / len(losses)
        return loss


def features_loss(student: Any, teacher: Any) -> Any:
    """Mean squared difference of feature maps, in units of the variance of each teacher's channel.

    Args:
      student, teacher: float32 (batch, h, w, channels).
    """
    variance = keras.ops.var(teacher, (0, 1, 2)) + _VARIANCE_FLOOR
    return keras.ops.mean(keras.ops.square(student - teacher) / variance)


def logits_loss(student: Any, teacher: Any) -> Any:
    """Kullback-Leibler divergence of softened predictions, times the square of the temperature.

    See arXiv 1503.02531, section 2: the factor makes gradients comparable to those of labels.

    Args:
      student, teacher: logits, float32 (batch, classes).
    """
    log_p = keras.ops.log_softmax(teacher / TEMPERATURE)
    log_q = keras.ops.log_softmax(student / TEMPERATURE)
    divergence = keras.ops.sum(keras.ops.exp(log_p) * (log_p - log_q), -1)
    return TEMPERATURE**2 * keras.ops.mean(divergence)


def _as_list(outputs: Any) -> list[Any]:
    """The outputs of a Keras model, which are no list if there is only one."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def check_settings(config: TrainConfig, data: ImageData) -> None:
    """Checks that settings of distillation do not contradict each other.

    Raises:
      UserError: there is nothing to learn from, or unlabelled images would not be used.
    """
    if config.distill != "none" and config.pretrained in (None, "none"):
        raise UserError(
            f"distill={config.distill} needs a network to learn from: set --pretrained, or use "
            "--distill=none"
        )
    if config.distill == "none" and data.unlabelled is not None:
        raise UserError(
            "unlabelled images are used for distillation only: set --distill=features, or leave "
            "out --unlabelled"
        )


def _classifier(selection: Selection, data: ImageData) -> str | None:
    """Name of the source's classifier; None where it has none, or the task is another."""
    return None if data.masks else classifier_name(selection.source.spec)


def _features(
    teacher: keras.Model, selection: Selection, data: ImageData, reads: str
) -> keras.Model:
    """Returns a model of the features that the teacher's classifier reads."""
    name = _classifier(selection, data)
    if name is None:
        raise UserError(
            f"{selection.source.name} has no classifier that could teach {selection.spec.name}: "
            "use --distill=features"
        )
    if reads == STAGES:
        return stage_features(teacher, selection.source.spec)
    return features_before(teacher, name)

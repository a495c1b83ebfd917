"""What a network takes from pretrained weights before its first training step.

First the weights: those of the source itself where the network is the same, otherwise a selection
of its channels. Then the statistics of batch normalisation are adapted to the images and their
size. Last, a new classifier is fitted to the features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import InputSize, SizeLike, TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.inputs import with_input_range
from efficientnet_elite.networks.pretrained.matching import is_same_network
from efficientnet_elite.networks.pretrained.selection import Selection
from efficientnet_elite.networks.pretrained.sources import load_source
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.head import classifier_name, features_before, fit_head, set_head
from efficientnet_elite.training.repair import repair
from efficientnet_elite.training.statistics import adapt_statistics

_STATISTICS_BATCHES = 10
_STATISTICS_BATCH = 48
_REPAIR_IMAGES = 300
_WHOLE_NETWORK_RATE = 0.4  # factor of the learning rate


def load(name: str | None, spec: ArchSpec) -> PretrainedWeights | None:
    """Loads the weights that `TrainConfig.pretrained` names, for this project's input range.

    Args:
      name: name of a source, or path of a file or folder. None or ``none``: random weights.
      spec: the network that starts from them.

    Returns:
      The weights; None for random weights.

    Raises:
      UserError: the weights cannot be loaded, or the name is ``auto``, which is a question to the
        job and not a name.
    """
    if name is None or name == "none":
        return None
    if name == "auto":
        raise UserError("pretrained='auto' cannot be trained: name a source, a file, or none")
    return with_input_range(load_source(name).for_network(spec))


def identity(source: PretrainedWeights | None) -> dict[str, str] | None:
    """What a checkpoint records of the weights that a training began from."""
    return None if source is None else {"name": source.name, "sha256": source.sha256}


def check_same(saved: Checkpoint, source: PretrainedWeights | None, path: Path) -> None:
    """Checks that a training is continued with the weights that it began from.

    Raises:
      UserError: the checkpoint at ``path`` began from others.
    """
    before = None if saved.start is None else saved.start["sha256"]
    now = None if source is None else source.sha256
    if before != now:
        name_before = "random weights" if saved.start is None else saved.start["name"]
        name_now = "random weights" if source is None else source.name
        raise UserError(
            f"checkpoint {path} began from {name_before} ({(before or 'no file')[:12]}) and not "
            f"from {name_now}: set --pretrained as before, or delete it to train this network from "
            "the start"
        )


def recipe_for(config: TrainConfig, selection: Selection) -> TrainConfig:
    """Returns the recipe for a network that starts from pretrained weights.

    The network that the weights belong to has its own feature maps already, and larger steps spoil
    it: features are not distilled, and the learning rate is smaller. Others get the recipe as it
    is.

    Args:
      config: the recipe.
      selection: what the network takes from the weights.
    """
    if not is_same_network(selection.source.spec, selection.spec):
        return config
    distill = {"features": "none", "both": "logits"}.get(config.distill, config.distill)
    rate = _WHOLE_NETWORK_RATE * config.learning_rate
    return replace(config, distill=distill, learning_rate=rate)


def source_model(source: PretrainedWeights, size: SizeLike) -> keras.Model:
    """Builds the network of pretrained weights, frozen, for images of a size in pixels."""
    channels = source.spec.input_shape[-1]
    model = build(source.spec.resized((*InputSize.of(size), channels)))
    assign(model, source.arrays)
    model.trainable = False
    return model


def assign(model: keras.Model, arrays: Any) -> None:
    """Gives the variables of a model the arrays with their paths; others stay as they are."""
    for variable in model.variables:
        if variable.path in arrays:
            variable.assign(arrays[variable.path])


def begin(
    model: keras.Model,
    selection: Selection,
    data: ImageData,
    *,
    base_resolution: SizeLike,
    seed: int,
) -> None:
    """Gives a new model its pretrained weights and a classifier of the data set's classes.

    Args:
      model: of ``selection.spec``, with random weights.
      selection: what it takes from pretrained weights.
      data: the data set.
      base_resolution: input size of the pool's unscaled network in pixels.
      seed: seed of the choice of images.
    """
    assign(model, selection.arrays)
    input_size = selection.spec.size
    if is_same_network(selection.source.spec, selection.spec):
        size = min(_STATISTICS_BATCH, data.parts["train"].size)
        crops, _ = data_lib.train_batches(data, resolution=input_size, batch_size=size, seed=seed)
        adapt_statistics(model, (images for images, _ in crops.take(_STATISTICS_BATCHES)))
    else:
        images, _ = data_lib.calibration_images(
            data,
            resolution=input_size,
            base_resolution=base_resolution,
            count=_REPAIR_IMAGES,
            seed=seed,
        )
        repair(model, source_model(selection.source, input_size), selection, images, seed)
    classifier = None if data.masks else classifier_name(selection.spec)
    if classifier is not None:
        features = features_before(model, classifier)
        head = fit_head(features, data, base_resolution=base_resolution, seed=seed)
        set_head(model, classifier, head)

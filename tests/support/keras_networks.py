"""Models of `keras.applications` with random weights, and networks of ours with given weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.keras_applications import Origin, from_layers
from efficientnet_elite.networks.pretrained.keras_layers import of_model
from efficientnet_elite.networks.pretrained.keras_networks import KERAS_NETWORKS
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights

BOUNDS = {
    "gamma": (0.7, 1.3),
    "beta": (-0.3, 0.3),
    "moving_mean": (-0.3, 0.3),
    "moving_variance": (0.5, 1.5),
}


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives batch normalisation and biases values that change the outputs."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        low_high = BOUNDS.get(variable.name, (-0.3, 0.3) if variable.name == "bias" else None)
        if low_high:
            variable.assign(random.uniform(*low_high, variable.shape))
    return model


def random_application(name: str, side: int | None, **options: Any) -> keras.Model:
    """The model of `keras.applications` that one of our names stands for, with random weights."""
    network = KERAS_NETWORKS[name]
    function = getattr(keras.applications, network.function)
    if options.get("include_top", True):
        options = {"classifier_activation": None, **options}
    shape = None if side is None else (side, side, 3)
    return randomise(function(weights=None, input_shape=shape, **network.arguments, **options))


def from_model(model: keras.Model, name: str = "") -> PretrainedWeights:
    """The weights of a model as `keras.applications` returns it, or of one that contains one."""
    return from_layers(of_model(model), Origin(name or model.name, "a test", "0" * 64))


def save_as_published(model: keras.Model, path: Path) -> None:
    """Writes the weights in the format before Keras 3, in which Keras publishes its weights."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def pixels(side: int, count: int = 2) -> np.ndarray:
    random = np.random.default_rng(1)
    return random.integers(0, 256, (count, side, side, 3)).astype(np.float32)


def outputs(weights: PretrainedWeights, images: np.ndarray, **options: Any) -> np.ndarray:
    """What our network with these weights gives for pixels."""
    model = build(weights.spec, **options)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(weights.arrays[variable.path])
    return np.asarray(model(images * np.array(weights.scale) + np.array(weights.offset)))


def check_same(weights: PretrainedWeights, images: np.ndarray, want: np.ndarray) -> None:
    assert np.ptp(want) > 0.05
    assert np.abs(outputs(weights, images) - want.reshape(len(images), -1)).max() < 1e-4

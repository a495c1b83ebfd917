"""Pretrained weights of random numbers, and comparisons of networks that start from them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.selection import Selection
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec


def assign(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets the variables of a model by their paths; all arrays must find theirs."""
    variables = {variable.path: variable for variable in model.variables}
    for path, array in arrays.items():
        assert tuple(variables[path].shape) == array.shape, path
        variables[path].assign(array)


def random_source(name: str, side: int = 64, seed: int = 0) -> PretrainedWeights:
    """Weights of a network with seven classes, of which every variable is random."""
    spec = spec_by_name(name, classes=7, base_resolution=64)
    spec = spec.resized((side, side, 3))
    return PretrainedWeights(
        name="random",
        spec=spec,
        arrays=random_arrays(spec, seed),
        scale=(1 / 128,) * 3,
        offset=(-1.0,) * 3,
        licence="Apache-2.0",
        sha256="0" * 64,
        origin="a test",
    )


def random_arrays(spec: ArchSpec, seed: int) -> dict[str, np.ndarray]:
    """A random value for every variable of a network."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for variable in build(spec, seed=seed).variables:
        if "seed_generator" in variable.path:
            continue
        shape = tuple(variable.shape)
        kind = variable.path.rpartition("/")[2]
        if kind == "gamma":
            array = rng.uniform(0.5, 1.5, shape)
        elif kind == "moving_variance":
            array = rng.uniform(0.5, 2.0, shape)
        elif kind in ("beta", "bias", "moving_mean"):
            array = rng.normal(0, 0.3, shape)
        else:
            array = np.asarray(variable)
        arrays[variable.path] = array.astype(np.float32)
    return arrays


def target(name: str, side: int = 64) -> ArchSpec:
    """A network with five classes."""
    return spec_by_name(name, classes=5, base_resolution=64).resized((side, side, 3))


def models(selection: Selection) -> tuple[keras.Model, keras.Model]:
    """The target with the selected weights, and the source."""
    model = build(selection.spec, seed=3)
    assign(model, selection.arrays)
    height, width, _ = selection.spec.input_shape
    channels = selection.source.spec.input_shape[-1]
    source = build(selection.source.spec.resized((height, width, channels)))
    assign(source, selection.source.arrays)
    return model, source


def outputs(
    selection: Selection, node: str, images: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of a node of the target and of its counterpart, in the target's channels."""
    model, source = models(selection)
    if images is None:
        images = random_images(selection.spec)
    counterpart = selection.nodes[node]
    one = keras.Model(model.input, model.get_layer(node).output)(images, training=False)
    other = keras.Model(source.input, source.get_layer(counterpart).output)(images, training=False)
    return np.asarray(one), np.asarray(other)[..., selection.channels[node]]


def random_images(spec: ArchSpec, count: int = 2) -> np.ndarray:
    """Random images in the input range of the networks."""
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, (count, *spec.input_shape)).astype(np.float32)

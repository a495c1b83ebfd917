"""Pretrained weights of random numbers, and comparisons of networks that start from them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from efficientnet_elite.networks import ops
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
    """Random weights of a network with seven classes."""
    spec = spec_by_name(name, classes=7, base_resolution=64)
    return random_weights(spec.resized((side, side, 3)), seed)


def random_weights(spec: ArchSpec, seed: int = 0) -> PretrainedWeights:
    """Weights of a network, of which every variable is random, statistics included."""
    return pretrained("random", spec, random_arrays(spec, seed))


def pretrained(
    name: str, spec: ArchSpec, arrays: Mapping[str, np.ndarray], sha256: str = "0" * 64
) -> PretrainedWeights:
    """Weights with everything else that there is to say about them."""
    return PretrainedWeights(
        name=name,
        spec=spec,
        arrays=arrays,
        scale=(1 / 128,) * 3,
        offset=(-1.0,) * 3,
        licence="Apache-2.0",
        sha256=sha256,
        origin="a test",
    )


def random_arrays(spec: ArchSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """A random value for every variable of a network."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for path, shape in variable_shapes(spec).items():
        kind = path.rpartition("/")[2]
        if kind == "gamma":
            array = rng.uniform(0.5, 1.5, shape)
        elif kind == "moving_variance":
            array = rng.uniform(0.5, 2.0, shape)
        elif kind == "kernel":
            inputs = np.prod(shape[:2] if shape[-1] == 1 else shape[:-1])
            array = rng.normal(0, np.sqrt(2 / inputs), shape)
        else:
            array = rng.normal(0, 0.3, shape)
        arrays[path] = array.astype(np.float32)
    return arrays


def variable_shapes(spec: ArchSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the variables of a network, by their paths."""
    shapes: dict[str, tuple[int, ...]] = {}
    for node in spec.graph.nodes:
        index = node.inputs[0]
        inputs = (spec.graph.nodes[index].shape if index >= 0 else spec.input_shape)[-1]
        op, channels = node.op, node.shape[-1]
        if isinstance(op, ops.BatchNorm):
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                shapes[f"{node.name}/{name}"] = (channels,)
        elif isinstance(op, ops.DepthwiseConv):
            shapes[f"{node.name}/kernel"] = (op.kernel, op.kernel, channels, 1)
        elif isinstance(op, ops.Conv):
            side = op.kernel if isinstance(op.kernel, tuple) else (op.kernel, op.kernel)
            shapes[f"{node.name}/kernel"] = (*side, inputs // op.groups, channels)
        elif isinstance(op, ops.Dense):
            shapes[f"{node.name}/kernel"] = (inputs, channels)
        elif isinstance(op, ops.PReLU):
            shapes[f"{node.name}/alpha"] = (1, 1, channels)
        else:
            assert node.params == 0, node
        if isinstance(op, ops.Conv | ops.Dense) and op.bias:
            shapes[f"{node.name}/bias"] = (channels,)
    return shapes


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

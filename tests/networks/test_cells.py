"""Networks found by architecture search: exact counts, Keras models, the cell's wiring."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras.src.applications import nasnet

from efficientnet_elite.networks.blocks import (
    ActivationBlock,
    Cell,
    Classifier,
    ConvBlock,
    ZeroPaddedCell,
)
from efficientnet_elite.networks.blocks.cells import Gene, Genotype, parse_genotype
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES, cells, searched
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from tests.support.networks import int8_correlation, noise, normalise

# At 224 x 224 with 1000 classes: trainable parameters, all parameters, multiply-accumulates. The
# first four agree with all printed digits of the publications, NASNet-A also with
# keras.applications.
COUNTS = {
    "nasnet-a": (5289978, 5326716, 563638816),
    "amoebanet-a": (5086930, 5122936, 554687204),
    "amoebanet-b": (5258700, 5291750, 555060408),
    "pnasnet-5": (5064487, 5098151, 587293200),
    "amoebanet-c": (6353815, 6397613, 676936592),
    "darts-v2": (4718752, 4755088, 529911552),
    "darts-v1": (4510432, 4544080, 505864704),
    "proxylessnas-mobile": (4080512, 4115008, 320427584),
    "fbnet-c": (5570664, 5614904, 378136224),
}
NETWORKS = {network.name: network for network in (*cells.NETWORKS, *searched.NETWORKS)}


def small(name: str, resolution: int = 33) -> ArchSpec:
    return FAMILIES[name].build(name, 0.25, 0.2, resolution, 5)


def test_every_network_has_published_counts():
    assert NETWORKS.keys() == COUNTS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_published_settings(name):
    trainable, params, macs = COUNTS[name]
    spec = spec_by_name(name)
    assert (spec.params, spec.macs) == (params, macs)
    moving = sum(node.params // 2 for node in spec.graph.nodes if node.name.endswith("_bn"))
    assert params - moving == trainable


@pytest.mark.parametrize("network", cells.NETWORKS, ids=lambda network: network.name)
def test_operators_are_the_stem_the_cells_and_the_top(network):
    blocks = network.build(network.name, 1.0, 1.0, 224, 5).blocks
    counted = [block for block in blocks if not isinstance(block, ActivationBlock)]
    assert sum(network.operators) == len(counted)


@pytest.mark.parametrize("name", COUNTS)
def test_specs_survive_json(name):
    spec = spec_by_name(name)
    assert ArchSpec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["blocks"][0]["name"].startswith("stem")


@pytest.mark.parametrize("name", COUNTS)
def test_scaling_reaches_every_axis(name):
    build_spec = FAMILIES[name].build
    full = build_spec("full", 1.0, 1.0, 96, 10)
    for setting in ((0.5, 1.0, 96), (1.0, 0.5, 96)):
        scaled = build_spec("scaled", *setting, 10)
        assert scaled.params < full.params
        assert scaled.macs < full.macs
    coarse = build_spec("coarse", 1.0, 1.0, 64, 10)
    assert coarse.params == full.params
    assert coarse.macs < full.macs


@pytest.mark.parametrize("name", [n.name for n in cells.NETWORKS])
def test_depth_keeps_the_reductions(name):
    def strides(depth: float) -> list[int]:
        spec = FAMILIES[name].build(name, 1.0, depth, 64, 10)
        return [block.stride for block in spec.blocks if isinstance(block, Cell)]

    network = NETWORKS[name]
    assert strides(0.1).count(2) == strides(1.0).count(2)
    inside = network.repeats - network.reduction_replaces
    assert strides(1.0)[-inside - 1 :] == [2] + [1] * inside
    assert len(strides(0.1)) < len(strides(1.0))


@pytest.mark.parametrize("name", COUNTS)
def test_keras_models_equal_their_specs(name):
    """Shallow and narrow networks with maps of odd sides, which still have every operation."""
    spec = small(name)
    model = build(spec)
    assert model.count_params() == spec.params
    for node in spec.graph.nodes:
        assert model.get_layer(node.name).output.shape[1:] == node.shape, node.name
    assert np.isfinite(model(np.zeros((1, *spec.input_shape), np.float32))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasnet-a", "amoebanet-b", "darts-v2"])
def test_int8_files_agree(name):
    """Factorised reductions, poolings, concatenations, bottlenecks and dilation in int8."""
    spec = small(name)
    model = build(spec)
    normalise(model, noise(spec))
    assert int8_correlation(model, noise(spec)) > 0.9


def test_genotypes_are_read():
    assert parse_genotype("s5 0 + id 1, a3 2 + c1 0 -> 1 3") == Genotype(
        ((Gene("s5", 0), Gene("id", 1)), (Gene("a3", 2), Gene("c1", 0))), (1, 3)
    )


@pytest.mark.parametrize("text", ["", "s5 0", "s5 0 + s3", "s5 0 + s3 1 -> x", "s5 0 s3 1 -> 2"])
def test_malformed_genotypes_are_refused(text):
    with pytest.raises(ValueError):
        parse_genotype(text)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_cell_computes_what_kerass_nasnet_cell_does(stride):
    """With the same weights, and two inputs of the same size (stride 1) or of two sizes."""
    spec = ArchSpec(
        "cells",
        (8, 8, 3),
        (
            ConvBlock("older", 6, kernel=3),
            ConvBlock("newer", 10, kernel=3, stride=stride),
            Cell("cell", NETWORKS["nasnet-a"].normal, filters=4, previous="older"),
            Classifier("predictions", 2),
        ),
    )
    ours = build(spec)
    older, newer, result = (
        ours.get_layer(name).output
        for name in ("older_activation", "newer_activation", "cell_concat")
    )
    theirs, _ = nasnet._normal_a_cell(newer, older, 4, block_id="x")
    both = keras.Model(ours.input, [result, theirs])
    rng = np.random.default_rng(0)
    for layer in both.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])

    def copy(target: str, *sources: str) -> None:
        weights = [w for source in sources for w in ours.get_layer(source).get_weights()]
        both.get_layer(target).set_weights(weights)

    copy("normal_conv_1_x", "cell_input_conv")
    copy("normal_bn_1_x", "cell_input_bn")
    copy("adjust_bn_x", "cell_previous_bn")
    if stride == 1:
        copy("adjust_conv_projection_x", "cell_previous_conv")
    else:
        copy("adjust_conv_1_x", "cell_previous_even_conv")
        copy("adjust_conv_2_x", "cell_previous_odd_conv")
    branches = {"left1": "2a", "right1": "2b", "left2": "3a", "right2": "3b", "left5": "6a"}
    for block, state in branches.items():
        for step in (1, 2):
            source = f"cell_state{state}_{step}"
            copy(f"separable_conv_{step}_normal_{block}_x", f"{source}_dwconv", f"{source}_conv")
            copy(f"separable_conv_{step}_bn_normal_{block}_x", f"{source}_bn")
    image = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    mine, reference = both(image)
    np.testing.assert_allclose(mine, reference, atol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
def test_a_zero_padded_cell_is_kerass_reduction_cell(side):
    """Its strided poolings count the padding as zeros, which those of `Cell` leave out."""
    genotype = NETWORKS["nasnet-a"].reduction
    image = keras.Input((side, side, 6))
    theirs, _ = nasnet._reduction_a_cell(image, None, 6, block_id="x")
    reference = keras.Model(image, theirs)
    rng = np.random.default_rng(0)
    for layer in reference.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(2, side, side, 6)).astype(np.float32)
    branches = {"2a": "left1", "2b": "right1", "3b": "right2", "4b": "right3", "6a": "left4"}
    errors = {}
    for kind in (ZeroPaddedCell, Cell):
        cell = kind("cell", genotype=genotype, filters=6, stride=2)
        ours = build(ArchSpec("cells", (side, side, 6), (cell,)))

        def copy(source: str, *targets: str, model: keras.Model = ours) -> None:
            weights = reference.get_layer(source).get_weights()
            for target in targets:
                layer = model.get_layer(target)
                layer.set_weights([weights.pop(0) for _ in layer.weights])

        copy("reduction_conv_1_x", "cell_input_conv")
        copy("reduction_bn_1_x", "cell_input_bn")
        for state, branch in branches.items():
            for step in (1, 2):
                name = f"cell_state{state}_{step}"
                source = f"separable_conv_{step}_reduction_{branch}_x"
                copy(source, f"{name}_dwconv", f"{name}_conv")
                copy(f"separable_conv_{step}_bn_reduction_{branch}_x", f"{name}_bn")
        errors[kind] = np.abs(np.asarray(ours(x)) - np.asarray(reference(x))).max()
    assert errors[ZeroPaddedCell] < 1e-5
    assert errors[Cell] > 1e-2

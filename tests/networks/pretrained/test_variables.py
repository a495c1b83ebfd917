"""Variables of networks as their Keras models have them."""

from __future__ import annotations

import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, SeparableConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.variables import variables
from efficientnet_elite.networks.spec import ArchSpec

GROUPED = ArchSpec(
    "grouped",
    (16, 16, 3),
    (
        ConvBlock("stem", 8, 3, 2, "prelu"),
        SeparableConv("top", 16, groups=4, activation="prelu"),
        Classifier("predictions", 5),
    ),
)
SPECS = {
    "grouped": GROUPED,
    "mobilenetv3-small": spec_by_name("mobilenetv3-small"),
    "decoder": segmentation.FAMILIES["espnet-3"].build("espnet-3", 0.5, 0.5, 64, 3),
}


@pytest.mark.parametrize("name", SPECS)
def test_paths_and_shapes_are_those_of_keras(name):
    spec = SPECS[name]
    layers = {layer.name: layer for layer in build(spec).layers}
    expected = {
        node.name: {v.path: tuple(v.shape) for v in layers[node.name].weights}
        for node in spec.graph.nodes
        if node.params
    }
    assert variables(spec) == expected
    assert all(list(variables(spec)[name]) == list(expected[name]) for name in expected)


def test_other_weights_are_refused():
    spec = training_form(FAMILIES["condensenet-g4"].build("condensenet-g4", 1.0, 1.0, 64, 5))
    with pytest.raises(UserError, match="is a LearnedConv"):
        variables(spec)

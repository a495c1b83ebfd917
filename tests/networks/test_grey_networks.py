"""Networks for images of one channel: what changes, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

import efficientnet_elite as ee
from efficientnet_elite import cli
from efficientnet_elite.device import costs
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_members
from tests.support.counting import check_counts

BASE = 64
ALL = FAMILIES | segmentation.FAMILIES


@pytest.mark.parametrize("family", ALL)
def test_only_what_reads_the_image_changes(family):
    """A convolution of the image has a third of its weights; all else is the same."""
    members = pool_members(family, base_resolution=BASE, classes=5)
    grey = pool_members(family, base_resolution=BASE, classes=5, channels=1)
    assert [each.name for each in grey] == [each.name for each in members]
    colour, one = members[-1].spec, grey[-1].spec
    assert one.input_shape == (*colour.input_shape[:2], 1) and one.blocks == colour.blocks
    assert ArchSpec.from_json(one.to_json()) == one
    assert one.params < colour.params and one.macs < colour.macs
    for node, other in zip(colour.graph.nodes, one.graph.nodes, strict=True):
        if -1 in node.inputs and isinstance(node.op, ops.Conv):
            bias = node.op.filters * node.op.bias
            assert 3 * (other.params - bias) == node.params - bias
            assert 3 * other.macs == node.macs
        # ESPNets concatenate their maps with the image, so that some have two channels less.
        assert other.shape[:-1] == node.shape[:-1]
    assert one.graph.nodes[-1].shape == colour.graph.nodes[-1].shape
    assert costs.of(one, "size_bytes") < costs.of(colour, "size_bytes")
    assert costs.of(one, "arena_bytes") <= costs.of(colour, "arena_bytes")


@pytest.mark.parametrize(
    "name", ["elite9-relu6-nose", pytest.param("espnetv2-0.5", marks=pytest.mark.slow)]
)
def test_keras_counts_the_same(name):
    check_counts(spec_by_name(name, classes=5, base_resolution=BASE, channels=1))


def test_factories_and_names_take_channels():
    model = ee.ELite9(input_shape=(32, 32, 1), classes=3)
    by_name = ee.build("elite9", base_resolution=32, classes=3, channels=1)
    assert model.input_shape == by_name.input_shape == (None, 32, 32, 1)
    assert model(np.zeros((1, 32, 32, 1), np.float32)).shape == (1, 3)


def test_elite_models_counts_grey_networks(capsys):
    arguments = ["models", "--pool=elite", "--base_resolution=32", "--format=csv"]
    assert cli.main(arguments) == 0
    colours = capsys.readouterr().out.splitlines()[1].split(",")
    assert cli.main([*arguments, "--channels=1"]) == 0
    grey = capsys.readouterr().out.splitlines()[1].split(",")
    assert grey[0] == colours[0] == "elite0"
    assert int(colours[4]) - int(grey[4]) == 2 * 9 * 32  # of the stem's 32 filters of 3 x 3

"""Selection of blocks and channels: structure on specs alone, functions by Keras models."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families.efficientnet import efficientnet
from efficientnet_elite.networks.families.mobilenetv3 import _LARGE, mobilenetv3
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.pretrained.matching import match_nodes
from efficientnet_elite.networks.pretrained.selection import WAYS, select
from efficientnet_elite.networks.spec import ArchSpec
from tests.support.random_weights import (
    outputs,
    random_source,
    random_weights,
    target,
    variable_shapes,
)


def last_features(selection) -> str:
    """Name of the last node that the target shares with the source: what the classifier reads."""
    return [name for name in selection.nodes if not name.endswith("dropout")][-1]


def assert_same_function(selection, node=None):
    one, other = outputs(selection, node or last_features(selection))
    scale = max(1.0, float(np.abs(other).max()))
    assert other.std() > 1e-3 * scale
    np.testing.assert_allclose(one / scale, other / scale, atol=1e-4)


@pytest.fixture(scope="module")
def source():
    return random_source("elite0-relu6-nose")


@pytest.mark.parametrize(
    ("from_", "to", "how"),
    [
        ("elite9-nose", "elite9-nose", "importance"),
        ("elite9-nose", "elite0-nose", "importance"),  # wider and deeper
        ("elite9-nose", "elite-w2d4r1-nose", "uniform"),
        ("elite9-nose", "elite-w2d4r1-nose", "first"),
        ("elite9", "elite-w3d3r1", "importance"),  # with gates
        ("mobilenetv2-w4d4r4", "mobilenetv2-0.75", "importance"),
        ("mobilenetv1-0.5", "mobilenetv1", "importance"),  # no residual connections
        ("mobilenetv3-small-w4d4r4", "mobilenetv3-small", "importance"),  # blocks are numbered
        ("ghostnet-0.5", "ghostnet", "importance"),  # concatenated halves
        ("squeezenet-1.0-w2d1r1", "squeezenet-1.0", "importance"),  # no batch normalisation
        ("elite9-nose", "elite9", "importance"),  # gates that the source does not have
        ("mobilenetv2-w4d4r4", "ecamobilenetv2-w4d4r4", "importance"),  # gates without bias
        ("shufflenet-g3", "shufflenet-g3", "importance"),  # everything stays in its place
        ("espnetv2", "espnetv2", "importance"),
    ],
)
def test_wider_and_deeper_networks_compute_the_same(from_, to, how):
    assert_same_function(select(random_source(from_, 32), target(to, 32), how))


@settings(max_examples=3)
@given(
    width=st.floats(0.2, 0.6),
    depth=st.sampled_from([0.3, 0.5]),
    wider=st.floats(1.0, 2.0),
    deeper=st.floats(1.0, 2.0),
)
def test_any_wider_and_deeper_network_computes_the_same(width, depth, wider, deeper):
    spec = efficientnet("source", width, depth, 32, 7)
    larger = efficientnet("target", width * wider, depth * deeper, 32, 5)
    assert_same_function(select(random_weights(spec), larger))


@given(
    width=st.floats(0.1, 2.0),
    depth=st.floats(0.3, 2.0),
    how=st.sampled_from(WAYS),
    gates=st.booleans(),
)
@settings(max_examples=15)
def test_every_array_fits_its_variable(source, width, depth, how, gates):
    spec = Variant("swish", gates).apply(efficientnet("elite-x", width, depth, 64, 5))
    arrays = select(source, spec, how).arrays
    shapes = variable_shapes(spec)
    assert {path: array.shape for path, array in arrays.items()} == {
        path: shapes[path] for path in arrays
    }
    assert not any(path.startswith("predictions") for path in arrays)
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_residual_streams_have_the_same_channels(source):
    channels = select(source, target("elite9-relu6-nose")).channels
    stream = channels["block6a_project_conv"]
    assert len(stream) < 192
    assert list(stream) == sorted(set(stream))
    for name in ("block6a_project_bn", "block6b_project_conv", "block6b_add"):
        np.testing.assert_array_equal(channels[name], stream)
    np.testing.assert_array_equal(
        channels["block6b_expand_conv"], channels["block6b_dw_activation"]
    )
    assert not np.array_equal(channels["block6b_expand_conv"], channels["block6a_expand_conv"])


def test_kernels_are_those_of_the_channels(source):
    selection = select(source, target("elite9-relu6-nose"))
    rows, columns = (
        selection.channels[name] for name in ("block6a_project_conv", "block6b_expand_conv")
    )
    np.testing.assert_array_equal(
        selection.arrays["block6b_expand_conv/kernel"],
        source.arrays["block6b_expand_conv/kernel"][:, :, rows][..., columns],
    )


def test_dead_channels_are_left_out(source):
    dead = np.arange(0, 320, 3)
    arrays = dict(source.arrays)
    arrays["block7a_project_bn/moving_variance"] = arrays["block7a_project_bn/moving_variance"] + 0
    arrays["block7a_project_bn/moving_variance"][dead] = 0
    arrays["top_conv/kernel"] = arrays["top_conv/kernel"] + 0
    selection = select(replace(source, arrays=arrays), target("elite9-relu6-nose"))
    assert not set(dead) & set(selection.channels["block7a_project_bn"])


def test_channels_that_contribute_more_are_taken(source):
    arrays = dict(source.arrays)
    kernel = arrays["block3b_project_conv/kernel"] + 0
    strong = np.arange(1, 240, 4)
    kernel[:, :, strong] *= 10
    arrays["block3b_project_conv/kernel"] = kernel
    selection = select(replace(source, arrays=arrays), target("elite-w4d1r1-relu6-nose"))
    assert set(strong) <= set(selection.channels["block3b_dwconv"])


def test_ways_of_choosing(source):
    chosen = {
        how: select(source, target("elite9-relu6-nose"), how).channels["top_conv"] for how in WAYS
    }
    size = len(chosen["first"])
    np.testing.assert_array_equal(chosen["first"], np.arange(size))
    assert chosen["uniform"][0] == 0
    assert chosen["uniform"][-1] == 1279
    assert {len(channels) for channels in chosen.values()} == {size}
    with pytest.raises(UserError, match="how='best' is unknown: use importance, uniform, first"):
        select(source, target("elite9"), "best")


def test_copies_of_channels_do_not_have_the_same_weights():
    """Otherwise they would get the same gradients and stay the same."""
    selection = select(random_source("elite9-nose"), target("elite0-nose"))
    channels = selection.channels["block6a_project_bn"]
    kernel = selection.arrays["block7a_expand_conv/kernel"][0, 0]
    first, second, *_ = np.flatnonzero(channels == np.argmax(np.bincount(channels)))
    assert not np.allclose(kernel[first], kernel[second])


def test_kernels_of_another_size():
    source = random_source("mobilenetv3-large")
    large = source.arrays["block5_dwconv/kernel"]
    selection = select(source, target("mobilenetv3-large-minimalistic"))
    channels = selection.channels["block5_dwconv"]
    np.testing.assert_array_equal(
        selection.arrays["block5_dwconv/kernel"], large[1:4, 1:4][:, :, channels]
    )
    back = select(random_source("mobilenetv3-large-minimalistic"), target("mobilenetv3-large"))
    kernel = back.arrays["block5_dwconv/kernel"]
    assert kernel.shape[:2] == (5, 5)
    assert np.abs(kernel[1:4, 1:4]).min() > 0
    assert np.abs(kernel[[0, 4]]).max() == np.abs(kernel[:, [0, 4]]).max() == 0


def test_dropped_gates_are_replaced_by_their_mean():
    """Gates that are constants leave nothing to estimate: the function is the same."""
    source = random_source("elite9", 32)
    arrays = {
        path: array * 0 if path.endswith("se_expand/kernel") else array
        for path, array in source.arrays.items()
    }
    assert_same_function(select(replace(source, arrays=arrays), target("elite9-nose", 32)))


def test_grey_images(source):
    spec = target("elite0-relu6-nose").resized((64, 64, 1))
    kernel = select(source, spec).arrays["stem_conv/kernel"]
    np.testing.assert_allclose(
        kernel, source.arrays["stem_conv/kernel"].sum(2, keepdims=True), rtol=1e-6
    )


def test_first_blocks_of_each_stage_are_taken():
    def large(width: float, depth: float) -> ArchSpec:
        return mobilenetv3(_LARGE, 1280, False, "large", width, depth, 64, 5)

    nodes = match_nodes(large(1.0, 1.0), large(0.5, 0.5))
    blocks = {
        name.removesuffix("_dwconv"): other.removesuffix("_dwconv")
        for name, other in nodes.items()
        if name.endswith("_dwconv")
    }
    assert blocks == {
        "block1": "block1",
        "block2": "block2",
        "block3": "block4",
        "block4": "block5",
        "block5": "block7",
        "block6": "block8",
        "block7": "block11",
        "block8": "block13",
        "block9": "block14",
    }


@pytest.mark.parametrize("name", ["lraspp-mobilenetv3-large", "lraspp-mobilenetv3-large-w2d2r1"])
def test_segmentation_networks_take_the_backbone(name):
    selection = select(random_source("mobilenetv3-large"), target(name))
    assert {"stem_conv", "block9_dwconv", "top_conv"} <= selection.nodes.keys()
    assert not any(name.startswith("head") for name in selection.nodes)
    if name == "lraspp-mobilenetv3-large":
        assert_same_function(selection, "block9_add")  # later ones are dilated, not strided


@pytest.mark.parametrize(
    ("from_", "to", "reason"),
    [
        ("mobilenetv1", "elite9", "only 2 of its layers correspond"),
        ("shufflenet-g3-2", "shufflenet-g3", "cannot be chosen one by one"),
        ("mobilenetv1-w3d3r1", "mobilenetv1", "block12_dwconv reads channels that the source"),
        ("elite0-nose", "fbnet-c", "block2b_dwconv has another number of inputs there"),
    ],
)
def test_refusals_say_which_layer_does_not_fit(from_, to, reason):
    with pytest.raises(UserError, match=rf"^{to} cannot start from {from_}: .*{reason}"):
        select(random_source(from_), target(to))


def test_models_of_users_are_refused(source):
    block = UserModel("mine", "module:function", 5, 32, 10, 10)
    with pytest.raises(UserError, match=r"cannot start from .*: the layers of mine are unknown"):
        select(source, ArchSpec("mine", (64, 64, 3), (block,)))


def test_selection_takes_well_under_a_second(source):
    spec = target("elite0-relu6-nose")
    start = time.process_time()
    select(source, spec)
    assert time.process_time() - start < 1.5

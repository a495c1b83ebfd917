"""Weights of timm and torchvision in the normal form, without these libraries.

The names and shapes of all networks' tensors are those that the libraries make (pinned digests in
`tests.support.state_dicts`), and every tensor of every small network is used once. Layouts, the
epsilon of batch normalisation, preprocessing, licences and refusals are tested on random arrays.
`test_timm_outputs` compares outputs with those of the libraries.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained import lite
from efficientnet_elite.networks.pretrained.timm import describe, read
from efficientnet_elite.networks.pretrained.timm_networks import NETWORKS
from tests.support.state_dicts import PINNED, digest, modules, random_state_dict, shapes

# Names of modules in the packages that `lite` reads.
LITE_MODULES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "dw_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "predictions": "_fc",
}

BY_NAME = {f"{network.library} {network.name}": network for network in NETWORKS}
SMALL = [name for name, network in BY_NAME.items() if network.spec(10).params < 3e6]
# One for each pattern of names and kind of block.
TYPICAL = [
    "timm tinynet_e",
    "timm ghostnet_050",
    "timm mobilenetv3_small_050",
    "timm fbnetc_100",
    "torchvision mnasnet0_5",
]


def state_dict(name: str, classes: int = 10) -> dict[str, np.ndarray]:
    return random_state_dict(BY_NAME[name], BY_NAME[name].spec(classes))


def short(name: str) -> str:
    return name.partition(" ")[2]


def test_names_and_shapes_are_those_of_the_libraries():
    made = {}
    for name, network in BY_NAME.items():
        tensors = shapes(network, network.spec(1000))
        made[name] = (len(tensors), digest(tensors))
    assert made == PINNED


@pytest.mark.parametrize("name", SMALL)
def test_every_tensor_is_used_once(name: str):
    arrays = state_dict(name)
    weights = read(arrays, short(name))
    assert sum(array.size for array in weights.arrays.values()) == weights.spec.params
    assert len(weights.arrays) == len(arrays)
    assert {array.dtype for array in weights.arrays.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", TYPICAL)
def test_every_variable_of_the_model_gets_an_array(name: str):
    weights = read(state_dict(name), short(name))
    model = build(weights.spec.resized((64, 64, 3)))
    variables = {v.path: tuple(v.shape) for v in model.variables if "seed" not in v.path}
    assert {path: array.shape for path, array in weights.arrays.items()} == variables


def test_layouts():
    arrays = state_dict("timm tf_efficientnet_b0")
    converted = read(arrays, "tf_efficientnet_b0").arrays
    expand = arrays["blocks.1.0.conv_pw.weight"]  # (out, in, 1, 1)
    assert np.array_equal(converted["block2a_expand_conv/kernel"][0, 0], expand[:, :, 0, 0].T)
    depthwise = arrays["blocks.2.1.conv_dw.weight"]  # (c, 1, h, w)
    for row, column, channel in ((0, 4, 7), (3, 1, 0)):
        assert (
            converted["block3b_dwconv/kernel"][row, column, channel, 0]
            == depthwise[channel, 0, row, column]
        )
    stem = arrays["conv_stem.weight"]
    assert converted["stem_conv/kernel"][2, 1, 0, 5] == stem[5, 0, 2, 1]
    gate = arrays["blocks.0.0.se.conv_reduce.weight"][:, :, 0, 0]
    assert np.array_equal(converted["block1a_se_reduce/kernel"][0, 0], gate.T)
    for end, module in (("reduce", "conv_reduce"), ("expand", "conv_expand")):
        bias = arrays[f"blocks.0.0.se.{module}.bias"]
        assert np.array_equal(converted[f"block1a_se_{end}/bias"], bias)
    assert np.array_equal(converted["predictions/kernel"], arrays["classifier.weight"].T)
    assert np.array_equal(converted["top_bn/beta"], arrays["bn2.bias"])
    assert np.array_equal(
        converted["block1a_project_bn/moving_mean"], arrays["blocks.0.0.bn2.running_mean"]
    )


def test_epsilon_is_folded_into_gamma():
    arrays = state_dict("timm mobilenetv2_050")
    converted = read(arrays, "mobilenetv2_050").arrays
    variance = arrays["bn1.running_var"]
    assert np.array_equal(converted["stem_bn/moving_variance"], variance)
    np.testing.assert_allclose(
        converted["stem_bn/gamma"] / np.sqrt(variance + 1e-3),
        arrays["bn1.weight"] / np.sqrt(variance + 1e-5),
        rtol=1e-6,
    )
    arrays = state_dict("timm tf_efficientnet_lite0")
    gamma = read(arrays, "tf_efficientnet_lite0").arrays["stem_bn/gamma"]
    assert np.array_equal(gamma, arrays["bn1.weight"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timm mobilenetv2_100", "torchvision mobilenet_v2"),
        ("timm mnasnet_050", "torchvision mnasnet0_5"),
        ("timm efficientnet_b0", "torchvision efficientnet_b0"),
        ("timm ghostnet_050", "timm ghostnet_050"),
    ],
)
def test_both_libraries_and_any_order_of_tensors_give_the_same(one: str, other: str):
    """`.safetensors` files are sorted by name."""
    first, second = state_dict(one), state_dict(other)
    assert sorted(first) != list(first)
    ours = read(first, short(one))
    theirs = read({name: second[name] for name in sorted(second)}, short(other))
    assert ours.spec == theirs.spec
    assert ours.arrays.keys() == theirs.arrays.keys()
    assert all(np.array_equal(ours.arrays[path], theirs.arrays[path]) for path in ours.arrays)


def test_counters_of_batches_are_left_out():
    arrays = state_dict("timm mnasnet_small")
    counted = arrays | {"bn1.num_batches_tracked": np.array(3)}
    assert read(counted).arrays.keys() == read(arrays).arrays.keys()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_lite_is_what_the_reader_of_lite_makes_of_it(number: int):
    network = BY_NAME[f"timm tf_efficientnet_lite{number}"]
    spec = lite.lite_spec(number)
    arrays = random_state_dict(network, network.spec(1000))
    blocks = [block.name for block in spec.blocks if isinstance(block, MBConv)]
    originals = {}
    for node, module in modules(network, spec).items():
        block, _, part = node.partition("_")
        if block in blocks:
            original = f"_blocks.{blocks.index(block)}.{LITE_MODULES[part]}"
        else:
            original = LITE_MODULES[node]
        for name, array in arrays.items():
            if name.rpartition(".")[0] == module:
                originals[f"{original}.{name.rpartition('.')[2]}"] = array
    assert len(originals) == len(arrays)
    theirs = lite.convert(originals, spec)
    ours = read(arrays, network.name)
    assert ours.spec == spec
    assert ours.arrays.keys() == theirs.keys()
    assert all(np.array_equal(ours.arrays[path], array) for path, array in theirs.items())


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("timm tf_efficientnet_lite0", "elite0-relu6-nose"),
        ("timm tf_efficientnet_b0", "efficientnet-b0"),
        ("timm mobilenetv2_050", "mobilenetv2-0.5"),
        ("timm mobilenetv3_large_100", "mobilenetv3-large"),
        ("timm tf_mobilenetv3_small_minimal_100", "mobilenetv3-small-minimalistic"),
        ("timm ghostnet_100", "ghostnet"),
        ("timm mnasnet_100", "mnasnet-b1"),
        ("timm semnasnet_100", "mnasnet-a1"),
        ("timm tinynet_c", "tinynet-c"),
        ("torchvision mobilenet_v3_small", "mobilenetv3-small"),
        ("torchvision mnasnet1_0", "mnasnet-b1"),
    ],
)
def test_the_spec_is_that_of_our_network(name: str, model: str):
    assert BY_NAME[name].spec(7) == spec_by_name(model, classes=7)


def test_fbnet_has_an_expanding_convolution_in_every_block():
    spec, ours = BY_NAME["timm fbnetc_100"].spec(10), spec_by_name("fbnet-c", classes=10)
    # Three blocks of expansion 1: one from 16 to 16 channels and two from 24 to 24.
    assert spec.params - ours.params == (16 * 16 + 4 * 16) + 2 * (24 * 24 + 4 * 24)


def test_a_network_is_recognised_without_a_name():
    weights = read(state_dict("timm mobilenetv2_050"), "model")
    assert weights.name == "mobilenetv2-050"
    assert "recognised from its tensors" in weights.origin
    assert weights.licence == "unknown"
    assert weights.spec.classes == 10
    assert read(state_dict("torchvision mnasnet0_5")).name == "mnasnet0-5"


def test_what_the_tensors_cannot_tell_needs_a_name():
    arrays = state_dict("timm mobilenetv3_small_075")
    with pytest.raises(UserError, match="fit mobilenetv3_small_075 and tf_mobilenetv3_small_075"):
        read(arrays)
    assert read(arrays, "tf_mobilenetv3_small_075-da427f52").deviation == ""
    assert "32 n + 1" in read(arrays, "mobilenetv3_small_075.lamb_in1k").deviation


@pytest.mark.parametrize(
    ("name", "mean", "std", "licence"),
    [
        ("tf_efficientnet_b0.ns_jft_in1k", 0.485, 0.229, "Apache-2.0"),
        ("timm/tf_efficientnet_b0.ap_in1k", 0.5, 0.5, "Apache-2.0"),
        ("tf_efficientnet_b0_ap-f262efe1", 0.5, 0.5, "Apache-2.0"),
        ("efficientnet_b0.ra4_e3600_r224_in1k", 0.5, 0.5, "Apache-2.0"),
        ("efficientnet_b0_ra-3dd342df", 0.485, 0.229, "Apache-2.0"),
    ],
)
def test_preprocessing_by_name(name: str, mean: float, std: float, licence: str):
    weights = read(state_dict("timm tf_efficientnet_b0", 1000), name)
    assert weights.licence == licence
    assert read(state_dict("timm tf_efficientnet_b0", 10), name).licence == "unknown"
    for pixel in (0, 255):
        red = pixel * weights.scale[0] + weights.offset[0]
        assert red == pytest.approx((pixel / 255 - mean) / std)


def test_preprocessing_of_lite_and_of_torchvision():
    weights = read(state_dict("timm tf_efficientnet_lite0"), "tf_efficientnet_lite0")
    assert weights.scale == pytest.approx((2 / 255,) * 3)
    assert weights.offset == pytest.approx((-1,) * 3)
    weights = read(state_dict("torchvision mobilenet_v2"), "mobilenet_v2-b0353104")
    assert weights.offset == pytest.approx((-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225))
    assert weights.licence == "unknown"


def test_the_description_goes_before_the_name(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architecture": "tf_mobilenetv3_small_075",
                "num_classes": 10,
                "pretrained_cfg": {
                    "tag": "in1k",
                    "input_size": [3, 192, 192],
                    "mean": [0, 0, 0],
                    "std": [1, 1, 0.5],
                    "license": "apache-2.0",
                },
            }
        )
    )
    description = describe(tmp_path / "model.safetensors")
    weights = read(state_dict("timm mobilenetv3_small_075"), "model", description)
    assert weights.name == "tf-mobilenetv3-small-075"
    assert weights.scale == pytest.approx((1 / 255, 1 / 255, 2 / 255))
    assert weights.offset == (0, 0, 0)
    assert weights.spec.input_shape == (192, 192, 3)
    assert weights.licence == "Apache-2.0"


def test_description_in_a_safetensors_file(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"__metadata__": {"format": "pt", "architecture": "ghostnet_100"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert describe(path) == {"format": "pt", "architecture": "ghostnet_100"}


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, struct.pack("<Q", 2) + b"[]"])
def test_a_file_without_description(tmp_path, content: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert describe(path) == {}
    assert describe(tmp_path / "model.pth") == {}


@pytest.mark.parametrize(
    "description",
    [
        {"architecture": 3, "pretrained_cfg": "none"},
        {"pretrained_cfg": {"mean": 0.5, "std": [1, 1, 0], "input_size": "large"}},
        {"pretrained_cfg": {"mean": ["x", 0, 0], "std": [1, 1, 1], "input_size": [3, 224]}},
    ],
)
def test_a_description_that_says_nothing_is_ignored(description):
    arrays = state_dict("timm mobilenetv2_035")
    described, plain = read(arrays, None, description), read(arrays)
    assert (described.scale, described.offset) == (plain.scale, plain.offset)
    assert described.spec == plain.spec


def test_refusals():
    arrays = state_dict("timm mobilenetv2_050")
    with pytest.raises(
        UserError, match=r"not the weights of timm's mobilenetv2_100: conv_stem has"
    ):
        read(arrays, "mobilenetv2_100")
    with pytest.raises(UserError, match="they have 104 layers instead of 105"):
        read({n: a for n, a in arrays.items() if "blocks.6.0.bn3" not in n}, "mobilenetv2_050")
    with pytest.raises(UserError, match="names, but the shapes of another network"):
        read(arrays | {"conv_stem.weight": np.zeros((8, 3, 3, 3))})
    with pytest.raises(UserError, match="names, but the shapes of another network"):
        read(arrays | {"conv_stem.bias": np.zeros(16)})
    with pytest.raises(UserError, match="have the names of another network: those of EfficientNet"):
        read({"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3))})
    with pytest.raises(UserError, match="have the names of another network: those of EfficientNet"):
        read({})
    with pytest.raises(UserError, match=r"tensors of blocks\.0\.0\.\* are of another kind"):
        read(arrays | {"blocks.0.0.conv_exp.weight": np.zeros(1)})
    with pytest.raises(UserError, match=r"no classifier: the last layer is bn2"):
        read({n: a for n, a in arrays.items() if "classifier" not in n})
    with pytest.raises(UserError, match="tensors of norm_head are of another network"):
        read(arrays | {"norm_head.weight": np.zeros(1)})

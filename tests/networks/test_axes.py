"""Pools with axes, and the variants that change kernels, channels and the stem."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import activations, ops
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.axes import AXES, pool_parts
from efficientnet_elite.networks.families.user import sources_of_pool
from efficientnet_elite.networks.families.variants import (
    KERNELS,
    MCU,
    MULTIPLES,
    PATCH,
    Variant,
    split_variant,
)
from efficientnet_elite.networks.names import families_of_pool, pool_sizes, spec_by_name
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.search.candidates import pool_candidates
from tests.support.counting import check_counts
from tests.support.random_weights import models, outputs, random_source, target

SMALL = {"base_resolution": 48, "classes": 10}


def names(pool: str) -> list[str]:
    return [candidate.name for candidate in pool_candidates(pool, **SMALL)]


@given(
    st.builds(
        Variant,
        st.sampled_from([None, *activations.variants()]),
        st.booleans(),
        st.sampled_from([None, *KERNELS]),
        st.sampled_from([None, *MULTIPLES]),
        st.sampled_from([None, PATCH]),
    ),
    st.sampled_from(["elite9", "mobilenetv3-large-minimalistic", "elite-w1d2r3"]),
)
def test_every_suffix_is_read_back(variant, base):
    assert split_variant(base + variant.suffix) == (base, variant)


def test_the_short_suffix_is_the_long_one():
    assert split_variant("elite-relu6-nose-k3-m16-stem4") == ("elite", replace(MCU, stem=4))
    assert (MCU.suffix, replace(MCU, stem=4).suffix) == ("-mcu", "-mcu-stem4")
    assert spec_by_name("elite9-relu6-nose-k3-m16") == spec_by_name("elite9-mcu")
    assert names("elite-mcu") == [f"{name}-mcu" for name in names("elite")]


# -- axes ------------------------------------------------------------------------------------------


def test_axes_stand_for_the_product_of_their_values():
    pool = "elite:activation=swish,relu6:gates=on,off:stem=3x3s2,4x4s4:kernel=5,3"
    candidates = pool_candidates(pool, **SMALL)
    base = names("elite")
    assert len(candidates) == 16 * len(base)
    suffixes = ["".join(parts) for parts in product(("", "-relu6"), ("", "-nose"))]
    suffixes = ["".join(parts) for parts in product(suffixes, ("", "-k3"), ("", "-stem4"))]
    assert {c.name for c in candidates} == {n + suffix for n in base for suffix in suffixes}
    for candidate in candidates[::29]:
        assert spec_by_name(candidate.name, **SMALL) == candidate.spec
    assert len(families_of_pool(pool)) == 16
    assert pool_sizes(pool, 48) == pool_sizes("elite", 48)


@given(st.data())
@settings(max_examples=15)
def test_any_combination_names_networks_that_are_read_back(data):
    chosen = data.draw(st.lists(st.sampled_from(list(AXES)), min_size=1, unique=True))
    pool, combinations = "elite", 1
    for axis in chosen:
        values = st.lists(st.sampled_from(list(AXES[axis].values())), min_size=1, unique=True)
        drawn = data.draw(values)
        pool, combinations = f"{pool}:{axis}={','.join(drawn)}", combinations * len(drawn)
    (part,) = pool_parts(pool)
    assert len(part.variants(Variant())) == combinations
    kinds = families_of_pool(pool)
    assert 1 <= len(kinds) <= combinations
    for _, variant in kinds:
        name = f"elite9{variant.suffix}"
        assert spec_by_name(name).name == name


@pytest.mark.parametrize(
    ("pool", "same"),
    [
        ("elite:activation=own", "elite"),
        ("elite:activation=swish:kernel=5:multiple=8", "elite"),  # what eLite is already
        ("elite:gates=on,off", "elite,elite-nose"),
        ("elite,elite:gates=on", "elite"),
        ("mobilenetv2:gates=on,off", "mobilenetv2"),  # it has none
        ("elite-relu6:stem=4x4s4,3x3s2,hf", "elite-relu6-stem4,elite-relu6,hf"),
        ("ELITE : Gates = ON , off , HF", "elite,elite-nose,hf"),
        ("mobilenetv3:stem=4x4s4", "mobilenetv3-stem4"),
    ],
)
def test_pools_that_are_the_same(pool, same):
    assert names(pool) == names(same)


def test_suffixes_keep_what_axes_leave_out():
    """Names that existed before axes: a suffix stays although it changes nothing."""
    assert names("mobilenetv2-nose") == [f"{name}-nose" for name in names("mobilenetv2")]
    assert names("elite-swish")[0] == "elite0-swish"


def test_each_network_of_a_pool_has_the_suffix_of_what_changes_it():
    """At half width, some widths of MobileNetV1 are no multiples of 16."""
    found = names("mobilenetv1:multiple=8,16")
    plain = names("mobilenetv1")
    assert len(plain) < len(found) < 2 * len(plain)
    assert {name.removesuffix("-m16") for name in found} == set(plain)


def test_parts_of_a_pool():
    text = "elite:gates=on,off:kernel=3,mobilenetv2, my.mod:Nets,ghostnet:stem=4x4s4"
    parts = pool_parts(text)
    assert [part.name for part in parts] == ["elite", "mobilenetv2", "my.mod:Nets", "ghostnet"]
    assert parts[0].values == {"gates": ["on", "off"], "kernel": ["3"]}
    assert sources_of_pool(text) == ["my.mod:Nets"]
    assert sources_of_pool("a:b,elite:gates=off,c:d") == ["a:b", "c:d"]


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("elite:gate=off", "elite:gate: there is no such axis.*did you mean gates"),
        ("elite:gates=of", "elite:gates=of: use on or off; did you mean off"),
        ("elite:gates=", "use on or off"),
        ("elite:gates", "elite:gates: an axis needs values, such as elite:gates=on,off"),
        ("elite:gates=off:stem", "write AXIS=VALUE"),
        ("elite:activation=swish,reul6", "nor is it a value of activation.*did you mean relu6"),
        ("elite:gates=on,off,", "unknown pool ''"),
        ("elite:gates=on,on", "names on twice"),
        ("elite:gates=on:gates=off", "has gates= twice"),
        ("elite:gates=off,stem=4x4s4", "write ':' before an axis"),
        ("elite-nose:gates=on", "the suffix -nose of the name chooses this already"),
        ("elite-mcu:kernel=3", "the suffix -mcu of the name chooses this already"),
        ("mynets:pool:gates=off", "axes are for the families of this program"),
        ("elit:gates=off", "unknown pool 'elit': did you mean elite"),
        ("squeezenet:stem=4x4s4", "does not begin with a 3x3 convolution of stride 2"),
        ("ghostnet-m16", "blocks of kind GhostBottleneck, which have no variant -m16"),
        ("nasnet-a:kernel=3", "blocks of kind Cell, which have no variant -k3"),
    ],
)
def test_faulty_pools_are_user_errors(pool, message):
    with pytest.raises(UserError, match=message) as error:
        pool_candidates(pool, **SMALL)
    assert "\n" not in str(error.value)


# -- what the variants change ----------------------------------------------------------------------


def test_kernels_are_no_larger():
    for side in KERNELS:
        nodes = spec_by_name(f"proxylessnas-mobile-k{side}").graph.nodes
        sides = {node.op.kernel for node in nodes if isinstance(node.op, ops.DepthwiseConv)}
        assert max(sides) == side
    assert spec_by_name("elite9-k3").params < spec_by_name("elite9").params


@pytest.mark.parametrize("name", ["elite9", "hf5", "mobilenetv2-0.35", "mobilenetv3-small"])
def test_channels_are_multiples(name):
    plain, rounded = spec_by_name(name), spec_by_name(f"{name}-m16")
    for before, after in zip(plain.graph.nodes, rounded.graph.nodes, strict=True):
        if len(after.shape) == 3 and "_se_" not in after.name:
            assert after.shape[-1] % 16 == 0
            assert abs(after.shape[-1] - before.shape[-1]) <= 8 or before.shape[-1] < 16
    assert rounded.macs == pytest.approx(plain.macs, rel=0.25)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stem_of_patches_keeps_later_maps(family):
    name, _ = next(iter(FAMILIES[family].pool(224)))
    plain = spec_by_name(name).resized((224, 224, 3))
    try:
        patches = spec_by_name(f"{name}-stem4").resized((224, 224, 3))
    except UserError:
        assert family.startswith(
            ("squeeze", "pelee", "espnet", "condense", "nasnet", "amoeba", "pnas")
        )
        return
    first, later = patches.graph.nodes[0], {node.name: node for node in patches.graph.nodes}
    assert (first.op.kernel, first.op.stride, first.shape[:2]) == (4, 4, (56, 56))
    for node in plain.graph.nodes:  # GhostNet's blocks of stride 1 have fewer operations
        if node.name in later and (shape := later[node.name].shape) != node.shape:
            assert (node.shape[0], shape[0]) == (112, 56)
    assert patches.macs < plain.macs


def test_counts_in_keras():
    check_counts(spec_by_name("elite-w4d4r4-mcu-stem4", base_resolution=64, classes=5))


# -- pretrained weights ----------------------------------------------------------------------------


def test_more_channels_compute_the_same():
    """All channels of MobileNetV2 are multiples of 16 but for 24, which become 32."""
    selection = select(random_source("mobilenetv2", 32), target("mobilenetv2-m16", 32))
    one, other = outputs(selection, "top_activation")
    np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("elite0-relu6-nose", "elite9-mcu-stem4"),
        ("mobilenetv3-small", "mobilenetv3-small-w4d4r1-k3-stem4"),  # blocks are numbered
    ],
)
def test_variants_start_with_weights_for_all_but_the_classifier(source, name):
    selection = select(random_source(source), target(name))
    model, _ = models(selection)
    paths = {variable.path for variable in model.weights if "seed_generator" not in variable.path}
    assert {path.split("/")[0] for path in paths - selection.arrays.keys()} == {"predictions"}


def test_a_stem_of_patches_starts_with_every_second_output():
    selection = select(random_source("elite9-nose", 32), target("elite9-nose-stem4", 32))
    one, other = outputs(selection, "stem_bn")
    assert one.shape[1:3] == (8, 8)
    np.testing.assert_allclose(one, other[:, ::2, ::2], atol=1e-4)

"""Every family: published counts to the unit, pools and variants."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import scaling
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.variants import Variant, split_variant
from efficientnet_elite.networks.names import pool_sizes, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_candidates

# Parameters (batch normalisation's moving statistics included) and multiply-accumulates of the
# published networks with 1000 classes. Each was counted independently of this project and is equal
# to the reference implementation's; docs/families.md says which, and where a publication differs.
COUNTS = """
efficientnet-b0 224 5330564 385814752
efficientnet-b1 240 7856232 686802832
efficientnet-b2 260 9177562 993561872
efficientnet-b3 300 12320528 1827141392
efficientnet-b4 380 19466816 4393771024
efficientnet-b5 456 30562520 10266384752
efficientnet-b6 528 43265136 19067593536
efficientnet-b7 600 66658680 37745884192
elite0 224 5330564 385814752
elite1 224 4737620 362616928
elite2 224 4421156 313864288
elite3 224 3776364 296880848
elite4 203 3532290 231882336
elite5 224 2683822 206717904
elite6 224 2517836 181315920
elite7 203 2184414 127993344
elite8 224 1604226 114524112
elite9 224 1339528 74561616
hf0 256 3807740 383486976
hf1 256 3166892 296369152
hf2 256 2771648 246855680
hf3 128 3444700 92285952
hf4 128 2975884 65551360
hf5 128 2771648 62658560
mobilenetv1 224 4253864 568740352
mobilenetv1 203 4253864 497216960
mobilenetv1 172 4253864 357223360
mobilenetv1 132 4253864 231522112
mobilenetv1-0.75 224 2601976 325400448
mobilenetv1-0.5 224 1342536 149497088
mobilenetv1-0.25 224 475544 41030272
mobilenetv2 224 3538984 300774272
mobilenetv2-1.4 224 6156712 582195824
mobilenetv2-1.3 224 5431048 509374560
mobilenetv2-0.75 224 2663064 209069792
mobilenetv2-0.5 224 1987224 97131840
mobilenetv2-0.35 224 1691208 59285808
mobilenetv3-large 224 5507432 216589760
mobilenetv3-large-0.75 224 4012616 154560624
mobilenetv3-large-1.25 224 8286760 349904800
mobilenetv3-large-0.5 224 2702512 73663088
mobilenetv3-large-minimalistic 224 3948688 209136704
mobilenetv3-small 224 2554968 56510400
mobilenetv3-small-0.75 224 2051552 43399344
mobilenetv3-small-1.25 224 3660640 87703648
mobilenetv3-small-0.5 224 1599720 24188688
mobilenetv3-small-minimalistic 224 2056848 52288448
mobilenetv4-conv-small 224 3799112 186005568
mobilenetv4-conv-small 256 3799112 242178048
mobilenetv4-conv-small-0.5 224 2252808 64741408
mobilenetv4-conv-small-0.35 224 1916072 47723040
mobilenetv4-conv-medium 224 9783416 827649984
mobilenetv4-conv-medium 320 9783416 1686470400
shufflenet-g3-0.5 224 729564 37589856
shufflenet-g3 224 1889208 137460672
shufflenet-g3-1.5 224 3477888 292443552
shufflenet-g3-2 224 5498736 524045184
shufflenet-g8-0.5 224 1030032 40469760
shufflenet-g8 224 2472936 138365952
shufflenet-g8-1.5 224 4327704 290188800
shufflenet-g8-2 224 6599568 521942016
squeezenet-1.0 224 1248424 818924576
squeezenet-1.0 227 1248424 832667936
squeezenet-1.1 224 1235496 349151936
squeezenet-1.1 227 1235496 387747520
espnetv2-0.5 224 1252212 29399508
espnetv2 224 1689856 86744404
espnetv2-1.25 224 1989688 124423444
espnetv2-1.5 224 2343568 169628884
espnetv2-2 224 3536288 286086228
ghostnet-0.5 224 2598276 42328152
ghostnet 224 5204476 141150512
ghostnet-1.3 224 7387356 227003256
mnasnet-a1 224 3920526 311579072
mnasnet-b1 224 4421232 314415872
mnasnet-small 224 2047192 68339184
peleenet 224 2811976 507757568
peleenet 304 2811976 924673024
"""
ROWS = [line.split() for line in COUNTS.split("\n") if line]

# Resolution, trainable parameters and multiply-accumulates in millions of networks of which only
# rounded figures are public. Programs that count MACs differ by up to a percent in what they count.
ROUNDED = {
    "tinynet-a": (192, "6.19", "339"),
    "tinynet-b": (188, "3.73", "202"),
    "tinynet-c": (184, "2.46", "100"),
    "tinynet-d": (152, "2.34", "52"),
    "tinynet-e": (106, "2.04", "24"),
    "shufflenet-g1": (224, "1.53", "143"),
    "shufflenet-g2": (224, "1.73", "141"),
    "shufflenet-g4": (224, "1.97", "134"),
    "ecamobilenetv2": (224, "3.50", "301"),
    "mnasnet-a1-1.4": (224, "6.11", "586"),
    "mnasnet-a1-0.75": (224, "2.91", "223"),
    "mnasnet-a1-0.5": (224, "2.08", "103"),
    "mnasnet-a1-0.35": (224, "1.75", "62"),
}


def at(name: str, side: int, classes: int = 1000) -> ArchSpec:
    return spec_by_name(name, classes=classes).resized((side, side, 3))


def moving_statistics(spec: ArchSpec) -> int:
    return sum(n.params // 2 for n in spec.graph.nodes if type(n.op).__name__ == "BatchNorm")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "@".join(row[:2]))
def test_published_counts(row):
    side, params, macs = map(int, row[1:])
    spec = at(row[0], side)
    assert (spec.params, spec.macs) == (params, macs)


@pytest.mark.parametrize("name", ROUNDED)
def test_published_counts_as_rounded(name):
    side, params, macs = ROUNDED[name]
    spec = at(name, side)
    assert spec_by_name(name).resolution == side
    assert f"{(spec.params - moving_statistics(spec)) / 1e6:.2f}" == params
    assert spec.macs / 1e6 == pytest.approx(float(macs), rel=0.01, abs=0.5)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mobilenetv4-conv-small", "3.77"),
        ("mobilenetv4-conv-small-0.5", "2.24"),
        ("mobilenetv4-conv-medium", "9.72"),
    ],
)
def test_trainable_parameters_as_timm_prints_them(name, params):
    """Its multiply-accumulates include other operations: 0.19 G, 0.84 G for Medium."""
    spec = spec_by_name(name)
    assert f"{(spec.params - moving_statistics(spec)) / 1e6:.2f}" == params


def test_channel_attention_adds_only_its_kernels():
    """31 weights: kernel 1 in the ten blocks of fewer than 96 channels, 3 in the seven others."""
    plain, gated = spec_by_name("mobilenetv2"), spec_by_name("ecamobilenetv2")
    assert gated.params - plain.params == 10 * 1 + 7 * 3


# -- pools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_pool(family):
    pool = pool_candidates(family)
    assert len({c.name for c in pool}) == len(pool)
    assert len({(c.spec.input_shape, c.spec.blocks) for c in pool}) == len(pool)
    assert all(c.name.startswith(family) and c.spec.name == c.name for c in pool)
    assert all(c.spec.graph.nodes[-1].shape == (1000,) for c in pool)
    for candidate in pool[:: max(1, len(pool) // 8)]:
        nodes = candidate.spec.graph.nodes
        assert len({node.name for node in nodes}) == len(nodes)
        again = ArchSpec.from_json(candidate.spec.to_json())
        assert again == candidate.spec
        assert spec_by_name(candidate.name) == candidate.spec
    coefficients = FAMILIES[family].coefficients
    if coefficients is not None:
        assert {c.width for c in pool} <= set(coefficients.width)
        largest = FAMILIES[family].members.get((1, 1, 1), f"{family}-w1d1r1")
        assert pool[0].spec == spec_by_name(largest)
        assert max(c.spec.macs for c in pool) == pool[0].spec.macs


def test_coefficients_follow_from_the_operators_of_the_family():
    """MobileNetV2 has 19 operators: 1, 2, 3, 4, 3, 3 and 1 blocks between stem and top."""
    repeats = (1, 1, 2, 3, 4, 3, 3, 1, 1)
    coefficients = FAMILIES["mobilenetv2"].coefficients
    assert [scaling.total_operators(repeats, d) for d in coefficients.depth] == [19, 18, 15, 13]
    assert coefficients.width == pytest.approx(
        (1, 18 / 19 * 1.1 / 1.2, 15 / 19 * (1.1 / 1.2) ** 2, 13 / 19 * (1.1 / 1.2) ** 3), abs=1e-4
    )
    pool = pool_candidates("mobilenetv2")
    assert len(pool) == 64
    assert {len(c.spec.blocks) - 3 for c in pool} == {17, 16, 13, 11}


@pytest.mark.parametrize(
    ("pool", "families"),
    [
        ("mobilenetv3-large", 1),
        ("mobilenetv3", 4),
        ("elite,mobilenetv3,ghostnet", 6),
        ("elite, Elite", 1),
        pytest.param("all", len(FAMILIES), marks=pytest.mark.slow),
    ],
)
def test_mixed_pools(pool, families):
    mixed = pool_candidates(pool, base_resolution=64, classes=10)
    assert len({c.family for c in mixed}) == families
    assert len({c.name for c in mixed}) == len(mixed)
    assert {c.spec.resolution for c in mixed} <= {size.plain for size in pool_sizes(pool, 64)}
    sizes = [sum(c.group == g for c in mixed) for g in range(max(c.group for c in mixed) + 1)]
    assert families == 1 or max(sizes) - min(sizes) <= 1


def test_networks_that_do_not_fit_their_input_are_left_out():
    """PeleeNet pools without padding: at 32 pixels only its largest input side is enough."""
    pool = pool_candidates("peleenet", base_resolution=32, classes=10)
    assert {c.spec.resolution for c in pool} == {32}
    for call in (
        lambda: pool_candidates("peleenet", base_resolution=8),
        lambda: spec_by_name("peleenet", base_resolution=8),
    ):
        with pytest.raises(UserError, match="use more"):
            call()


@pytest.mark.parametrize("name", ["elit", "mobilenet", "elite,", "elite-relu7", "mobilenetv2-0.4"])
def test_unknown_names_are_user_errors(name):
    with pytest.raises(UserError, match="unknown pool"):
        pool_candidates(name)
    with pytest.raises(UserError, match="unknown model"):
        spec_by_name(name)


def test_the_command_lists_a_pool_without_a_framework():
    program = (
        "import sys; from efficientnet_elite import cli; status = cli.main(sys.argv[1:]);"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys(); sys.exit(status)"
    )
    arguments = ["models", "--pool=ghostnet-nose,squeezenet", "--format=csv"]
    listed = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    rows = list(csv.DictReader(io.StringIO(listed.stdout)))
    assert len(rows) == 64 + 2 * 8
    assert rows[0]["name"] == "ghostnet-nose"
    assert int(rows[0]["params"]) == spec_by_name("ghostnet-nose").params


# -- deployment variants ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base", "variant"),
    [
        ("elite9", "elite9", Variant()),
        ("elite9-relu6-nose", "elite9", Variant("relu6", squeeze_excite=False)),
        ("elite-w1d2r3-hard_swish", "elite-w1d2r3", Variant("hard_swish")),
        ("hf-nose", "hf", Variant(squeeze_excite=False)),
        ("mobilenetv3-large-minimalistic", "mobilenetv3-large-minimalistic", Variant()),
        ("", "", Variant()),
    ],
)
def test_names_of_variants(name, base, variant):
    assert split_variant(name) == (base, variant)
    assert base + variant.suffix == name


def test_a_variant_changes_only_activations_and_squeeze_excite():
    faithful, variant = spec_by_name("elite9"), spec_by_name("elite9-relu6-nose")
    assert variant.name == "elite9-relu6-nose"

    def operations(spec):
        return [str(n.op) for n in spec.graph.nodes if "_se_" not in n.name]

    swapped = [text.replace("swish", "relu6") for text in operations(faithful)]
    assert operations(variant) == swapped
    assert not [n for n in variant.graph.nodes if "_se_" in n.name]
    assert spec_by_name("elite9-hard_swish").macs == faithful.macs
    gates = {
        str(n.op) for n in spec_by_name("elite9-relu6").graph.nodes if n.name.endswith("_gate")
    }
    assert gates == {"Activation(kind='sigmoid')"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variants_activation_is_everywhere(family):
    """It is also inside of gates; only the sigmoids that end them remain."""
    name, _ = next(iter(FAMILIES[family].pool(224)))
    nodes = spec_by_name(f"{name}-hard_swish").graph.nodes
    kinds = {n.op.kind for n in nodes if type(n.op).__name__ == "Activation"}
    assert "hard_swish" in kinds
    assert kinds <= {"hard_swish", "sigmoid", "hard_sigmoid"}


@pytest.mark.parametrize("pool", ["elite-relu6-nose", "hf-hard_swish"])
def test_pools_of_variants(pool):
    family, suffix = pool.split("-", 1)
    variants = pool_candidates(pool)
    assert [c.name for c in variants] == [f"{c.name}-{suffix}" for c in pool_candidates(family)]
    both = pool_candidates(f"{family},{pool}")
    assert len(both) == len({c.name for c in both}) == 2 * len(variants)

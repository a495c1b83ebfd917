"""eLite and HF: exact counts, Keras models, the public factories, specs and pools."""

from __future__ import annotations

import inspect
from datetime import date

import keras
import numpy as np
import pytest
from keras import layers

import efficientnet_elite
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import blocks
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import MEMBERS, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import Candidate, pool_candidates, sample_candidates
from tests.support.counting import macs_of_layers, weighted

POOLS = {"elite": pool_candidates("elite"), "hf": pool_candidates("hf")}
ALL_CANDIDATES = [candidate for pool in POOLS.values() for candidate in pool]

# Table 5 of arXiv 2009.07409: parameters and multiply-accumulates in millions, first as counted by
# this project, then as printed.
TABLE_5 = {
    "elite0": ("5.331", "385.81", "5.33", "385.81"),
    "elite1": ("4.738", "362.62", "4.74", "362.62"),
    "elite2": ("4.421", "313.86", "4.42", "313.86"),
    "elite3": ("3.776", "296.88", "3.78", "296.88"),
    "elite4": ("3.532", "231.88", "3.53", "231.88"),  # printed 3.17, HF1's figure; drawn at 3.53
    "elite5": ("2.684", "206.72", "2.68", "206.72"),
    "elite6": ("2.518", "181.32", "2.52", "181.32"),
    "elite7": ("2.184", "127.99", "2.18", "127.99"),
    "elite8": ("1.604", "114.52", "1.6", "114.52"),
    "elite9": ("1.340", "74.56", "1.34", "74.56"),
    "hf0": ("3.808", "383.49", "3.81", "383.49"),
    "hf1": ("3.167", "296.37", "3.17", "296.37"),
    "hf2": ("2.772", "246.86", "2.77", "246.86"),
    "hf3": ("3.445", "92.29", "3.44", "92.29"),  # cut, not rounded, in print: 3.4448...
    "hf4": ("2.976", "65.55", "2.98", "65.55"),
    "hf5": ("2.772", "62.66", "2.77", "62.66"),
}

SMALL = ArchSpec(
    "small",
    (16, 16, 3),
    (
        ConvBlock("stem", 8, kernel=3, stride=2),
        MBConv("one", filters=8, expanded=16, kernel=3, squeeze=2, drop_path=0.5),
        MBConv("two", filters=8, expanded=16, kernel=3, squeeze=2, drop_path=0.5),
        ConvBlock("top", 16),
        Classifier("predictions", 5, 0.5),
    ),
)


def at_digits_of(value: int, text: str) -> str:
    return f"{value / 1e6:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize("name", TABLE_5)
def test_table_5(name):
    spec = spec_by_name(name)
    params, macs, printed_params, printed_macs = TABLE_5[name]
    assert at_digits_of(spec.params, params) == params
    assert at_digits_of(spec.macs, macs) == macs
    assert at_digits_of(spec.params, printed_params) == printed_params
    assert at_digits_of(spec.macs, printed_macs) == printed_macs


def test_elite4_is_not_the_model_that_its_label_names():
    """Labelled (w2, d3, r1) with 3.17 M parameters; only (w2, d3, r2) has its 231.88 M MACs."""
    fitting = [c.name for c in POOLS["elite"] if at_digits_of(c.spec.macs, "231.88") == "231.88"]
    assert fitting == ["elite4"]
    assert at_digits_of(spec_by_name("elite-w2d3r1").macs, "259.38") == "259.38"
    assert not [c for c in POOLS["elite"] if at_digits_of(c.spec.params, "3.17") == "3.17"]
    assert at_digits_of(spec_by_name("hf1").params, "3.17") == "3.17"


@pytest.mark.parametrize(("family", "size", "members"), [("elite", 64, 10), ("hf", 32, 6)])
def test_pools_are_complete_and_distinct(family, size, members):
    pool = POOLS[family]
    assert len(pool) == size == len({c.name for c in pool})
    assert len({(c.spec.input_shape, c.spec.blocks) for c in pool}) == size
    assert {f"{family}{i}" for i in range(members)} == {c.name for c in pool} & MEMBERS.keys()
    assert efficientnet_elite.list_models(family) == [c.name for c in pool]


def test_every_network_has_a_name_of_its_indices():
    """Published networks have such a name too, but appear in a pool only once."""
    for member, indices in (("elite4", "elite-w2d3r2"), ("hf5", "hf-w1d4r2")):
        assert spec_by_name(indices).blocks == spec_by_name(member).blocks
        assert spec_by_name(indices).input_shape == spec_by_name(member).input_shape
        assert indices not in {candidate.name for candidate in ALL_CANDIDATES}
    assert spec_by_name("mobilenetv2-w1d1r1").graph.macs == spec_by_name("mobilenetv2").macs
    # At few pixels several sides coincide. A pool has only one of them, but all names are known.
    assert spec_by_name("elite-w2d3r2", base_resolution=8).resolution == 8
    assert spec_by_name("elite4", base_resolution=8).resolution == 8


def test_small_images_make_a_pool_without_repetitions():
    """At 8 pixels the four coefficients give the sides 8, 8, 7 and 5: three resolutions remain."""
    pool = pool_candidates("elite", base_resolution=8, classes=10)
    assert sorted({c.spec.resolution for c in pool}) == [5, 7, 8]
    assert len({(c.spec.input_shape, c.spec.blocks) for c in pool}) == len(pool) == 48


def test_sample_fills_every_group_and_grows():
    pool = POOLS["elite"]
    groups = {c.group for c in pool}
    chosen = sample_candidates(pool, len(groups), seed=3)
    assert {c.group for c in chosen} == groups
    assert sample_candidates(pool, 25, seed=3)[: len(groups)] == chosen
    assert sample_candidates(pool, len(groups), seed=4) != chosen
    assert sorted(c.name for c in sample_candidates(pool, 99, seed=3)) == sorted(
        c.name for c in pool
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: spec_by_name("elite10"),
        lambda: spec_by_name("resnet50"),
        lambda: pool_candidates("resnet"),
        lambda: pool_candidates("elite", base_resolution=4),
        lambda: pool_candidates("elite", groups=0),
        lambda: pool_candidates("elite", method="weight"),
    ],
)
def test_impossible_pools_are_user_errors(call):
    with pytest.raises(UserError):
        call()


def test_specs_survive_json():
    for candidate in ALL_CANDIDATES:
        again = ArchSpec.from_json(candidate.spec.to_json())
        assert again == candidate.spec
        assert (again.params, again.macs) == (candidate.spec.params, candidate.spec.macs)


@pytest.mark.parametrize(
    ("old", "new"), [('"MBConv"', '"Fancy"'), ('"MBConv"', '"Graph"'), ('"squeeze"', '"squash"')]
)
def test_a_spec_of_another_version_is_a_user_error(old, new):
    with pytest.raises(UserError, match="another version"):
        ArchSpec.from_json(SMALL.to_json().replace(old, new))


# -- Keras models --------------------------------------------------------------------------------


def check_counts(candidate):
    model = build(candidate.spec)
    assert model.count_params() == candidate.spec.params, candidate.name
    assert macs_of_layers(model) == candidate.spec.macs, candidate.name
    assert model.output_shape == (None, 1000)
    keras.backend.clear_session()


def rotation() -> list[Candidate]:
    """Every combination of width, depth and channel rule at one resolution: a third of all 96.

    The resolution changes with the day and the network, so that four days test all candidates.
    """
    by_network: dict[tuple, list] = {}
    for c in ALL_CANDIDATES:
        by_network.setdefault((c.family, c.width, c.depth), []).append(c)
    today = date.today().toordinal()
    return [cs[(today + i) % len(cs)] for i, cs in enumerate(by_network.values())]


@pytest.mark.parametrize("candidate", rotation(), ids=lambda c: c.name)
def test_keras_counts_what_the_spec_counts(candidate):
    check_counts(candidate)


@pytest.mark.slow
@pytest.mark.parametrize("candidate", ALL_CANDIDATES, ids=lambda c: c.name)
def test_keras_counts_what_the_spec_counts_for_all(candidate):
    check_counts(candidate)


def test_resolution_changes_no_weights():
    """Therefore `rotation` may test each network at one resolution."""
    networks: dict[tuple, set[int]] = {}
    for c in ALL_CANDIDATES:
        networks.setdefault((c.family, c.width, c.depth), set()).add(c.spec.params)
    assert len(networks) == 32
    assert all(len(params) == 1 for params in networks.values())


@pytest.mark.slow
def test_elite0_is_efficientnet_b0():
    reference = keras.applications.EfficientNetB0(weights=None, classifier_activation=None)
    ours = efficientnet_elite.build("elite0")
    pairs = list(zip(weighted(reference), weighted(ours), strict=True))
    random = np.random.default_rng(0)
    for theirs, mine in pairs:
        assert type(theirs) is type(mine)
        if isinstance(theirs, layers.BatchNormalization):  # values that change the outputs
            size = theirs.gamma.shape
            low_high = ((0.7, 1.3), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))
            theirs.set_weights([random.uniform(*bounds, size) for bounds in low_high])
            assert (theirs.epsilon, theirs.momentum) == (mine.epsilon, mine.momentum)
        mine.set_weights(theirs.get_weights())
    assert ours.count_params() == sum(layer.count_params() for layer, _ in pairs)
    pixels = random.integers(0, 256, (3, 224, 224, 3)).astype(np.float32)
    # Without pretrained weights, the preprocessing of the reference is x / 255 and a Normalization
    # that does nothing. Our network has no preprocessing.
    want = reference.predict(pixels, verbose=0)
    got = ours.predict(pixels / 255, verbose=0)
    assert np.ptp(want) > 0.1
    assert np.abs(got - want).max() < 1e-4
    rates = lambda model: [  # noqa: E731
        layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)
    ]
    assert rates(ours) == pytest.approx(rates(reference))


@pytest.mark.parametrize("name", ["ELite0", "ELite9", "HF5"])
def test_factories_have_the_signature_of_keras_applications(name):
    def parameters(function):
        return {p.name: p.default for p in inspect.signature(function).parameters.values()}

    theirs = parameters(keras.applications.EfficientNetB0)
    ours = parameters(getattr(efficientnet_elite, name))
    assert ours.pop("include_preprocessing") is True
    assert list(ours) == list(theirs)
    differing = {key for key in theirs if ours[key] != theirs[key]}
    assert differing == {"weights", "name"}  # there are no pretrained weights
    assert getattr(efficientnet_elite, name).__name__ == name


def test_factories_are_the_published_members():
    assert [n for n in efficientnet_elite.__all__ if n[-1].isdigit()] == [
        *(f"ELite{i}" for i in range(10)),
        *(f"HF{i}" for i in range(6)),
    ]
    with pytest.raises(AttributeError, match="ELite10"):
        _ = efficientnet_elite.ELite10


PIXELS = np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def elite9():
    def make(**options):
        return efficientnet_elite.ELite9(**{"input_shape": (40, 40, 3), **options})

    return make


def test_the_top_and_its_activation(elite9):
    probabilities = elite9(classes=7)(PIXELS).numpy()
    logits = elite9(classes=7, classifier_activation=None)(PIXELS).numpy()
    assert probabilities.shape == logits.shape == (2, 7)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax, atol=1e-6)
    assert np.abs(probabilities - logits).max() > 1e-3
    assert elite9(name="mine").name == "mine"


def test_without_the_top(elite9):
    features = elite9(include_top=False)(PIXELS).numpy()
    assert features.shape == (2, 2, 2, 656)
    average = elite9(include_top=False, pooling="avg")(PIXELS).numpy()
    maximum = elite9(include_top=False, pooling="max")(PIXELS).numpy()
    np.testing.assert_allclose(average, features.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(maximum, features.max((1, 2)))
    with pytest.raises(UserError, match="pooling='sum'"):
        elite9(include_top=False, pooling="sum")


def test_on_an_input_tensor(elite9):
    pixels = keras.Input((40, 40, 3))
    flipped = layers.Lambda(lambda x: x[:, :, ::-1])(pixels)
    built = efficientnet_elite.ELite9(input_tensor=flipped)
    assert built.inputs[0] is pixels
    want = elite9()(PIXELS[:, :, ::-1]).numpy()
    np.testing.assert_allclose(built(PIXELS).numpy(), want, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"input_shape": (None, None, 3)},
        {"input_shape": (96, 96)},
        {"input_shape": (0, 96, 3)},
        {"input_tensor": keras.Input((None, None, 3))},
        {"input_tensor": keras.Input((40, 40, 3)), "input_shape": (96, 96, 3)},
    ],
)
def test_missing_or_contradicting_input_sizes(options):
    with pytest.raises(UserError, match="input_shape=") as error:
        efficientnet_elite.ELite9(include_top=False, **options)
    assert "\n" not in str(error.value)


def test_preprocessing_inside_equals_outside(elite9):
    inside = elite9()(PIXELS).numpy()
    outside = elite9(include_preprocessing=False)
    values = efficientnet_elite.preprocess_input(PIXELS)
    assert values.min() >= -1
    assert values.max() <= 1
    np.testing.assert_allclose(outside(values).numpy(), inside, atol=1e-6)
    assert np.abs(outside(PIXELS).numpy() - inside).max() > 1e-4


def test_weights_from_a_file(elite9, tmp_path):
    model = elite9(classes=7)
    model.set_weights([w + 0.01 for w in model.get_weights()])
    model.save_weights(tmp_path / "a.weights.h5")
    again = elite9(classes=7, weights=tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(again(PIXELS).numpy(), model(PIXELS).numpy())
    with pytest.raises(UserError, match="does not exist"):
        elite9(weights=tmp_path / "b.weights.h5")
    (tmp_path / "c.weights.h5").write_bytes(b"no weights")
    for options in ({"classes": 8, "weights": tmp_path / "a.weights.h5"},
                    {"weights": tmp_path / "c.weights.h5"}):  # fmt: skip
        with pytest.raises(UserError, match="does not fit") as error:
            elite9(**options)
        assert "\n" not in str(error.value)


def test_seeds():
    def weights(seed):
        return build(SMALL, seed=seed).get_weights()

    first, repeated, other = weights(1), weights(1), weights(2)
    for a, b, c in zip(first, repeated, other, strict=True):
        np.testing.assert_array_equal(a, b)
        if a.ndim > 1:
            assert np.abs(a - c).max() > 0
    model = build(SMALL, seed=1)
    same_shape = [
        np.array(model.get_layer(f"{name}_expand_conv").kernel) for name in ("one", "two")
    ]
    assert np.abs(same_shape[0] - same_shape[1]).max() > 0


def test_seeded_dropout():
    images = np.ones((4, 16, 16, 3), np.float32)
    runs = [build(SMALL, seed=seed)(images, training=True).numpy() for seed in (1, 1)]
    np.testing.assert_array_equal(*runs)
    model = build(SMALL, seed=1)
    first, second = (model(images, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0


def test_stochastic_depth_drops_whole_images():
    network = ArchSpec("drop", (4, 4, 3), (MBConv("one", 3, None, 3, drop_path=0.5),))
    model = build(network, classifier_activation=None)
    branch = keras.Model(model.inputs, model.get_layer("one_drop").output)
    images = np.random.default_rng(0).normal(size=(64, 4, 4, 3)).astype(np.float32)
    alive = np.abs(branch(images, training=True).numpy()).max((1, 2, 3)) > 0
    assert 10 < alive.sum() < 54
    assert np.abs(branch(images).numpy()).max((1, 2, 3)).min() > 0


def test_blocks_check_their_shapes():
    wide = ArchSpec("wide", (8, 8, 3), (ConvBlock("stem", 8), blocks.SqueezeExcite("se", 2)))
    assert wide.graph.nodes[-1].shape == (8, 8, 8)
    names = [node.name for node in spec_by_name("elite0").graph.nodes]
    assert len(set(names)) == len(names)

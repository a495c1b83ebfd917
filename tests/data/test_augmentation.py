"""Augmentations: operations, what is drawn, values of the setting, files with policies."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn
from PIL import Image, ImageEnhance, ImageOps

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.data import augmentation, policies
from efficientnet_elite.data.choices import AUGMENTATIONS, Augmentations
from efficientnet_elite.data.operations import OPERATIONS
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings, training
from efficientnet_elite.search import run as search_run
from efficientnet_elite.search.begun import check_policy
from tests.support.invented import ledger_of

PHOTOGRAPHS = [
    Image.open(Path(sklearn.__file__).parent / "datasets" / "images" / f"{name}.jpg").resize(size)
    for name in ("china", "flower")
    for size in ((96, 96), (57, 57))
]
FLAT = Image.new("RGB", (9, 9), (3, 200, 255))
FEW_LEVELS = PHOTOGRAPHS[0].quantize(3).convert("RGB").crop((0, 0, 15, 15))
IMAGES = [*PHOTOGRAPHS, FLAT, FEW_LEVELS]
AFFINE, GREY = Image.Transform.AFFINE, (128, 128, 128)


def generator(number: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[5, number]))


def affine(*matrix):
    return lambda image: image.transform(image.size, AFFINE, matrix, fillcolor=GREY)


# Operation and value, and what Pillow does.
PILLOW = {
    ("ShearX", 0.3): affine(1, 0.3, 0, 0, 1, 0),
    ("ShearY", -0.2): affine(1, 0, 0, -0.2, 1, 0),
    ("Rotate", 30): lambda image: image.rotate(30, fillcolor=GREY),
    ("Rotate", -7.5): lambda image: image.rotate(-7.5, fillcolor=GREY),
    ("AutoContrast", 0): ImageOps.autocontrast,
    ("Invert", 0): ImageOps.invert,
    ("Equalize", 0): ImageOps.equalize,
    **{
        ("Solarize", value): lambda image, value=value: ImageOps.solarize(image, value)
        for value in (0, 113.8, 128, 255, 256)
    },
    **{
        ("Posterize", bits): lambda image, bits=bits: ImageOps.posterize(image, bits)
        for bits in range(1, 9)
    },
    ("Posterize", 4.9): lambda image: ImageOps.posterize(image, 4),
    **{
        (name, factor): lambda image, name=name, factor=factor: getattr(ImageEnhance, name)(
            image
        ).enhance(factor)
        for name in ("Contrast", "Color", "Brightness", "Sharpness")
        for factor in (0.1, 1, 1.9)
    },
    ("Identity", 0): lambda image: image,
}


@pytest.mark.parametrize(("operation", "value"), PILLOW)
def test_operations_are_pillows(operation, value):
    for image in IMAGES:
        changed = OPERATIONS[operation](image, value, generator())
        assert changed.mode == "RGB" and changed.size == image.size
        np.testing.assert_array_equal(changed, PILLOW[operation, value](image))


def test_translations_are_shares_of_the_side():
    image = PHOTOGRAPHS[0]
    pixels = np.asarray(image)
    left = np.asarray(OPERATIONS["TranslateX"](image, 0.25, generator()))
    np.testing.assert_array_equal(left[:, :72], pixels[:, 24:])
    assert (left[:, 72:] == 128).all()
    down = np.asarray(OPERATIONS["TranslateY"](image, -0.25, generator()))
    np.testing.assert_array_equal(down[24:], pixels[:72])


def test_cutout_covers_a_square_that_may_reach_over_the_edge():
    image = PHOTOGRAPHS[0]
    covered = []
    for number in range(60):
        changed = np.asarray(OPERATIONS["Cutout"](image, 0.2, generator(number)))
        is_other = (changed != np.asarray(image)).any(-1)
        assert (changed[is_other] == 128).all()
        rows, columns = np.flatnonzero(is_other.any(1)), np.flatnonzero(is_other.any(0))
        covered.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    assert (19, 19) in covered or (20, 20) in covered
    assert max(map(max, covered)) <= 20 and min(map(min, covered)) < 19


# -- what is drawn ---------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """Gives the operations, and values as they would be, of a change for numbers from 0."""

    def operations(change, images):
        calls = []
        for name in OPERATIONS:
            monkeypatch.setitem(
                OPERATIONS,
                name,
                lambda image, value, rng, name=name: calls.append((name, round(value, 3))) or image,
            )
        of_images = []
        for number in range(images):
            calls.clear()
            change(FLAT, generator(number))
            of_images.append(tuple(calls))
        monkeypatch.undo()
        return of_images

    return operations


def test_draws_of_autoaugment(drawn):
    policy = policies.auto_augment()
    assert len(policy.sub_policies) == 25
    images = drawn(policy, 5000)
    assert images[:5] == PINNED["autoaugment"]
    # Equalize comes 11.2 times in 25 sub-policies.
    counts = Counter(name for image in images for name, _ in image)
    assert counts["Equalize"] / 5000 == pytest.approx(11.2 / 25, abs=0.03)
    assert counts.total() / 5000 == pytest.approx(
        sum(step.probability for steps in policy.sub_policies for step in steps) / 25, abs=0.04
    )
    values = {}
    for name, value in {call for image in images for call in image}:
        values.setdefault(name, set()).add(value)
    assert values["Rotate"] == {-30, -26.667, -10, 10, 26.667, 30}
    assert values["Posterize"] == {4, 5, 6}
    assert values["Color"] == {0.2, 0.6, 0.8, 1, 1.2, 1.4, 1.8}


def test_draws_of_randaugment(drawn):
    images = drawn(policies.rand_augment(2, 9), 5000)
    assert images[:4] == PINNED["rand(2,9)"]
    assert {len(image) for image in images} == {2}
    counts = Counter(name for image in images for name, _ in image)
    assert len(counts) == 14 and "Invert" not in counts
    assert max(counts.values()) < 1.2 * min(counts.values())
    values = {call for image in images for call in image}
    assert {value for name, value in values if name == "Rotate"} == {-27, 27}
    assert {value for name, value in values if name == "Contrast"} == {0.19, 1.81}


def test_draws_of_trivialaugment(drawn):
    images = drawn(policies.trivial_augment(), 5000)
    assert images[:6] == PINNED["trivial"]
    assert {len(image) for image in images} == {1}
    values = {}
    for (call,) in images:
        values.setdefault(call[0], set()).add(call[1])
    assert len(values) == 14
    assert (min(values["Rotate"]), max(values["Rotate"])) == (-135, 135)
    assert (min(values["Brightness"]), max(values["Brightness"])) == (0.01, 1.99)
    assert values["Posterize"] == {2, 3, 4, 5, 6, 7, 8}
    assert (min(values["Solarize"]), max(values["Solarize"])) == (0, 256)


def test_draws_of_a_file(drawn, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps([[["Rotate", 1, 0.0], ["Color", 1, 0.75]], [["Cutout", 1.0, 0.5]]]))
    images = drawn(policies.from_file(str(path)), 200)
    expected = {
        (("Rotate", -30), ("Color", 1.45)),
        (("Rotate", 30), ("Color", 1.45)),
        (("Cutout", 0.1),),
    }
    assert set(images) == expected


PINNED = {
    "autoaugment": [
        (("ShearX", 0.167), ("Equalize", 0.0)),
        (),
        (("AutoContrast", 0.0),),
        (("ShearX", -0.167), ("Equalize", 0.0)),
        (("Posterize", 5.0),),
    ],
    "rand(2,9)": [
        (("Color", 1.81), ("Posterize", 4.0)),
        (("Color", 0.19), ("AutoContrast", 0.0)),
        (("Brightness", 1.81), ("Color", 1.81)),
        (("Color", 0.19), ("AutoContrast", 0.0)),
    ],
    "trivial": [
        (("Color", 1.264),),
        (("Color", 0.967),),
        (("Brightness", 1.858),),
        (("Color", 0.472),),
        (("ShearY", -0.858),),
        (("Sharpness", 0.01),),
    ],
}


# -- single changes --------------------------------------------------------------------------------


def test_erased_rectangles_are_of_the_papers_sizes():
    erase = augmentation.erase(0.5)
    image = Image.new("RGB", (100, 100))
    shares, aspects = [], []
    for number in range(400):
        is_other = np.asarray(erase(image, generator(number))).any(-1)
        if is_other.any():
            height, width = np.ptp(np.nonzero(is_other), axis=1) + 1
            shares.append(height * width / 1e4)
            aspects.append(height / width)
    assert 160 < len(shares) < 240
    assert 0.015 < min(shares) < 0.04 and 0.36 < max(shares) < 0.41
    assert 0.25 < min(aspects) < 0.45 and 2.2 < max(aspects) < 4


def test_jitter_multiplies_and_lighting_adds_a_colour():
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    greys = {augmentation.jitter(0.4)(image, generator(n)).getpixel((0, 0)) for n in range(300)}
    levels = [levels[0] for levels in greys]
    assert all(len(set(levels)) == 1 for levels in greys)  # grey has no saturation to change
    assert min(levels) in range(60, 65) and max(levels) in range(136, 141)
    same = [augmentation.jitter(0)(each, generator()) for each in IMAGES]
    for before, after in zip(IMAGES, same, strict=True):
        np.testing.assert_array_equal(before, after)

    shifts = np.array(
        [augmentation.lighting(0.1)(image, generator(n)).getpixel((0, 0)) for n in range(500)]
    )
    # Of all that is added, nearly all is along the grey axis, with deviation 0.1 * 0.2175 * 255.
    assert np.std(shifts.mean(1)) == pytest.approx(0.1 * 0.2175 * 255 / np.sqrt(3), rel=0.1)


def test_rotations_and_translations_stay_within_their_bounds(monkeypatch):
    turned, moved = [], []
    monkeypatch.setattr(augmentation.operations, "rotate", lambda im, v, rng: turned.append(v))
    monkeypatch.setattr(augmentation.operations, "translate", lambda im, *v: moved.append(v))
    for number in range(300):
        augmentation.rotate(15)(FLAT, generator(number))
        augmentation.translate(0.1)(FLAT, generator(number))
    assert -15 <= min(turned) < -14 and 14 < max(turned) <= 15
    assert np.abs(moved).max() <= 0.1 and (np.ptp(moved, axis=0) > 0.18).all()


# -- the setting -----------------------------------------------------------------------------------


def pixels(augment, first_epoch=0, batches=2):
    data = data_lib.load(DataConfig(augment=augment), progress=False)
    stream, steps = data_lib.train_batches(
        data, resolution=12, batch_size=32, seed=3, first_epoch=first_epoch
    )
    return np.stack([images for images, _ in stream.take(batches).as_numpy_iterator()]), steps


def test_a_continued_training_sees_the_same_images():
    """They depend on the seed and their numbers alone: the second epoch can come first."""
    everything = "+".join(AUGMENTATIONS)
    plain, steps = pixels(None)
    changed, _ = pixels(everything, batches=steps + 2)
    assert not np.array_equal(changed[:2], plain)
    np.testing.assert_array_equal(changed[steps:], pixels(everything, first_epoch=1)[0])


def test_no_augmentation_is_that_of_searches_that_knew_none():
    assert DataConfig(augment="none") == DataConfig()
    paper = settings.search_config({"augment": "none"}, settings.preset("paper"))
    assert settings.preset("paper").data.augment is not None and paper.data.augment is None


def test_augmentations_follow_one_another_in_their_order(tmp_path):
    path = tmp_path / "a+b.json"
    path.write_text('[[["Invert", 1, 0]]]')
    asked = Augmentations.of(f"rand(1,3.5)+erase+{path}")
    assert [(entry.name, numbers) for entry, numbers in asked.named] == [
        ("rand", (1, 3.5)),
        ("erase", ()),
    ]
    assert asked.policy == str(path)
    first = augmentation.chain(Augmentations.of(f"jitter(0)+{path}").changes())
    for image in IMAGES:
        np.testing.assert_array_equal(first(image, generator()), ImageOps.invert(image))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("", "there is no augmentation ''"),
        ("mixup", r"there is no augmentation 'mixup': choose from none, light, .*FILE.json"),
        ("jitter+x", "there is no augmentation 'x'"),
        ("rand(2;9)", r"augmentation 'rand\(2;9\)': '2;9' are no numbers"),
        ("rand(1,2,3)", r"augmentation rand\(N,M\): too many positional arguments"),
        ("rand(2,11)", "the magnitude from 0 to 10"),
        ("rand(1.5,9)", "must be a whole number"),
        ("jitter(1.1)", r"augmentation jitter\(1.1\): must be from 0 to 1"),
        ("rotate(200)", "must be from 0 to 180 degrees"),
        ("missing.json", "augmentation policy missing.json: No such file"),
    ],
)
def test_what_is_no_augmentation(augment, message):
    with pytest.raises(UserError, match=message):
        data_lib.load(DataConfig(augment=augment), progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no JSON"),
        ("{}", "must be a list of sub-policies"),
        ("[]", "must be a list of sub-policies"),
        ('[["Rotate", 1, 0]]', r'sub-policy 1: "Rotate" is no step'),
        ('[[], [["Spin", 1, 0]]]', r"sub-policy 2: \[\"Spin\", 1, 0\] is no step"),
        ('[[["Rotate", 1, 7]]]', "is no step .* with numbers from 0 to 1"),
        ('[["Rotate", 1]]', "is no step"),
        ("[3]", "sub-policy 1: must be a list of steps"),
    ],
)
def test_what_is_no_policy(content, message, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        policies.from_file(str(path))


def test_masks_refuse_what_moves_pixels(tmp_path):
    dataset = "rendered_masks:classes=2,images=12,size=32"
    path = tmp_path / "policy.json"
    path.write_text('[[["Color", 1, 0.1]], [["ShearX", 0.1, 0]]]')
    for augment in ("light", "jitter+trivial", "rand", str(path)):
        with pytest.raises(UserError, match="moves pixels, and the masks of rendered_masks"):
            data_lib.load(DataConfig(dataset, augment=augment), progress=False)
    path.write_text('[[["Color", 1, 0]]]')
    batches = []
    for augment in (None, "jitter", str(path)):
        data = data_lib.load(DataConfig(dataset, augment=augment), progress=False)
        stream, _ = data_lib.train_batches(data, resolution=16, batch_size=4, seed=0)
        batches.append([tensor.numpy() for tensor in next(iter(stream))])
    (plain, masks), *changed = batches
    for images, same_masks in changed:
        assert not np.array_equal(images, plain)
        np.testing.assert_array_equal(same_masks, masks)


def test_a_policy_is_the_same_file_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = settings.search_config({"augment": "jitter+policy.json"}, SearchConfig())
    assert config.data.augment == f"jitter+{tmp_path / 'policy.json'}"


# -- a policy that changes -------------------------------------------------------------------------

POLICY, OTHER_POLICY = '[[["Color", 1, 0]]]', '[[["Color", 1, 1]]]'


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(POLICY, encoding="utf-8")
    return path


def test_a_search_is_continued_with_its_policy_only(policy, tmp_path):
    config = SearchConfig(base_resolution=8, data=DataConfig(augment=f"jitter+{policy}"))
    images = data_lib.load(config.data, max_side=24, progress=False)
    assert images.pipeline.policy_sha256 == hashlib.sha256(POLICY.encode()).hexdigest()
    config = replace(config, data=data_lib.decided(config.data, images))
    data = {"name": "digits", "fingerprint": images.fingerprint}

    def begun(folder, **recorded):
        with ledger_of(tmp_path / folder, {0: "a"}, config, data=data | recorded):
            return tmp_path / folder

    asked = begun("new", policy_sha256=images.pipeline.policy_sha256)
    policy.write_text(OTHER_POLICY, encoding="utf-8")
    with pytest.raises(UserError, match=r"the policy that --augment names has changed since .*new"):
        search_run.run(config, asked, progress=False)
    check_policy(begun("old"), None, "ab")  # of versions that recorded none


@pytest.mark.slow
def test_a_training_is_continued_with_its_policy_only(policy, tmp_path):
    config = SearchConfig(
        base_resolution=8,
        data=DataConfig(augment=str(policy)),
        train=TrainConfig(epochs=1, batch_size=512),
    )

    def train():
        training.train(["mobilenetv1-0.25"], tmp_path / "run", config, progress=False)

    train()
    policy.write_text(OTHER_POLICY, encoding="utf-8")
    with pytest.raises(UserError, match="the policy that --augment names has changed"):
        train()
    path = tmp_path / "run" / "train_settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    del settings["pipeline"]["policy_sha256"]  # as an earlier version wrote it
    path.write_text(json.dumps(settings), encoding="utf-8")
    train()
    policy.write_text(POLICY, encoding="utf-8")
    with pytest.raises(UserError, match="the policy that --augment names has changed"):
        train()

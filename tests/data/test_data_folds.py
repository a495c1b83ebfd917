"""Folds of the images for training and validation (`--validation=crossfit`)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import CROSSFIT, FOLDS, DataConfig
from efficientnet_elite.data import groups
from efficientnet_elite.data.assembly import PARTS, further_folds, split_into_parts
from efficientnet_elite.errors import UserError


def divided(labels, names, owners, declared=None, seed=0):
    """The parts of images and their further folds; ``owners`` says which belong together."""
    labels = np.array(labels, np.int32)
    declared = declared or ["train"] * len(labels)
    config = DataConfig(validation=CROSSFIT, seed=seed)
    grouping = groups.same(owners)
    parts = split_into_parts(labels, declared, names, config, grouping)
    return parts, further_folds(labels, declared, names, config, grouping, parts)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.lists(st.integers(1, 3), min_size=7, max_size=30), min_size=2, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_folds_cover_the_images_once_with_all_classes_and_whole_groups(kinds, seed):
    """``kinds`` holds for each class the number of images in each of its groups."""
    rows = [
        (label, (label, place))
        for label, sizes in enumerate(kinds)
        for place, size in enumerate(sizes)
        for _ in range(size)
    ]
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    labels, owners = [label for label, _ in rows], [owner for _, owner in rows]
    names = [f"c{label}" for label in range(len(kinds))]
    parts, further = divided(labels, names, owners, seed=seed)
    folds = [parts, *further]
    assert len(folds) == FOLDS
    validated = np.concatenate([fold["validation"] for fold in folds])
    free = np.concatenate([parts["train"], parts["validation"]])
    assert sorted(validated) == sorted(free), "each image validates once, and none for the test"
    for fold in folds:
        assert sorted([*fold["train"], *fold["validation"]]) == sorted(free)
        for part in ("train", "validation"):
            assert {labels[i] for i in fold[part]} == set(range(len(kinds)))
        assert not {owners[i] for i in fold["train"]} & {owners[i] for i in fold["validation"]}
    for label in range(len(kinds)):
        counts = [
            len({owners[i] for i in fold["validation"] if labels[i] == label}) for fold in further
        ]
        assert max(counts) - min(counts) <= 1, "stratified"
    assert all(
        np.array_equal(again[name], fold[name])
        for again, fold in zip(divided(labels, names, owners, seed=seed)[1], further, strict=True)
        for name in fold
    )


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(UserError, match="class 'b' has 3 different training images, fewer than"):
        divided([0] * 30 + [1] * 5, ["a", "b"], range(35))
    declared = ["train"] * 40 + ["validation"] * 10
    with pytest.raises(UserError, match="digits has a validation part of its own"):
        divided([0, 1] * 25, ["a", "b"], range(50), declared)


def test_a_data_set_in_a_fold(tmp_path):
    images = data_lib.load(DataConfig(validation=CROSSFIT), cache_dir=tmp_path)
    plain = data_lib.load(DataConfig(), cache_dir=tmp_path)
    assert images.fingerprint == plain.fingerprint, "fold 0 is the split into a fifth"
    assert images.in_fold(0) is images and not plain.folds
    seen = []
    for number in range(FOLDS):
        fold = images.in_fold(number)
        assert fold.parts["test"] is images.parts["test"]
        assert fold.sizes["train"] == sum(images.sizes.values()) - sum(
            fold.sizes[part] for part in PARTS if part != "train"
        )
        keys = fold.parts["validation"].keys()
        seen += [int(reference) for reference, _ in keys]
    assert len(seen) == len(set(seen)) == images.sizes["train"] + images.sizes["validation"]

"""The split into training, validation and test parts, and balanced samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import groups
from efficientnet_elite.data.assembly import PARTS, split_into_parts
from efficientnet_elite.data.parts import class_balanced_sample
from efficientnet_elite.errors import UserError

fractions = st.floats(0.01, 0.99)


def as_labels(counts):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return np.random.default_rng(0).permutation(labels)


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=8),
    validation=fractions,
    test=fractions,
    seed=st.integers(0, 2**32),
)
def test_parts_are_disjoint_complete_stratified_and_seeded(counts, validation, test, seed):
    labels = as_labels(counts)
    names = [f"c{i}" for i in range(len(counts))]
    config = DataConfig(validation=validation, test_fraction=test, seed=seed)
    parts = split_into_parts(labels, ["train"] * len(labels), names, config)

    assert sorted(np.concatenate([parts[p] for p in PARTS])) == list(range(len(labels)))
    for part in PARTS:
        assert set(labels[parts[part]]) == set(range(len(counts)))  # each class in each part
    for label, count in enumerate(counts):
        held_out = np.sum(labels[parts["test"]] == label)
        assert held_out == min(max(1, round(test * count)), count - 2)
        rest = count - held_out
        held_out = np.sum(labels[parts["validation"]] == label)
        assert held_out == min(max(1, round(validation * rest)), rest - 1)
    again = split_into_parts(labels, ["train"] * len(labels), names, config)
    assert all(np.array_equal(parts[p], again[p]) for p in PARTS)


def test_another_seed_splits_otherwise():
    labels = as_labels([50, 50])
    a, b = (
        split_into_parts(labels, ["train"] * 100, ["a", "b"], DataConfig(seed=seed))["test"]
        for seed in (0, 1)
    )
    assert not np.array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=9), min_size=2, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_copies_go_together_and_count_once(kinds, seed):
    """``kinds`` holds for each class the number of copies of each of its different images."""
    rows = [
        (label, f"{label}/{image}")
        for label, copies in enumerate(kinds)
        for image, count in enumerate(copies)
        for _ in range(count)
    ]
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    labels = np.array([label for label, _ in rows], np.int32)
    names = [f"c{i}" for i in range(len(kinds))]
    digests = [digest for _, digest in rows]
    grouping = groups.same(digests)
    parts = split_into_parts(labels, ["train"] * len(rows), names, DataConfig(seed=seed), grouping)

    assert sorted(np.concatenate([parts[p] for p in PARTS])) == list(range(len(rows)))
    digests_of = {part: {digests[i] for i in parts[part]} for part in PARTS}
    assert sum(map(len, digests_of.values())) == len(set(digests))
    # Each part has as many images of each class as it would have without copies.
    alone = as_labels([len(copies) for copies in kinds])
    without_copies = split_into_parts(alone, ["train"] * len(alone), names, DataConfig(seed=seed))
    for part in PARTS:
        counts_held_out = np.bincount(
            [int(d.partition("/")[0]) for d in digests_of[part]], minlength=len(kinds)
        )
        assert (
            counts_held_out.tolist()
            == np.bincount(alone[without_copies[part]], minlength=len(kinds)).tolist()
        )


@settings(max_examples=60, deadline=None)
@given(
    patients=st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=24, max_size=40),
    seed=st.integers(0, 2**32),
)
def test_groups_of_several_classes_stay_whole_and_leave_something_of_each_class(patients, seed):
    """A patient has healthy and sick images, and all of them are in one part."""
    patients = [{0}, {1}, {2}] * 4 + patients
    rows = [(c, patient) for patient, classes in enumerate(patients) for c in classes for _ in "ab"]
    labels = np.array([label for label, _ in rows], np.int32)
    owners = np.array([patient for _, patient in rows])
    parts = split_into_parts(
        labels, ["train"] * len(rows), ["a", "b", "c"], DataConfig(seed=seed), groups.same(owners)
    )
    assert sorted(np.concatenate([parts[p] for p in PARTS])) == list(range(len(rows)))
    assert sum(len({*owners[parts[p]]}) for p in PARTS) == len(patients)
    for part in PARTS:
        assert {*labels[parts[part]]} == {0, 1, 2}


def test_groups_that_cannot_be_held_out_are_named():
    """Each class must keep two groups of three; if a gives 0, which b has too, c can give none."""
    groups_of = {0: (0, 1, 2), 1: (0, 3, 4), 2: (1, 2, 3)}
    labels = np.repeat([*groups_of], 3).astype(np.int32)
    grouping = groups.same([group for each in groups_of.values() for group in each])
    with pytest.raises(UserError, match="no group of class 'c' can be held out"):
        for seed in range(9):
            split_into_parts(labels, ["train"] * 9, [*"abc"], DataConfig(seed=seed), grouping)


@pytest.mark.parametrize("brought", [("validation",), ("test",), ("validation", "test")])
def test_parts_the_source_brings_stay_as_they_are(brought):
    declared = [*["train"] * 40, *(part for part in brought for _ in range(10))]
    labels = np.arange(len(declared), dtype=np.int32) % 2
    parts = split_into_parts(labels, declared, ["a", "b"], DataConfig())
    for i, part in enumerate(brought):
        assert parts[part].tolist() == list(range(40 + 10 * i, 50 + 10 * i))
    missing = {"validation", "test"} - set(brought)
    for part in missing:
        assert parts[part].max() < 40
    assert len(parts["train"]) == 40 - sum(len(parts[part]) for part in missing)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([9, 2], r"class 'b' has too few different training images \(2\) to hold out a test and a"),
        ([1, 9], r"class 'a' has too few different training images \(1\)"),
        ([9, 0], "class 'b' has no readable training image"),
    ],
)
def test_a_class_too_small_is_named(counts, message):
    labels = as_labels(counts)
    with pytest.raises(UserError, match=message):
        split_into_parts(labels, ["train"] * len(labels), ["a", "b"], DataConfig())


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
def test_a_sample_spreads_over_the_classes(counts, count, seed):
    labels = as_labels(counts)
    chosen = class_balanced_sample(labels, count, seed)
    assert len(set(chosen)) == len(chosen) == min(count, len(labels))
    counts_drawn = np.bincount(labels[chosen], minlength=len(counts))
    # No class is ahead of another by more than one image unless the other has run out.
    for a in range(len(counts)):
        for b in range(len(counts)):
            assert counts_drawn[a] <= counts_drawn[b] + 1 or counts_drawn[b] == counts[b]

"""Cost groups: the paper's, and properties of any."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from efficientnet_elite.networks.names import MEMBERS
from efficientnet_elite.search.candidates import (
    GROUPING_METHODS,
    by_equal_width,
    group_by_cost,
    pool_candidates,
    z_sums,
)

# Whole numbers: sums of z-scores of halves, thirds and the like would test float noise.
pool_costs = st.lists(
    st.fixed_dictionaries({"params": st.integers(1, 10**7), "macs": st.integers(1, 10**9)}),
    min_size=1,
    max_size=40,
)


def sizes(candidates, groups):
    count = Counter(candidate.group for candidate in candidates)
    return [count[group] for group in range(groups)]


def groups_of_members(candidates):
    return {c.name: c.group for c in candidates if c.name in MEMBERS}


def test_elite_groups_of_the_paper():
    pool = pool_candidates("elite")
    assert sizes(pool, 10) == [2, 2, 5, 7, 6, 9, 8, 7, 9, 9]
    assert groups_of_members(pool) == {f"elite{i}": i for i in range(10)}


def test_only_ten_groups_set_the_champions_apart():
    apart = [
        groups
        for groups in range(6, 16)
        if sorted(groups_of_members(pool_candidates("elite", groups=groups)).values())
        == list(range(groups))
    ]
    assert apart == [10]


def test_equal_counts_do_not_give_the_papers_groups():
    members = groups_of_members(pool_candidates("elite", method="count"))
    assert len(set(members.values())) < 10


def test_hf_groups_of_the_paper():
    """Five a resolution: the heaviest three hold the published, one is empty, one is not named."""
    pool = pool_candidates("hf")
    assert groups_of_members(pool) == {
        "hf0": 0, "hf1": 1, "hf2": 2, "hf3": 5, "hf4": 6, "hf5": 7
    }  # fmt: skip
    assert {c.spec.resolution for c in pool if c.group < 5} == {256}
    assert {c.spec.resolution for c in pool if c.group >= 5} == {128}
    by_resolution = sizes(pool, 10)
    assert sum(by_resolution[:5]) == sum(by_resolution[5:]) == 16
    for half in (by_resolution[:5], by_resolution[5:]):
        assert min(half[:3]) >= 1
        assert half.count(0) == 1


@given(pool_costs, st.integers(1, 12), st.sampled_from(GROUPING_METHODS))
def test_every_candidate_has_one_group(costs, groups, method):
    numbers = group_by_cost(costs, groups=groups, method=method)
    assert len(numbers) == len(costs)
    assert set(numbers) <= set(range(groups))
    # The heaviest is in group 0, and nobody lighter in a heavier group.
    sums = z_sums(costs, ("params", "macs"))
    assert numbers[sums.index(max(sums))] == 0
    for a, number in zip(sums, numbers, strict=True):
        assert all(number <= other for b, other in zip(sums, numbers, strict=True) if b < a)


@given(pool_costs, st.integers(1, 12))
def test_equal_counts_differ_by_one_at_most(costs, groups):
    count = Counter(group_by_cost(costs, groups=groups, method="count"))
    present = [count[group] for group in range(groups)]
    if len(costs) >= groups:
        assert max(present) - min(present) <= 1
    else:
        assert max(present) == 1


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40), st.integers(1, 12))
def test_equal_width_intervals_are_equally_wide(values, groups):
    low, high = min(values), max(values)
    assume(high > low)
    for value, number in zip(values, by_equal_width(values, groups), strict=True):
        # In whole numbers: number <= (high - value) * groups / (high - low) < number + 1.
        offset = (high - value) * groups
        assert number * (high - low) <= offset
        assert offset < (number + 1) * (high - low) or (number == groups - 1 and value == low)


@given(pool_costs)
def test_z_scores_cancel(costs):
    assert sum(z_sums(costs, ("params", "macs"))) == pytest.approx(0, abs=1e-6)


@given(pool_costs, st.integers(-10, 10))
def test_units_do_not_matter(costs, power):
    """Scaled by a power of two, so that the scaling itself is exact."""
    scaled = [{**cost, "macs": cost["macs"] * 2.0**power} for cost in costs]
    before = z_sums(costs, ("params", "macs"))
    assert z_sums(scaled, ("params", "macs")) == pytest.approx(before, abs=1e-6)


def test_z_sums_by_hand():
    costs = [{"a": 1, "b": 7}, {"a": 2, "b": 7}, {"a": 3, "b": 7}]
    root = 1.5**0.5  # the population's deviation is (2 / 3) ** 0.5
    assert z_sums(costs, ["a"]) == pytest.approx([-root, 0, root])
    assert z_sums(costs, ["a", "b"]) == pytest.approx([-root, 0, root])


@given(pool_costs, st.data(), st.integers(1, 5))
def test_strata_do_not_mix(costs, data, groups):
    strata = data.draw(
        st.lists(st.sampled_from("xyz"), min_size=len(costs), max_size=len(costs)), label="strata"
    )
    numbers = group_by_cost(costs, groups=groups, strata=strata)
    for position, key in enumerate(dict.fromkeys(strata)):
        mine = [i for i, k in enumerate(strata) if k == key]
        alone = group_by_cost([costs[i] for i in mine], groups=groups)
        assert [numbers[i] for i in mine] == [position * groups + n for n in alone]


def test_zero_groups():
    with pytest.raises(ValueError, match="at least 1"):
        group_by_cost([{"params": 1, "macs": 1}], groups=0)

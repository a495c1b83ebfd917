"""Rounding rules and the derivation of Table 3 of arXiv 2009.07409."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from efficientnet_elite.networks import scaling
from efficientnet_elite.networks.families.efficientnet import REPEATS, TABLE_3
from efficientnet_elite.networks.names import pool_sizes
from efficientnet_elite.networks.scaling import Coefficients

channel_counts = st.integers(1, 4096)
coefficients = st.floats(0.05, 2.0)


def test_operators_of_table_3():
    assert sum(REPEATS) == 18
    assert [scaling.total_operators(REPEATS, d) for d in TABLE_3.depth] == [18, 17, 15, 12]
    assert scaling.round_repeats(4, 0.6) == 3  # Table 2 prints 2


def step_by_step() -> Coefficients:
    """Eqs. 2 and 3 where each step continues from the coefficient that Table 3 prints before it."""
    depth = scaling.depth_steps(REPEATS)
    operators = [scaling.total_operators(REPEATS, d) for d in depth]
    ratios = [after / before for before, after in pairwise(operators)]

    def continued(printed: tuple[float, ...], to_depth: float) -> tuple[float, ...]:
        return 1.0, *(p * ratio * to_depth for p, ratio in zip(printed, ratios, strict=False))

    return Coefficients(
        continued(TABLE_3.width, scaling.WIDTH_TO_DEPTH),
        depth,
        continued(TABLE_3.resolution, scaling.RESOLUTION_TO_DEPTH),
    )


def test_table_3_follows_from_equations_2_and_3():
    derived = step_by_step()
    assert derived.depth == TABLE_3.depth == scaling.derive_coefficients(REPEATS).depth
    assert [round(w, 4) for w in derived.width] == [1.0, 0.8657, 0.7009, 0.5141]
    assert [round(r, 4) for r in derived.resolution] == [1.0, 0.9051, 0.7653, 0.5873]


def test_where_print_and_derivation_differ():
    """Only w2 and r3 do not round to what is printed."""
    derived = step_by_step()

    def differing(ours, printed, digits):
        return {
            i: (round(a, n), b)
            for i, (a, b, n) in enumerate(zip(ours, printed, digits, strict=True), start=1)
            if round(a, n) != b
        }

    assert differing(derived.width, TABLE_3.width, (1, 4, 3, 3)) == {2: (0.8657, 0.8666)}
    assert differing(derived.resolution, TABLE_3.resolution, (1, 3, 3, 3)) == {3: (0.765, 0.766)}


def test_unrounded_derivation_differs_from_print_in_one_more_coefficient():
    """Continuing from 0.8657 instead of the printed 0.8666 misses w3 as well."""
    alone = scaling.derive_coefficients(REPEATS)
    assert [round(w, 3) for w in alone.width] == [1.0, 0.866, 0.700, 0.514]
    assert [round(r, 3) for r in alone.resolution] == [1.0, 0.905, 0.765, 0.587]
    steps = [b / a for a, b in pairwise([18, 17, 15, 12])]
    assert alone.width[1] == pytest.approx(steps[0] * 1.1 / 1.2)
    assert alone.resolution[3] == pytest.approx(steps[0] * steps[1] * steps[2] * (1.15 / 1.2) ** 3)


@pytest.mark.parametrize(
    ("family", "base", "sides"),
    [
        ("elite", 224, (224, 203, 172, 132)),
        ("elite", 32, (32, 29, 25, 19)),
        ("hf", 224, (256, 128)),
        ("hf", 256, (256, 128)),
        ("hf", 32, (32, 16)),
    ],
)
def test_input_sides(family, base, sides):
    assert tuple(size.plain for size in pool_sizes(family, base)) == sides


@given(channel_counts, coefficients, st.sampled_from([4, 8, 16]))
@example(24, 0.514, 8)
@example(12, 1.0, 8)
@example(44, 1.0, 8)
def test_round_filters(channels, width, divisor):
    product = channels * width
    rounded = scaling.round_filters(channels, width, divisor)
    assert rounded % divisor == 0
    assert rounded >= max(divisor, 0.9 * product)
    # The nearest multiple, unless the 90 % rule or the minimum has raised it.
    assert (
        rounded - product <= divisor / 2
        or rounded == divisor
        or (rounded - divisor < 0.9 * product and rounded - product <= divisor)
    )
    assert product - rounded < divisor / 2
    assert scaling.round_filters(rounded, 1.0, divisor) == rounded


@given(channel_counts, coefficients, st.sampled_from([4, 8, 12, 16, 32]))
@example(32, 0.837, 8)  # round_filters lifts it: 24 is under 90 % of 26.8
def test_nearest_multiple(channels, width, divisor):
    product = channels * width
    rounded = scaling.nearest_multiple(channels, width, divisor)
    assert rounded % divisor == 0
    assert abs(rounded - product) <= divisor / 2 or rounded == divisor >= product
    assert scaling.round_filters(channels, width, divisor) - rounded in (0, divisor)


@given(channel_counts, channel_counts, coefficients)
def test_round_filters_is_monotone(a, b, width):
    low, high = sorted((a, b))
    # The 90 % rule may raise a smaller product above the plain rounding of a larger one, but only
    # where the two products are less than one step apart.
    rounded_low, rounded_high = (
        scaling.round_filters(low, width),
        scaling.round_filters(high, width),
    )
    assert rounded_low <= rounded_high or high * width - low * width < 8


@pytest.mark.parametrize(
    ("channels", "width", "result"),
    [(32, 1.0, 32), (44, 1.0, 48), (10, 1.0, 16), (1, 0.1, 8), (1280, 0.514, 656)],
)
def test_round_filters_by_hand(channels, width, result):
    """44 is half way between multiples and rounds up; 10 would become 8, less than 90 % of it."""
    assert scaling.round_filters(channels, width) == result


@given(st.integers(1, 50), st.integers(1, 10), st.integers(1, 20))
@example(5, 10, 6)
@example(50, 10, 11)  # 55.00000000000001
def test_round_repeats_is_an_exact_ceiling(repeats, tenths_of, tenths):
    """Compared with integer arithmetic: floating-point error must not add a block."""
    assert scaling.round_repeats(repeats, tenths / 10) == -(-repeats * tenths // 10)
    assert scaling.round_repeats(repeats * tenths_of, 1 / tenths_of) == repeats


@given(st.integers(1, 1 << 20))
@example(96)
@example(24)
def test_round_power_of_two_is_the_nearest_and_a_tie_goes_down(channels):
    rounded = scaling.round_power_of_two(channels)
    powers = [1 << k for k in range(22)]
    assert rounded == min(powers, key=lambda power: (abs(power - channels), power))


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_round_power_of_two_is_monotone(a, b):
    low, high = sorted((a, b))
    assert scaling.round_power_of_two(low) <= scaling.round_power_of_two(high)


@given(st.integers(8, 4096), st.integers(1, 1000))
@example(250, 700)
def test_round_resolution_is_an_exact_ceiling(base, thousandths):
    assert scaling.round_resolution(base, thousandths / 1000) == -(-base * thousandths // 1000)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 6))
def test_depth_steps(repeats, count):
    def operators(depth):
        return scaling.total_operators(repeats, depth)

    steps = scaling.depth_steps(repeats, count)
    distinct = {operators(tenths / 10) for tenths in range(1, 11)}
    assert len(steps) == min(count, len(distinct))
    assert steps[0] == 1.0
    for previous, step in pairwise(steps):
        assert operators(step) < operators(previous)
        tenths = round(step * 10)
        assert step == tenths / 10
        # No multiplier between two steps has fewer operators than the first of them.
        for between in range(tenths + 1, round(previous * 10)):
            assert operators(between / 10) == operators(previous)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=12))
def test_derived_coefficients_fall(repeats):
    derived = scaling.derive_coefficients(repeats)
    assert len(derived.width) == len(derived.depth) == len(derived.resolution)
    for values in (derived.width, derived.depth, derived.resolution):
        assert values[0] == 1.0
        assert all(a > b > 0 for a, b in pairwise(values))
    # Delta_w : Delta_d : Delta_r = 1.1 : 1.2 : 1.15 at every step.
    for (w, v), (r, s) in zip(pairwise(derived.width), pairwise(derived.resolution), strict=True):
        assert (v / w) / (s / r) == pytest.approx(1.1 / 1.15)

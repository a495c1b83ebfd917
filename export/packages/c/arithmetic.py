"""The integer arithmetic of TensorFlow Lite Micro's reference kernels, in exact Python integers.

It computes what the generated code contains as constants: multipliers of scales, and tables of the
256 values of functions such as the logistic one, which TFLM evaluates in fixed-point numbers of the
library gemmlowp.
"""

from __future__ import annotations

import math

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantized_multiplier(real: float) -> tuple[int, int]:
    """A factor as multiplier * 2^(shift - 31), with a multiplier of 0 or in [2^30, 2^31)."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(abs(fraction) * (1 << 31) + 0.5)
    multiplier = multiplier if fraction > 0 else -multiplier
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def wrapped(x: int) -> int:
    """An integer reduced to 32 bits, as int32 arithmetic wraps."""
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


def clamped(x: int, least: int = -128, greatest: int = 127) -> int:
    """The nearest integer within a range, by default that of int8."""
    return max(least, min(greatest, x))


def high_product(x: int, y: int) -> int:
    """x * y / 2^31, rounded half up and saturated."""
    return min((x * y + (1 << 30)) >> 31, INT32_MAX)


def rounded_shift(x: int, bits: int) -> int:
    """x / 2^bits, rounded half away from zero."""
    half = (1 << bits) >> 1
    return (x + half) >> bits if x >= 0 else -((-x + half) >> bits)


def scaled(x: int, multiplier: int, shift: int) -> int:
    """x times a factor in the form of `quantized_multiplier`."""
    left, right = max(shift, 0), max(-shift, 0)
    return rounded_shift(high_product(wrapped(x << left), multiplier), right)


def saturating_shift(x: int, bits: int) -> int:
    """x * 2^bits, saturated to 32 bits; for negative bits `rounded_shift`."""
    return clamped(x << bits, INT32_MIN, INT32_MAX) if bits >= 0 else rounded_shift(x, -bits)


# exp(-2^i) for i from -2 to 4, times 2^31.
_EXPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def exp_of_negative(x: int, integer_bits: int) -> int:
    """exp(x) times 2^31 of x <= 0 in units of 2^(integer_bits - 31)."""
    if x == 0:
        return INT32_MAX
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    y = saturating_shift(rest, integer_bits) + (1 << 28)
    square = high_product(y, y)
    third, fourth = high_product(square, y), high_product(square, square)
    series = high_product(rounded_shift(fourth, 2) + third, 715827883) + square
    constant = 1895147668  # exp(-1/8)
    result = constant + high_product(constant, y + rounded_shift(series, 1))
    for exponent, factor in enumerate(_EXPS, start=-2):
        if integer_bits > exponent and (rest - x) & (1 << (fraction_bits + exponent)):
            result = high_product(result, factor)
    return result


def _newton(x: int) -> int:
    """1 / (1 + x) of x in [0, 1), both in units of 2^-31, times 2^29 * 2."""
    half = (x + INT32_MAX + 1) // 2
    y = 1515870810 + high_product(half, -1010580540)
    for _ in range(3):
        y += saturating_shift(high_product(y, (1 << 29) - high_product(half, y)), 2)
    return y


def logistic(x: int, integer_bits: int) -> int:
    """1 / (1 + exp(-x)) times 2^31 of x in units of 2^(integer_bits - 31)."""
    if x == 0:
        return 1 << 30
    y = saturating_shift(_newton(exp_of_negative(-abs(x), integer_bits)), 1)
    return y if x > 0 else INT32_MAX - y


def tanh(x: int, integer_bits: int) -> int:
    """tanh(x) times 2^31 of x in units of 2^(integer_bits - 31)."""
    if x == 0:
        return 0
    # Doubling a number is the same bits with one more integer bit.
    y = _newton(exp_of_negative(-abs(x), integer_bits + 1))
    t = saturating_shift(y - (1 << 29), 2)
    return t if x > 0 else -t


def input_radius(integer_bits: int, left_shift: int) -> int:
    """The greatest magnitude of an integer that scales to less than 2^integer_bits."""
    limit = ((1 << integer_bits) - 1) * (1 << (31 - integer_bits))
    return math.floor(limit / (1 << left_shift)) if left_shift >= 0 else limit << -left_shift

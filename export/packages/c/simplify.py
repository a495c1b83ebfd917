"""Turns functions of single values into tables, and joins them to the operators before them.

The rule which operators become tables is in `efficientnet_elite.device.tables`. Their 256 values
are computed here, exactly as TFLM would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from efficientnet_elite.device import tables
from efficientnet_elite.errors import UserError

from . import arithmetic as exact
from .graph import Graph, Operator, Tensor

TABLE = "TABLE"  # the kind of operators that only apply a table
_VALUES = list(range(-128, 128))


def simplified(graph: Graph) -> Graph:
    """A graph that computes the same with tables, and without operators that only reshape."""
    tensors = graph.tensors
    plan = tables.plan(
        [_step(operator, tensors) for operator in graph.operators],
        graph.output,
        lambda tensor: tensors[tensor].size,
    )
    operators = []
    for kept in plan.kept:
        operator = graph.operators[kept.position]
        if kept.source is not None and kept.made is not None:
            table = _table(graph, plan.same_as, kept.source, kept.made)
            if kept.alone:
                operator = Operator(TABLE, (kept.source,), (kept.made,), {}, table)
            else:
                operator = replace(
                    operator, outputs=(kept.made,), table=table, before_table=kept.source
                )
        operators.append(operator)
    output = plan.same_as.get(graph.output, graph.output)
    return replace(graph, operators=tuple(operators), output=output, same_as=plan.same_as)


def _step(operator: Operator, tensors: Sequence[Tensor]) -> tables.Step:
    constants = [index for index in operator.inputs if tensors[index].values is not None]
    return tables.Step(
        operator.kind,
        tuple(index for index in operator.inputs if index not in constants) or operator.inputs[:1],
        operator.outputs,
        single=all(tensors[index].size == 1 for index in constants),
    )


def _table(graph: Graph, same_as: Mapping[int, int], source: int, made: int) -> np.ndarray:
    """The values of a tensor for each value of the tensor that it is a function of."""
    tensors = graph.tensors
    writers = {output: operator for operator in graph.operators for output in operator.outputs}

    def values(tensor: int) -> list[int]:
        tensor = same_as.get(tensor, tensor)
        if tensor == source:
            return _VALUES
        if tensors[tensor].values is not None:
            return tensors[tensor].content.reshape(-1).tolist() * len(_VALUES)
        operator = writers[tensor]
        output = tensors[tensor]
        if operator.kind in _UNARY:
            function = _UNARY[operator.kind](tensors[operator.inputs[0]], output, operator)
            return [function(value) for value in values(operator.inputs[0])]
        one, other = operator.inputs
        both = _BINARY[operator.kind](tensors[one], tensors[other], output, operator)
        return [both(x, y) for x, y in zip(values(one), values(other), strict=True)]

    return np.array(values(made), np.int8)


def activation_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """The least and greatest int8 value that an operator's fused activation lets pass."""
    kind = operator.options.get("fusedActivationFunction", 0)
    limits = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
    if kind not in limits:
        raise UserError(f"{operator.kind} has a fused activation that is not supported: {kind}")
    least, greatest = (
        None if limit is None else quantized(limit, output) for limit in limits[kind]
    )
    return (
        -128 if least is None else max(-128, least),
        127 if greatest is None else min(127, greatest),
    )


def quantized(value: float, tensor: Tensor) -> int:
    """A real value as an integer of a tensor, computed in float32 and not clamped."""
    return tensor.zero + _rounded(float(np.float32(value) / np.float32(tensor.scale)))


def _rounded(value: float) -> int:
    """The nearest integer, half away from zero."""
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def sum_factors(a: Tensor, b: Tensor, output: Tensor, kind: str) -> list[tuple[int, int]]:
    """The factors of both inputs and of the output of ADD or SUB, see nn_elementwise.c."""
    if kind == "SUB":  # TFLM computes these quotients in float32
        f = np.float32
        twice = f(2) * max(f(a.scale), f(b.scale))
        single = [f(a.scale) / twice, f(b.scale) / twice, twice / (f(1 << 20) * f(output.scale))]
        return [exact.quantized_multiplier(float(real)) for real in single]
    double = 2 * max(a.scale, b.scale)
    reals = [a.scale / double, b.scale / double, double / ((1 << 20) * output.scale)]
    return [exact.quantized_multiplier(real) for real in reals]


def _sum(a: Tensor, b: Tensor, output: Tensor, operator: Operator) -> Callable[[int, int], int]:
    factor_a, factor_b, factor = sum_factors(a, b, output, operator.kind)
    sign = -1 if operator.kind == "SUB" else 1
    limits = activation_range(operator, output)

    def function(x: int, y: int) -> int:
        total = exact.scaled((x - a.zero) << 20, *factor_a)
        total += sign * exact.scaled((y - b.zero) << 20, *factor_b)
        return exact.clamped(exact.scaled(total, *factor) + output.zero, *limits)

    return function


def _product(a: Tensor, b: Tensor, output: Tensor, operator: Operator) -> Callable[[int, int], int]:
    factor = exact.quantized_multiplier(a.scale * b.scale / output.scale)
    limits = activation_range(operator, output)

    def function(x: int, y: int) -> int:
        value = exact.scaled((x - a.zero) * (y - b.zero), *factor) + output.zero
        return exact.clamped(value, *limits)

    return function


def sigmoid(tensor: Tensor, output: Tensor, operator: Operator) -> Callable[[int], int]:
    """LOGISTIC and TANH, which take the input in fixed-point with 4 integer bits."""
    is_tanh = operator.kind == "TANH"
    wanted = (1 / 128, 0) if is_tanh else (1 / 256, -128)
    if (output.scale, output.zero) != wanted:
        raise UserError(
            f"the output of {operator.kind} has the scale {output.scale:.4g} and the zero point "
            f"{output.zero} instead of {wanted[0]:.4g} and {wanted[1]}"
        )
    fraction, shift = math.frexp(tensor.scale * (1 << 27))
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    radius = exact.input_radius(4, shift)

    def function(value: int) -> int:
        x = value - tensor.zero
        if x <= -radius:  # in this order, because the radius is 0 for large scales
            return -128
        if x >= radius:
            return 127
        x = exact.scaled(x, multiplier, shift)
        if is_tanh:
            return exact.clamped(exact.rounded_shift(exact.tanh(x, 4), 24))
        return exact.clamped(exact.rounded_shift(exact.logistic(x, 4), 23) - 128)

    return function


def _int16_factor(real: float) -> tuple[int, int]:
    """A factor with a multiplier of 16 bits."""
    multiplier, shift = exact.quantized_multiplier(real)
    if multiplier >= exact.INT32_MAX - (1 << 15):
        return (1 << 15) - 1, shift
    return (multiplier + (1 << 15)) >> 16, shift


def _hard_swish(tensor: Tensor, output: Tensor, operator: Operator) -> Callable[[int], int]:
    f = np.float32
    hires = f(1 / 128) * f(tensor.scale)
    factor, factor_shift = _int16_factor(float(hires / f(output.scale)))
    gate_factor, gate_shift = _int16_factor(float(hires / (f(3) / f(32768))))

    def int16(x: int) -> int:
        return exact.clamped(x, -(1 << 15), (1 << 15) - 1)

    def high_product(x: int, y: int) -> int:
        return int16((x * y + (1 << 14)) >> 15)

    def function(value: int) -> int:
        x = (value - tensor.zero) << 7
        scaled = high_product(x, factor)
        gate = x
        if gate_shift > 0:
            gate = int16(gate << (gate_shift - 1))
        gate = high_product(gate, gate_factor)
        if gate_shift > 0:
            gate = int16(gate << 1)
        if gate_shift < 0:
            gate = exact.rounded_shift(gate, -gate_shift)
        gate = (gate + (1 << 15)) >> 1
        product = int(gate * scaled / (1 << 15))  # towards zero
        return exact.clamped(exact.rounded_shift(product, -factor_shift) + output.zero)

    return function


def _requantized(tensor: Tensor, output: Tensor, operator: Operator) -> Callable[[int], int]:
    """QUANTIZE from int8 to int8, and RELU, whose factor TFLM computes in float32."""
    real = tensor.scale / output.scale
    least = -128
    if operator.kind == "RELU":
        real = float(np.float32(tensor.scale) / np.float32(output.scale))
        least = max(-128, output.zero)
    factor = exact.quantized_multiplier(real)
    return lambda x: exact.clamped(exact.scaled(x - tensor.zero, *factor) + output.zero, least)


def _relu6(tensor: Tensor, output: Tensor, operator: Operator) -> Callable[[int], int]:
    if (tensor.scale, tensor.zero) != (output.scale, output.zero):
        raise UserError("RELU6 has an input and an output of different scales")
    six = exact.clamped(quantized(6.0, tensor))
    return lambda x: max(tensor.zero, min(six, x))


def _leaky_relu(tensor: Tensor, output: Tensor, operator: Operator) -> Callable[[int], int]:
    f = np.float32
    slope = f(operator.options["alpha"])
    below = exact.quantized_multiplier(abs(float(f(tensor.scale) * slope / f(output.scale))))
    above = exact.quantized_multiplier(float(f(tensor.scale) / f(output.scale)))
    sign = -1 if slope < 0 else 1

    def function(value: int) -> int:
        x = value - tensor.zero
        y = exact.scaled(x, *above) if x >= 0 else sign * exact.scaled(x, *below)
        return exact.clamped(y + output.zero)

    return function


_Unary = Callable[[Tensor, Tensor, Operator], Callable[[int], int]]
_UNARY: dict[str, _Unary] = {
    "LOGISTIC": sigmoid,
    "TANH": sigmoid,
    "HARD_SWISH": _hard_swish,
    "RELU": _requantized,
    "QUANTIZE": _requantized,
    "RELU6": _relu6,
    "LEAKY_RELU": _leaky_relu,
}
_BINARY = {"ADD": _sum, "SUB": _sum, "MUL": _product}
# All operators that this module can replace.
KINDS = (*tables.RESHAPING, *tables.UNARY)

"""Limits of a device: which candidates are beyond them, and why.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from efficientnet_elite.config import Limits
from efficientnet_elite.device import costs
from efficientnet_elite.device.costs import METRICS, Measured, Metric
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec

# Field of `config.Limits` to the metric that it bounds; the unit is the metric's.
METRIC_OF = {
    "params_m": "params",
    "macs_m": "macs",
    "peak_kb": "peak_bytes",
    "size_kb": "size_bytes",
    "arena_kb": "arena_bytes",
    "tflm_arena_kb": "tflm_arena_bytes",
    "latency_ms": "latency_ms",
    "ethos_u_cycles_m": "ethos_u_cycles",
}


def ceilings(limits: Limits) -> dict[str, float]:
    """Metric name to the greatest value allowed, in its base unit; of the limits that are set."""
    values = {field.name: getattr(limits, field.name) for field in fields(limits)}
    return {
        METRIC_OF[name]: value * METRICS[METRIC_OF[name]].factor
        for name, value in values.items()
        if value is not None
    }


def cut(
    specs: Sequence[ArchSpec],
    limits: Limits,
    measured: Measured = {},  # noqa: B006 (never changed)
) -> dict[str, str]:
    """Name of each network over a limit to the reason, such as ``size 1,312 kB > 900.00 kB``.

    A network that equals a limit keeps it.

    Raises:
      UserError: no network is within the limits; the message names the tightest one and what would
        fit.
    """
    bounds = ceilings(limits)
    table = {spec.name: {m: costs.of(spec, m, measured) for m in bounds} for spec in specs}
    reasons = {name: _reason(values, bounds) for name, values in table.items()}
    if table and all(reasons.values()):
        raise UserError(nothing_fits(table, bounds))
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(values: Mapping[str, float], bounds: Mapping[str, float]) -> str:
    return "; ".join(
        f"{METRICS[m].title} {' > '.join(_apart(METRICS[m], values[m], bound))}"
        for m, bound in bounds.items()
        if values[m] > bound
    )


def _apart(metric: Metric, value: float, bound: float) -> tuple[str, str]:
    """Two values with their unit, in all their digits where they would else read the same."""
    value_text, bound_text = metric.text(value), metric.text(bound)
    if value_text != bound_text:
        return value_text, bound_text
    return f"{value / metric.factor:,} {metric.unit}", f"{bound / metric.factor:,} {metric.unit}"


def nothing_fits(table: Mapping[str, Mapping[str, float]], bounds: Mapping[str, float]) -> str:
    """One line on a pool of which nothing is within its bounds.

    The tightest limit is the one that alone cuts most candidates (in a tie, the one that the
    cheapest candidate exceeds by the greatest factor). The nearest candidate is the one whose worst
    excess, as a factor, is the smallest.
    """

    def over(metric: str) -> tuple[int, float]:
        values = [values[metric] for values in table.values()]
        return sum(v > bounds[metric] for v in values), min(values) / bounds[metric]

    tightest = max(bounds, key=over)
    nearest = min(table, key=lambda name: max(table[name][m] / b for m, b in bounds.items()))
    field = next(name for name, metric in METRIC_OF.items() if metric == tightest)
    needs = ", ".join(
        f"{METRICS[m].title} {_apart(METRICS[m], table[nearest][m], bound)[0]}"
        for m, bound in bounds.items()
        if table[nearest][m] > bound
    )
    return (
        f"no candidate is within the limits: the tightest is max_{field}="
        f"{bounds[tightest] / METRICS[tightest].factor:g}, which alone cuts {over(tightest)[0]} of "
        f"{len(table)}; the nearest candidate, {nearest}, would fit with {needs}"
    )

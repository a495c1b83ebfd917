"""Limits of a device: which networks are excluded, and by which cost metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientnet_elite.config import Limits
from efficientnet_elite.device import costs
from efficientnet_elite.device.costs import METRICS, Measured, Metric
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec


def metrics_by_limit() -> dict[str, str]:
    """Name of each limit to the name of its metric; the limit is in the metric's unit."""
    return {metric.limit: name for name, metric in METRICS.items() if metric.limit}


def ceilings(limits: Limits) -> dict[str, float]:
    """Metric's name to the greatest allowed value in base units, for all limits that are set.

    Raises:
      UserError: no metric has a limit of that name.
    """
    metrics = metrics_by_limit()
    bounds = {}
    for name, value in limits.by_name().items():
        if value is None:
            continue
        if name not in metrics:
            raise UserError(f"there is no limit {name!r}: choose from {', '.join(metrics)}")
        bounds[metrics[name]] = value * METRICS[metrics[name]].factor
    return bounds


def excluded(
    specs: Sequence[ArchSpec],
    limits: Limits,
    measured: Measured = {},  # noqa: B006 (never changed)
) -> dict[str, str]:
    """Name of each excluded network to the reason, such as ``size 1,312 kB > 900.00 kB``.

    A network whose cost equals a limit is within it.

    Raises:
      UserError: no network is within the limits; the message names the tightest limit and the
        nearest network.
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
    """Two values with their unit; with all digits if the rounded values would be equal."""
    value_text, bound_text = metric.text(value), metric.text(bound)
    if value_text != bound_text:
        return value_text, bound_text
    return f"{value / metric.factor:,} {metric.unit}", f"{bound / metric.factor:,} {metric.unit}"


def nothing_fits(table: Mapping[str, Mapping[str, float]], bounds: Mapping[str, float]) -> str:
    """The error message for a pool in which no candidate is within the limits.

    The tightest limit is the one that alone excludes the most candidates; of several, the one that
    the cheapest candidate exceeds by the greatest factor. The nearest candidate is the one for
    which the greatest ratio of cost to limit is smallest.

    Args:
      table: candidate's name to metric's name to cost.
      bounds: metric's name to the greatest allowed value.
    """

    def exclusions(metric: str) -> tuple[int, float]:
        values = [costs_of_candidate[metric] for costs_of_candidate in table.values()]
        return sum(value > bounds[metric] for value in values), min(values) / bounds[metric]

    tightest = max(bounds, key=exclusions)
    nearest = min(table, key=lambda name: max(table[name][m] / b for m, b in bounds.items()))
    needs = ", ".join(
        f"{METRICS[m].title} {_apart(METRICS[m], table[nearest][m], bound)[0]}"
        for m, bound in bounds.items()
        if table[nearest][m] > bound
    )
    excluded_count, _ = exclusions(tightest)
    return (
        f"no candidate is within the limits: the tightest is max_{METRICS[tightest].limit}="
        f"{bounds[tightest] / METRICS[tightest].factor:g}, which alone excludes "
        f"{excluded_count} of {len(table)}; the nearest candidate, {nearest}, "
        f"would fit with {needs}"
    )

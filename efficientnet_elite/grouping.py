"""Groups of candidates of like cost: z-scores (Eq. 4 of arXiv 2009.07409) and two ways to cut.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, pstdev

METHODS = ("width", "count")


def z_sums(costs: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> list[float]:
    """Sum over the metrics of each candidate's z-score in the pool (Eq. 4).

    A metric in which all candidates agree adds nothing.
    """
    total = [0.0] * len(costs)
    for metric in metrics:
        values = [float(cost[metric]) for cost in costs]
        mean, deviation = fmean(values), pstdev(values)
        if deviation > 0:
            total = [t + (v - mean) / deviation for t, v in zip(total, values, strict=True)]
    return total


def by_equal_width(values: Sequence[float], groups: int) -> list[int]:
    """Cuts the values' range into ``groups`` equal intervals; 0 holds the highest.

    An interval may stay empty. This is what reproduces the paper: ten intervals over the eLite
    pool put exactly one published champion into each.
    """
    low, high = min(values), max(values)
    if high == low:
        return [0] * len(values)
    return [min(groups - 1, int((high - v) / (high - low) * groups)) for v in values]


def by_equal_count(values: Sequence[float], groups: int) -> list[int]:
    """Sorts the values downwards and cuts them into ``groups`` runs of (almost) equal length.

    Ties keep the order of the input.
    """
    order = sorted(range(len(values)), key=lambda i: -values[i])
    result = [0] * len(values)
    for rank, index in enumerate(order):
        result[index] = rank * groups // len(values)
    return result


def group(
    costs: Sequence[Mapping[str, float]],
    *,
    groups: int,
    metrics: Sequence[str] = ("params", "macs"),
    method: str = "width",
    strata: Sequence[Hashable] | None = None,
) -> list[int]:
    """Group number of every candidate; 0 is the heaviest.

    Args:
      costs: one mapping of metric to cost a candidate.
      groups: number of groups (in each stratum).
      metrics: whose z-scores are added.
      method: ``width`` for equal intervals of the sum, ``count`` for equally many candidates.
      strata: where given, candidates are grouped within their stratum, as HF's are within their
        resolution; the strata's groups are numbered one behind the other, in order of appearance.
    """
    if groups < 1:
        raise ValueError("groups must be at least 1")
    cut = {"width": by_equal_width, "count": by_equal_count}[method]
    keys = list(strata) if strata is not None else [None] * len(costs)
    result = [0] * len(costs)
    for number, key in enumerate(dict.fromkeys(keys)):
        members = [i for i, k in enumerate(keys) if k == key]
        sums = z_sums([costs[i] for i in members], metrics)
        for index, interval in zip(members, cut(sums, groups), strict=True):
            result[index] = number * groups + interval
    return result

"""Pareto fronts of accuracy against costs, and confidence intervals of accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt


def front(accuracies: Sequence[float], costs: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each model is on the Pareto front.

    A model is off the front where another one is at least as accurate and at most as costly in
    everything, and better in something. Of equals, all are on the front.

    Args:
      accuracies: one a model, more is better.
      costs: one sequence of costs a model, less is better.
    """
    points = [(-accuracy, *cost) for accuracy, cost in zip(accuracies, costs, strict=True)]
    return [not any(dominates(other, point) for other in points) for point in points]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` is at most ``b`` in every cost and less in at least one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy measured on so many images (Wilson's)."""
    z = 1.959964
    z2 = z * z / images
    middle = (accuracy + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * sqrt(accuracy * (1 - accuracy) / images + z2 / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)

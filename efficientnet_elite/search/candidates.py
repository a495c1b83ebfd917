"""Which candidates of a pool a search trains: those within the device's limits, in cost groups.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from random import Random
from statistics import fmean, pstdev

from efficientnet_elite.config import Limits
from efficientnet_elite.device import costs
from efficientnet_elite.device import limits as limits_lib
from efficientnet_elite.device.costs import METRICS, Measured
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION
from efficientnet_elite.networks.names import MEMBERS, families_of_pool, fits, variant_spec
from efficientnet_elite.networks.spec import ArchSpec

GROUPING_METHODS = ("width", "count")


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


def group_by_cost(
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


# Costs that candidates are grouped by, the paper's (Eq. 4); `costs` has others.
PAPER_METRICS = ("params", "macs")


_GROUP_SIZE = 6  # candidates to a cost group, about; eLite has 64 in ten


@dataclass(frozen=True)
class Candidate:
    """A network that may take part in a search.

    Attributes:
      name: ``elite9`` for a published member, ``elite-w1d2r3`` (Table 3's indices) for others.
      family: name of the pool it comes from.
      width, depth: scaling coefficients.
      spec: the network.
      group: number of its cost group, 0 the heaviest.
    """

    name: str
    family: str
    width: float
    depth: float
    spec: ArchSpec
    group: int = 0


def pool_candidates(
    pool: str,
    *,
    base_resolution: int = IMAGENET_RESOLUTION,
    classes: int = 1000,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
) -> tuple[Candidate, ...]:
    """All candidates of a pool with their groups: `grouped` of its `members`."""
    found = pool_members(pool, base_resolution=base_resolution, classes=classes)
    return group_candidates(pool, found, groups=groups, metrics=metrics, method=method)


@cache
def pool_members(
    pool: str, *, base_resolution: int = IMAGENET_RESOLUTION, classes: int = 1000
) -> tuple[Candidate, ...]:
    """All candidates of a pool, family by family, heaviest coefficients first, all in group 0.

    Args:
      pool: names of families, comma-separated (``elite``, ``elite,ghostnet``), their beginnings
        (``mobilenetv3`` for Small and Large), ``all`` classifiers or all of ``segmentation``, each
        with the suffix of a deployment variant where wanted (``elite-relu6-nose``).
      base_resolution: input side in pixels at resolution coefficient 1 (224 for ImageNet; HF takes
        the next power of two and its half). At small ones several coefficients may round to the
        same side; each network then appears once, under its first coefficients, and those that do
        not fit into their input are left out.
      classes: number of classes.
    """
    families = families_of_pool(pool)
    if base_resolution < 8:
        raise UserError(f"base_resolution={base_resolution}: must be at least 8 pixels")
    found: dict[tuple[object, ...], Candidate] = {}
    for family, variant in families:
        for name, setting in family.pool(base_resolution):
            spec = variant_spec(family, variant, name, setting, classes)
            if fits(spec):
                # Neighbouring coefficients may round to one network, which then appears once.
                network = family.name, variant, spec.input_shape, spec.blocks
                candidate = Candidate(spec.name, family.name, setting.width, setting.depth, spec)
                found.setdefault(network, candidate)
    if not found:
        raise UserError(f"pool {pool!r}: no network fits into {base_resolution} pixels; use more")
    names = [candidate.name for candidate in found.values()]
    if twice := Counter(names) - Counter(set(names)):
        raise UserError(f"pool {pool!r} has two networks called {min(twice)!r}: rename your own")
    return tuple(found.values())


def group_candidates(
    pool: str,
    found: Sequence[Candidate],
    *,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
    measured: Measured = {},  # noqa: B006 (never changed)
) -> tuple[Candidate, ...]:
    """Members of a pool, or some of them, with their cost groups.

    Args:
      pool: as for `members`.
      found: what of it is to be grouped.
      groups: number of cost groups (in each resolution for HF); None for the paper's, and for other
        pools one to about six candidates.
      metrics: whose z-scores are added, see `costs`.
      method: ``width`` or ``count``, see `grouping`; None for the paper's ``width`` in one family
        and ``count`` in several, whose costs spread too far for equal intervals.
      measured: values of metrics that are not computed.
    """
    families = families_of_pool(pool)
    if groups is not None and groups < 1:
        raise UserError(f"groups={groups}: must be at least 1")
    costs.check(metrics)
    method = method or ("width" if len(families) == 1 else "count")
    if method not in GROUPING_METHODS:
        raise UserError(f"grouping method {method!r}: choose {' or '.join(GROUPING_METHODS)}")
    default = families[0][0].groups if len(families) == 1 else None
    by_resolution = all(family.grouped_by_resolution for family, _ in families)
    numbers = group_by_cost(
        [{name: costs.of(c.spec, name, measured) for name in metrics} for c in found],
        groups=groups or default or max(1, len(found) // _GROUP_SIZE),
        metrics=metrics,
        method=method,
        strata=[c.spec.resolution for c in found] if by_resolution else None,
    )
    return tuple(replace(c, group=number) for c, number in zip(found, numbers, strict=True))


def sample_candidates(pool: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most ``count`` candidates: groups take turns, each giving a seeded random member.

    The same pool, count and seed give the same choice; a larger count keeps the smaller's.
    """
    random = Random(seed)
    groups: dict[int, list[Candidate]] = {}
    for candidate in pool:
        groups.setdefault(candidate.group, []).append(candidate)
    queues = [random.sample(groups[key], len(groups[key])) for key in sorted(groups)]
    turns = [c for turn in zip_longest(*queues) for c in turn if c is not None]
    return turns[:count]


def list_models(pool: str | None = None) -> list[str]:
    """Names of all candidates of a pool, or of the published members of eLite and HF."""
    if pool is None:
        return list(MEMBERS)
    return [candidate.name for candidate in pool_candidates(pool)]


# (metric, networks) to the measured value of each, by name.
Measure = Callable[[str, Sequence[ArchSpec]], Mapping[str, float]]


@dataclass(frozen=True)
class Selection:
    """What is left of a pool.

    Attributes:
      candidates: those within the limits, with their groups.
      cut: name of each of the others to the reason.
      measured: what was measured for it.
    """

    candidates: tuple[Candidate, ...]
    cut: Mapping[str, str]
    measured: Measured


def cannot_measure(metric: str, specs: Sequence[ArchSpec]) -> Mapping[str, float]:
    """A `Measure` where there is none: UserError."""
    raise UserError(f"{metric} must be measured: it needs {METRICS[metric].needs}")


def select(
    pool: str,
    *,
    base_resolution: int,
    classes: int,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    shown: Sequence[str] = (),
    measure: Measure = cannot_measure,
) -> Selection:
    """Cuts a pool to what the device allows and groups what is left.

    What can be computed is judged first: only candidates that pass are measured. Groups are those
    of the candidates left, so that all of them can be filled.

    Args:
      pool, base_resolution, classes, groups, metrics, method: see `pools`.
      limits: of the device.
      shown: further metrics to measure, where they must be.
      measure: how to measure what cannot be computed.

    Raises:
      UserError: nothing is left, see `limits.cut`; or something cannot be measured.
    """
    needed = costs.to_measure([*metrics, *limits_lib.ceilings(limits), *shown])
    found = pool_members(pool, base_resolution=base_resolution, classes=classes)
    bounds = limits.by_name()
    costly = {name: None for name, metric in limits_lib.metric_of().items() if metric in needed}
    cut = limits_lib.cut([c.spec for c in found], Limits.of({**bounds, **costly}))
    found = tuple(c for c in found if c.name not in cut)
    measured = {metric: measure(metric, [c.spec for c in found]) for metric in needed}
    cut |= limits_lib.cut([c.spec for c in found], limits, measured)
    found = tuple(c for c in found if c.name not in cut)
    options = {"groups": groups, "metrics": metrics, "method": method, "measured": measured}
    return Selection(group_candidates(pool, found, **options), cut, measured)  # type: ignore[arg-type]

"""Which candidates of a pool a search trains: those within the device's limits, in cost groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from random import Random
from statistics import fmean, pstdev

from efficientnet_elite.config import Limits, SearchConfig, SizeLike
from efficientnet_elite.device import costs
from efficientnet_elite.device import limits as limits_lib
from efficientnet_elite.device.costs import METRICS, Measured
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION
from efficientnet_elite.networks.names import MEMBERS, families_of_pool, fits, networks_of_pool
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
    """Divides the range of the values into ``groups`` equal intervals; 0 holds the highest values.

    An interval may stay empty. This reproduces the paper: of ten intervals over the eLite pool each
    holds exactly one published champion.
    """
    low, high = min(values), max(values)
    if high == low:
        return [0] * len(values)
    return [min(groups - 1, int((high - v) / (high - low) * groups)) for v in values]


def by_equal_count(values: Sequence[float], groups: int) -> list[int]:
    """Sorts the values in descending order and divides them into ``groups`` of (almost) equal size.

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
      costs: for each candidate, metric to cost.
      groups: number of groups (in each stratum).
      metrics: metrics of which the z-scores are added.
      method: ``width`` for equal intervals of the sum, ``count`` for equally many candidates.
      strata: a key for each candidate; candidates are grouped among those of the same key, as those
        of HF are within their resolution. Groups are numbered in order of appearance of the keys.
    """
    if groups < 1:
        raise ValueError("groups must be at least 1")
    divide = {"width": by_equal_width, "count": by_equal_count}[method]
    keys = list(strata) if strata is not None else [None] * len(costs)
    result = [0] * len(costs)
    for number, key in enumerate(dict.fromkeys(keys)):
        members = [i for i, k in enumerate(keys) if k == key]
        sums = z_sums([costs[i] for i in members], metrics)
        for index, interval in zip(members, divide(sums, groups), strict=True):
            result[index] = number * groups + interval
    return result


PAPER_METRICS = ("params", "macs")
"""Cost metrics by which the paper groups candidates (Eq. 4); `device.costs` has others."""


_GROUP_SIZE = 6  # about so many candidates in a cost group; eLite has 64 in ten groups


@dataclass(frozen=True)
class Candidate:
    """A network that may take part in a search.

    Attributes:
      name: ``elite9`` for a published member, ``elite-w1d2r3`` (Table 3's indices) for others.
      family: name of the family.
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
    base_resolution: SizeLike = IMAGENET_RESOLUTION,
    classes: int = 1000,
    channels: int = 3,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
) -> tuple[Candidate, ...]:
    """All candidates of a pool with their groups, see `pool_members` and `group_candidates`."""
    members = pool_members(
        pool, base_resolution=base_resolution, classes=classes, channels=channels
    )
    return group_candidates(pool, members, groups=groups, metrics=metrics, method=method)


@cache
def pool_members(
    pool: str,
    *,
    base_resolution: SizeLike = IMAGENET_RESOLUTION,
    classes: int = 1000,
    channels: int = 3,
) -> tuple[Candidate, ...]:
    """All candidates of a pool, family by family, heaviest coefficients first, all in group 0.

    Args:
      pool: names of families, comma-separated (``elite``, ``elite,ghostnet``), their beginnings
        (``mobilenetv3`` for Small and Large), ``all`` classifiers or all of ``segmentation``, each
        with the suffix of a deployment variant where wanted (``elite-relu6-nose``), or with axes
        (``elite:gates=on,off``, see `families.axes`).
      base_resolution: input side in pixels at resolution coefficient 1 (224 for ImageNet; HF takes
        the next power of two and its half), or height and width, such as ``96x128``, of which each
        is scaled as a side is. At small ones several coefficients may round to the same size; each
        network then appears once, under its first coefficients, and those that do not fit into
        their input are left out.
      classes: number of classes.
      channels: of the input images: 3, or 1 for greyscale.
    """
    candidates: dict[tuple[object, ...], Candidate] = {}
    networks = networks_of_pool(pool, base_resolution, classes, channels)
    for family, variant, setting, spec in networks:
        if fits(spec):
            # Neighbouring coefficients may round to one network, which then appears once.
            network = family.name, variant, spec.input_shape, spec.blocks
            candidate = Candidate(spec.name, family.name, setting.width, setting.depth, spec)
            candidates.setdefault(network, candidate)
    if not candidates:
        raise UserError(f"pool {pool!r}: no network fits into {base_resolution} pixels; use more")
    names = [candidate.name for candidate in candidates.values()]
    if repeated := Counter(names) - Counter(set(names)):
        raise UserError(f"pool {pool!r} has two networks called {min(repeated)!r}: rename yours")
    return tuple(candidates.values())


def group_candidates(
    pool: str,
    members: Sequence[Candidate],
    *,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
    measured: Measured = {},  # noqa: B006 (never changed)
) -> tuple[Candidate, ...]:
    """Members of a pool, or some of them, with their cost groups.

    Args:
      pool: as for `pool_members`.
      members: the candidates that are grouped.
      groups: number of cost groups (in each resolution for HF); None for the paper's number, and in
        other pools for groups of about six candidates.
      metrics: cost metrics of which the z-scores are added, see `device.costs`.
      method: ``width`` or ``count``, see `group_by_cost`; None for the paper's ``width`` in one
        family, and for ``count`` in several, where costs vary too much for equal intervals.
      measured: values of metrics that cannot be computed.
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
        [{name: costs.of(c.spec, name, measured) for name in metrics} for c in members],
        groups=groups or default or max(1, len(members) // _GROUP_SIZE),
        metrics=metrics,
        method=method,
        strata=[c.spec.resolution for c in members] if by_resolution else None,
    )
    return tuple(replace(c, group=number) for c, number in zip(members, numbers, strict=True))


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
    """The candidates of a pool that a search may train.

    Attributes:
      candidates: candidates within the limits, with their groups.
      excluded: name of each candidate that is over a limit to the reason.
      measured: cost metrics that were measured for this: metric to candidate to value.
    """

    candidates: tuple[Candidate, ...]
    excluded: Mapping[str, str]
    measured: Measured


def cannot_measure(metric: str, specs: Sequence[ArchSpec]) -> Mapping[str, float]:
    """A `Measure` for where nothing can be measured: raises UserError."""
    raise UserError(f"{metric} must be measured: it needs {METRICS[metric].needs}")


def select(
    pool: str,
    *,
    base_resolution: SizeLike,
    classes: int,
    channels: int = 3,
    stages: bool = False,
    groups: int | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
    method: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    shown: Sequence[str] = (),
    measure: Measure = cannot_measure,
) -> Selection:
    """Excludes the candidates that are over a limit of the device, and groups the others.

    Limits on metrics that can be computed are applied first: only candidates within them are
    measured. Groups are made of the remaining candidates, so that no group is left empty by limits.

    Args:
      pool, base_resolution, classes, channels: see `pool_members`.
      stages: whether classifiers read all stages, see `ArchSpec.reading_stages`.
      groups, metrics, method: see `group_candidates`.
      limits: limits of the device.
      shown: further metrics of which the values are wanted.
      measure: how to measure what cannot be computed.

    Raises:
      UserError: no candidate is within the limits, or a metric cannot be measured.
    """
    needed = costs.to_measure([*metrics, *limits_lib.ceilings(limits), *shown])
    members = pool_members(
        pool, base_resolution=base_resolution, classes=classes, channels=channels
    )
    remaining = tuple(replace(c, spec=c.spec.reading_stages(stages)) for c in members)
    costly = {
        name: None for name, metric in limits_lib.metrics_by_limit().items() if metric in needed
    }
    computed = Limits.of({**limits.by_name(), **costly})
    excluded = limits_lib.excluded([c.spec for c in remaining], computed)
    remaining = tuple(c for c in remaining if c.name not in excluded)
    measured = {metric: measure(metric, [c.spec for c in remaining]) for metric in needed}
    excluded |= limits_lib.excluded([c.spec for c in remaining], limits, measured)
    remaining = tuple(c for c in remaining if c.name not in excluded)
    options = {"groups": groups, "metrics": metrics, "method": method, "measured": measured}
    grouped = group_candidates(pool, remaining, **options)  # type: ignore[arg-type]
    return Selection(grouped, excluded, measured)


def select_for(config: SearchConfig, classes: int, measure: Measure = cannot_measure) -> Selection:
    """The candidates and groups that a search with these settings has, see `select`.

    Args:
      config: gives pool, input size, channels, groups and limits.
      classes: number of classes.
      measure: how to measure what cannot be computed.

    Raises:
      UserError: as for `select`.
    """
    return select(
        config.pool,
        base_resolution=config.base_resolution,
        classes=classes,
        channels=config.data.input_channels,
        stages=config.reads_stages,
        groups=config.groups,
        metrics=config.group_by,
        method=config.group_method,
        limits=config.limits,
        measure=measure,
    )

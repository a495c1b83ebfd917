"""Pools of candidates: the networks that a search may choose from, with their cost groups.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import zip_longest
from random import Random

from efficientnet_elite import costs, grouping
from efficientnet_elite.costs import Measured
from efficientnet_elite.errors import UserError
from efficientnet_elite.families import FAMILIES, segmentation, user, variants
from efficientnet_elite.families.base import IMAGENET_RESOLUTION, Family, Setting
from efficientnet_elite.families.efficientnet import TABLE_3
from efficientnet_elite.families.variants import Variant
from efficientnet_elite.spec import ArchSpec

# Costs that candidates are grouped by, the paper's (Eq. 4); `costs` has others.
METRICS = ("params", "macs")

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


@dataclass(frozen=True)
class Member:
    """A published member: its family, number and printed accuracy on ImageNet."""

    family: str
    number: int
    paper_top1: float

    @property
    def display_name(self) -> str:
        """Name of the public factory, such as ``ELite9``."""
        return f"{_TITLES[self.family]}{self.number}"


_TITLES = {"elite": "ELite", "hf": "HF"}

# Top-1 on ImageNet in percent as printed in Table 5 (paper); not reproduced by this project.
_PAPER_TOP1 = {
    "elite": (76.89, 76.62, 76.14, 75.65, 74.41, 73.33, 72.23, 70.18, 68.8, 65.46),
    "hf": (76.46, 75.08, 73.51, 70.32, 67.95, 66.76),
}
MEMBERS: dict[str, Member] = {
    f"{family}{number}": Member(family, number, top1)
    for family, accuracies in _PAPER_TOP1.items()
    for number, top1 in enumerate(accuracies)
}
DISPLAY_NAMES = {member.display_name: name for name, member in MEMBERS.items()}


_GROUPS_OF_FAMILIES: dict[str, Mapping[str, Family | None]] = {
    "all": FAMILIES,
    "segmentation": segmentation.FAMILIES,
}
_EVERY = FAMILIES | segmentation.FAMILIES


def _families(pool: str) -> list[tuple[Family, Variant]]:
    found: dict[tuple[str, Variant], Family] = {}
    for part in pool.split(","):
        if ":" in part:
            own = user.family(part.strip())
            found[own.name, Variant()] = own
            continue
        base, variant = variants.parse(part.strip().lower())
        matching = _GROUPS_OF_FAMILIES.get(base) or {base: _EVERY.get(base)}
        if matching == {base: None}:
            matching = {name: f for name, f in _EVERY.items() if name.startswith(f"{base}-")}
        if not matching:
            raise UserError(_unknown(part.strip().lower()))
        found |= {(name, variant): f for name, f in matching.items() if f is not None}
    return [(family, variant) for (_, variant), family in found.items()]


def _unknown(part: str) -> str:
    names = [*_GROUPS_OF_FAMILIES, *_EVERY]
    near = [name for name in names if part.startswith(name)] or get_close_matches(part, names)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown pool {part!r}: {hint}`elite models --help` lists pools and their suffixes"


def candidates(
    pool: str,
    *,
    base_resolution: int = IMAGENET_RESOLUTION,
    classes: int = 1000,
    groups: int | None = None,
    metrics: Sequence[str] = METRICS,
    method: str | None = None,
) -> tuple[Candidate, ...]:
    """All candidates of a pool with their groups: `grouped` of its `members`."""
    found = members(pool, base_resolution=base_resolution, classes=classes)
    return grouped(pool, found, groups=groups, metrics=metrics, method=method)


@cache
def members(
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
    families = _families(pool)
    if base_resolution < 8:
        raise UserError(f"base_resolution={base_resolution}: must be at least 8 pixels")
    found: dict[tuple[object, ...], Candidate] = {}
    for family, variant in families:
        for name, setting in family.pool(base_resolution):
            spec = _spec(family, variant, name, setting, classes)
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


def grouped(
    pool: str,
    found: Sequence[Candidate],
    *,
    groups: int | None = None,
    metrics: Sequence[str] = METRICS,
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
    families = _families(pool)
    if groups is not None and groups < 1:
        raise UserError(f"groups={groups}: must be at least 1")
    costs.check(metrics)
    method = method or ("width" if len(families) == 1 else "count")
    if method not in grouping.METHODS:
        raise UserError(f"grouping method {method!r}: choose {' or '.join(grouping.METHODS)}")
    default = families[0][0].groups if len(families) == 1 else None
    by_resolution = all(family.grouped_by_resolution for family, _ in families)
    numbers = grouping.group(
        [{name: costs.of(c.spec, name, measured) for name in metrics} for c in found],
        groups=groups or default or max(1, len(found) // _GROUP_SIZE),
        metrics=metrics,
        method=method,
        strata=[c.spec.resolution for c in found] if by_resolution else None,
    )
    return tuple(replace(c, group=number) for c, number in zip(found, numbers, strict=True))


def fits(spec: ArchSpec) -> bool:
    """Whether a network can be drawn: no unpadded window is larger than the map it slides over."""
    try:
        return spec.graph is not None
    except ValueError:
        return False


def _spec(family: Family, variant: Variant, name: str, setting: Setting, classes: int) -> ArchSpec:
    made = family.build(name, setting.width, setting.depth, setting.resolution, classes)
    return variant.apply(made)


def resolutions(pool: str, base_resolution: int) -> tuple[int, ...]:
    """Input sides in pixels that a pool has at a base resolution, those of each family in turn."""
    sides = [family.sides(base_resolution) for family, _ in _families(pool)]
    return tuple(dict.fromkeys(side for family in sides for side in family))


def sample(pool: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
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


def spec(name: str, *, classes: int = 1000, base_resolution: int = IMAGENET_RESOLUTION) -> ArchSpec:
    """The spec of one network by name (``elite9``, ``ELite9``, ``mobilenetv2-0.5``, ...)."""
    base, variant = variants.parse(name.lower())
    for family in _EVERY.values():
        if base.startswith(family.name):
            setting = family.settings(base_resolution).get(base)
            if setting is not None:
                found = _spec(family, variant, base, setting, classes)
                if not fits(found):
                    side = found.resolution
                    raise UserError(f"{name} does not fit into {side} x {side} pixels: use more")
                return found
    raise UserError(f"unknown model {name!r}: `elite models --pool=NAME` lists those of a pool")


def list_models(pool: str | None = None) -> list[str]:
    """Names of all candidates of a pool, or of the published members of eLite and HF."""
    if pool is None:
        return list(MEMBERS)
    return [candidate.name for candidate in candidates(pool)]


__all__ = [
    "DISPLAY_NAMES",
    "FAMILIES",
    "IMAGENET_RESOLUTION",
    "MEMBERS",
    "METRICS",
    "TABLE_3",
    "Candidate",
    "Member",
    "candidates",
    "grouped",
    "list_models",
    "members",
    "resolutions",
    "sample",
    "spec",
]

"""Pools of candidates: the 64 of EfficientNet-eLite and the 32 of EfficientNet-HF.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product, zip_longest
from random import Random

from efficientnet_elite import grouping
from efficientnet_elite.errors import UserError
from efficientnet_elite.families.efficientnet import efficientnet
from efficientnet_elite.scaling import Coefficients, round_resolution
from efficientnet_elite.spec import ArchSpec

IMAGENET_RESOLUTION = 224

# Table 3 of arXiv 2009.07409 as printed; `scaling.derive` gives the same but for w2 and r3.
TABLE_3 = Coefficients(
    width=(1.0, 0.8666, 0.701, 0.514),
    depth=(1.0, 0.7, 0.6, 0.5),
    resolution=(1.0, 0.905, 0.766, 0.587),
)


# Costs that candidates are grouped by, the paper's (Eq. 4): keys of `Candidate.costs`.
METRICS = ("params", "macs")


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

    @property
    def costs(self) -> dict[str, float]:
        """Metric name to cost."""
        return {"params": self.spec.params, "macs": self.spec.macs}


@dataclass(frozen=True)
class Family:
    """A backbone with the coefficients that its pool combines.

    Attributes:
      title: how members are called in print; ``title`` + number names the public factory.
      build: (name, width, depth, resolution, classes) to a spec.
      coefficients: widths and depths.
      resolutions: input sides in pixels for a base resolution.
      members: Table 5's (width, depth, resolution) indices, from 1.
      groups: default number of groups; in each resolution where ``grouped_by_resolution``.
    """

    title: str
    build: Callable[[str, float, float, int, int], ArchSpec]
    coefficients: Coefficients
    resolutions: Callable[[int], tuple[int, ...]]
    members: tuple[tuple[int, int, int], ...]
    groups: int
    grouped_by_resolution: bool = False


def _elite(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(name, width=width, depth=depth, resolution=resolution, classes=classes)


def _hf(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(
        name,
        width=width,
        depth=depth,
        resolution=resolution,
        classes=classes,
        power_of_two=True,
    )


def _scaled(base: int) -> tuple[int, ...]:
    return tuple(round_resolution(base, r) for r in TABLE_3.resolution)


def _powers_of_two(base: int) -> tuple[int, ...]:
    upper = 1 << (base - 1).bit_length()  # 224 -> 256: the next power of two, and half of it
    return upper, upper // 2


FAMILIES: dict[str, Family] = {
    "elite": Family(
        title="ELite",
        build=_elite,
        coefficients=TABLE_3,
        resolutions=_scaled,
        # eLite4 is printed as (2, 3, 1); its MACs are those of (2, 3, 2) to every digit.
        members=(
            (1, 1, 1),
            (1, 2, 1),
            (1, 3, 1),
            (2, 2, 1),
            (2, 3, 2),
            (3, 2, 1),
            (3, 3, 1),
            (3, 4, 2),
            (4, 2, 1),
            (4, 4, 1),
        ),
        groups=10,
    ),
    "hf": Family(
        title="HF",
        build=_hf,
        coefficients=TABLE_3,
        resolutions=_powers_of_two,
        members=((1, 1, 1), (2, 2, 1), (1, 4, 1), (1, 2, 2), (2, 3, 2), (1, 4, 2)),
        groups=5,
        grouped_by_resolution=True,
    ),
}


@dataclass(frozen=True)
class Member:
    """A published member: its family, number and printed accuracy on ImageNet."""

    family: str
    number: int
    paper_top1: float

    @property
    def display_name(self) -> str:
        """Name of the public factory, such as ``ELite9``."""
        return f"{FAMILIES[self.family].title}{self.number}"


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


def _family(name: str) -> Family:
    try:
        return FAMILIES[name]
    except KeyError:
        raise UserError(f"unknown pool {name!r}: choose one of {', '.join(FAMILIES)}") from None


@cache
def candidates(
    family: str,
    *,
    base_resolution: int = IMAGENET_RESOLUTION,
    classes: int = 1000,
    groups: int | None = None,
    metrics: tuple[str, ...] = METRICS,
    method: str = "width",
) -> tuple[Candidate, ...]:
    """The whole pool of a family, heaviest coefficients first, each with its group.

    Args:
      family: ``elite`` or ``hf``.
      base_resolution: input side in pixels at resolution coefficient 1 (224 for ImageNet; HF takes
        the next power of two and its half). At small ones several coefficients may round to the
        same side; each side then appears once, under its first coefficient.
      classes: number of classes.
      groups: number of cost groups (in each resolution for HF); None for the paper's.
      metrics: whose z-scores are added for grouping.
      method: ``width`` or ``count``, see `grouping`.
    """
    entry = _family(family)
    if base_resolution < 8:
        raise UserError(f"base_resolution={base_resolution}: must be at least 8 pixels")
    if groups is not None and groups < 1:
        raise UserError(f"groups={groups}: must be at least 1")
    if unknown := set(metrics) - set(METRICS):
        raise UserError(f"unknown cost {min(unknown)!r}: choose among {', '.join(METRICS)}")
    if method not in grouping.METHODS:
        raise UserError(f"grouping method {method!r}: choose {' or '.join(grouping.METHODS)}")
    names = {indices: f"{family}{number}" for number, indices in enumerate(entry.members)}
    sides: dict[int, int] = {}
    for index, side in enumerate(entry.resolutions(base_resolution), start=1):
        sides.setdefault(side, index)
    pool = []
    for (side, r), (w, width), (d, depth) in product(
        sides.items(),
        enumerate(entry.coefficients.width, start=1),
        enumerate(entry.coefficients.depth, start=1),
    ):
        name = names.get((w, d, r), f"{family}-w{w}d{d}r{r}")
        spec = entry.build(name, width, depth, side, classes)
        pool.append(Candidate(name, family, width, depth, spec))
    numbers = grouping.group(
        [candidate.costs for candidate in pool],
        groups=groups or entry.groups,
        metrics=metrics,
        method=method,
        strata=[c.spec.resolution for c in pool] if entry.grouped_by_resolution else None,
    )
    return tuple(
        Candidate(c.name, c.family, c.width, c.depth, c.spec, number)
        for c, number in zip(pool, numbers, strict=True)
    )


def resolutions(family: str, base_resolution: int) -> tuple[int, ...]:
    """Input sides in pixels that a family's pool has at a base resolution."""
    return _family(family).resolutions(base_resolution)


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
    """The spec of one candidate by name (``elite9``, ``ELite9``, ``hf-w1d2r2``, ...)."""
    wanted = name.lower()
    for family in FAMILIES:
        if wanted.startswith(family):
            for candidate in candidates(family, base_resolution=base_resolution, classes=classes):
                if candidate.name == wanted:
                    return candidate.spec
    raise UserError(f"unknown model {name!r}: `elite models --pool=elite|hf` lists the names")


def list_models(family: str | None = None) -> list[str]:
    """Names of all candidates of a family's pool, or of the published members of all families."""
    if family is None:
        return list(MEMBERS)
    return [candidate.name for candidate in candidates(family)]

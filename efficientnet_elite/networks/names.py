"""Pools of candidates: the networks that a search may choose from, with their cost groups.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families import FAMILIES, segmentation, user, variants
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Family, Setting
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.spec import ArchSpec


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


def _every() -> dict[str, Family]:
    """All families there are now."""
    return FAMILIES | segmentation.FAMILIES


def families_of_pool(pool: str) -> list[tuple[Family, Variant]]:
    """The families that a pool's name stands for, each with its deployment variant.

    Raises:
      UserError: a part of the name is unknown.
    """
    found: dict[tuple[str, Variant], Family] = {}
    for part in pool.split(","):
        if ":" in part:
            own = user.family(part.strip())
            found[own.name, Variant()] = own
            continue
        base, variant = variants.parse(part.strip().lower())
        matching = _GROUPS_OF_FAMILIES.get(base) or {base: _every().get(base)}
        if matching == {base: None}:
            matching = {name: f for name, f in _every().items() if name.startswith(f"{base}-")}
        if not matching:
            raise UserError(_unknown(part.strip().lower()))
        found |= {(name, variant): f for name, f in matching.items() if f is not None}
    return [(family, variant) for (_, variant), family in found.items()]


def _unknown(part: str) -> str:
    names = [*_GROUPS_OF_FAMILIES, *_every()]
    near = [name for name in names if part.startswith(name)] or get_close_matches(part, names)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown pool {part!r}: {hint}`elite models --help` lists pools and their suffixes"


def fits(spec: ArchSpec) -> bool:
    """Whether a network can be drawn: no unpadded window is larger than the map it slides over."""
    try:
        return spec.graph is not None
    except ValueError:
        return False


def variant_spec(
    family: Family, variant: Variant, name: str, setting: Setting, classes: int
) -> ArchSpec:
    """The spec of one network of a family, in a deployment variant."""
    made = family.build(name, setting.width, setting.depth, setting.resolution, classes)
    return variant.apply(made)


def pool_resolutions(pool: str, base_resolution: int) -> tuple[int, ...]:
    """Input sides in pixels that a pool has at a base resolution, those of each family in turn."""
    sides = [family.sides(base_resolution) for family, _ in families_of_pool(pool)]
    return tuple(dict.fromkeys(side for family in sides for side in family))


def spec_by_name(
    name: str, *, classes: int = 1000, base_resolution: int = IMAGENET_RESOLUTION
) -> ArchSpec:
    """The spec of one network by name (``elite9``, ``ELite9``, ``mobilenetv2-0.5``, ...)."""
    base, variant = variants.parse(name.lower())
    for family in _every().values():
        if base.startswith(family.name):
            setting = family.settings(base_resolution).get(base)
            if setting is not None:
                found = variant_spec(family, variant, base, setting, classes)
                if not fits(found):
                    side = found.resolution
                    raise UserError(f"{name} does not fit into {side} x {side} pixels: use more")
                return found
    raise UserError(f"unknown model {name!r}: `elite models --pool=NAME` lists those of a pool")

"""Names: of single networks, of pools, and of the published networks of arXiv 2009.07409.

A pool is named by one or more families, separated by commas: ``elite``, ``mobilenetv3,ghostnet``.
``all`` are all families of classifiers and ``segmentation`` all families of segmentation networks;
``module:function`` is a pool of Keras models of the user. A suffix selects a variant, such as
``elite-relu6-nose`` (see `families.variants`); axes name several, such as
``elite:activation=swish,relu6`` (see `families.axes`).

A network that takes no square images has its input size at the end of its name, after the variant:
``elite9-96x128`` has 96 rows of 128 pixels. Names of square networks do not tell their size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain

from efficientnet_elite.config import InputSize, SizeLike, checked_size
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.networks.families.axes import AXES, PoolPart, pool_parts
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Family, Setting
from efficientnet_elite.networks.families.user import family_of_models
from efficientnet_elite.networks.families.variants import Variant, split_variant
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class Member:
    """A network of Table 5 of arXiv 2009.07409.

    Attributes:
      family: ``elite`` or ``hf``.
      number: in its name, from 0.
      paper_top1: printed top-1 accuracy on ImageNet in percent.
    """

    family: str
    number: int
    paper_top1: float

    @property
    def display_name(self) -> str:
        """Name of the public function that builds it, such as ``ELite9``."""
        return f"{_TITLES[self.family]}{self.number}"


_TITLES = {"elite": "ELite", "hf": "HF"}

# Top-1 accuracy on ImageNet in percent as printed in Table 5 of arXiv 2009.07409. This project has
# not reproduced it.
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


_SETS_OF_FAMILIES: dict[str, Mapping[str, Family]] = {
    "all": FAMILIES,
    "segmentation": segmentation.FAMILIES,
}


def _all_families() -> dict[str, Family]:
    """All families that are registered now: more may be added from outside."""
    return FAMILIES | segmentation.FAMILIES


def families_of_pool(pool: str) -> list[tuple[Family, Variant]]:
    """The families of a pool, each with each of its variants; no such pair appears twice.

    Of variants that axes name, only what changes some network of the family is left.

    Args:
      pool: name of the pool, see the text of this module.

    Raises:
      UserError: a part of the name is unknown, or a pool of the user cannot be loaded.
    """
    families: dict[tuple[str, Variant], Family] = {}
    for part in pool_parts(pool):
        for family, variant in _families_of_part(part):
            if part.values:
                variant = variant.in_effect(_all_networks(family))
            families[family.name, variant] = family
    return [(family, variant) for (_, variant), family in families.items()]


def networks_of_pool(
    pool: str, base_resolution: SizeLike, classes: int, channels: int = 3
) -> Iterator[tuple[Family, Variant, Setting, ArchSpec]]:
    """All networks of a pool, family by family, each with its variant and its setting.

    A network of a part with axes has a name of its own variant alone: what an axis does not change
    in it has no suffix. It therefore may come several times.

    Args:
      pool: as for `families_of_pool`.
      base_resolution, classes, channels: as for `spec_by_name`.

    Raises:
      UserError: see `families_of_pool` and `variant_spec`, or an input is too small.
    """
    # What is wrong with the name is said first.
    parts = [(part, _families_of_part(part)) for part in pool_parts(pool)]
    checked_size(base_resolution, "base_resolution")
    for part, families in parts:
        for family, variant in families:
            for name, setting in family.pool(base_resolution):
                own = variant
                if part.values:
                    own = variant.in_effect([family.spec(name, setting, classes)])
                yield (
                    family,
                    own,
                    setting,
                    variant_spec(family, own, name, setting, classes, channels),
                )


def _families_of_part(part: PoolPart) -> list[tuple[Family, Variant]]:
    """The families that a part of a pool's name stands for, each with each of its variants."""
    if part.is_of_user:
        module, _, function = part.name.partition(":")
        if function in AXES and _matching_families(module.lower()):
            values = ",".join(AXES[function].values())
            raise UserError(f"{part.name}: an axis needs values, such as {part.name}={values}")
        return [(family_of_models(part.name), Variant())]
    base, suffix = split_variant(part.name)
    matching = _matching_families(base)
    if not matching:
        raise UserError(_unknown_pool_message(part))
    return [(family, variant) for variant in part.variants(suffix) for family in matching.values()]


def _all_networks(family: Family) -> list[ArchSpec]:
    """The networks of a family's pool at its usual resolution."""
    pool = family.pool(IMAGENET_RESOLUTION)
    return [family.spec(name, setting, 1000) for name, setting in pool]


def _matching_families(base: str) -> Mapping[str, Family]:
    """The families that a part of a pool's name stands for, without its suffix, by their names.

    A part such as ``mobilenetv3`` stands for all families whose names begin with ``mobilenetv3-``.
    """
    if base in _SETS_OF_FAMILIES:
        return _SETS_OF_FAMILIES[base]
    families = _all_families()
    if base in families:
        return {base: families[base]}
    prefix = f"{base}-"
    return {name: family for name, family in families.items() if name.startswith(prefix)}


def _unknown_pool_message(part: PoolPart) -> str:
    text, axis = part.name, part.axis
    if "=" in text:
        return f"unknown pool {text!r}: write ':' before an axis, and ',' between its values"
    names = [*_SETS_OF_FAMILIES, *_all_families()]
    similar = [name for name in names if text.startswith(name)]
    if not similar:
        similar = get_close_matches(text, [*names, *(axis.values() if axis else ())])
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    value = f" (nor is it a value of {axis.name})" if axis else ""
    return (
        f"unknown pool {text!r}{value}: {hint}`elite models --help` lists pools, their suffixes "
        "and axes"
    )


def fits(spec: ArchSpec) -> bool:
    """Whether a network can be built for its input size.

    It cannot if a window without padding is larger than the feature map that it slides over.
    """
    try:
        return spec.graph is not None
    except ValueError:
        return False


def variant_spec(
    family: Family, variant: Variant, name: str, setting: Setting, classes: int, channels: int = 3
) -> ArchSpec:
    """The spec of one network of a family, in a variant.

    Args:
      family: of the network.
      variant: applied to the spec; its suffix is added to the name.
      name: of the network without suffix. A size that is not square is added to it, too.
      setting: width multiplier, depth multiplier and input size.
      classes: number of logits.
      channels: of the input image.

    Raises:
      UserError: see `ArchSpec.with_channels` and `Family.spec`.
    """
    spec = variant.apply(family.spec(name, setting, classes)).with_channels(channels)
    return _named_by_size(spec)


def _named_by_size(spec: ArchSpec) -> ArchSpec:
    """A spec whose name tells its input size, unless it is square."""
    return spec if spec.size.is_square else replace(spec, name=f"{spec.name}-{spec.size}")


def without_size(name: str) -> tuple[str, InputSize | None]:
    """Splits the name of a network into the name without input size and that size, if it tells it.

    Raises:
      UserError: the size has a side of fewer than 8 pixels.
    """
    base, dash, size = name.rpartition("-")
    if not dash or not re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", size):
        return name, None
    return base, checked_size(size, name)


def pool_sizes(pool: str, base_resolution: SizeLike) -> tuple[InputSize, ...]:
    """Input sizes of a pool's networks at a base size, each once.

    Raises:
      UserError: see `families_of_pool`.
    """
    sizes = (family.sizes(base_resolution) for family, _ in families_of_pool(pool))
    return tuple(dict.fromkeys(chain.from_iterable(sizes)))


def spec_by_name(
    name: str,
    *,
    classes: int = 1000,
    base_resolution: SizeLike = IMAGENET_RESOLUTION,
    channels: int = 3,
) -> ArchSpec:
    """The spec of one network by name.

    Args:
      name: such as ``elite9``, ``ELite9``, ``elite-w1d2r3``, ``mobilenetv2-0.5`` or
        ``elite9-relu6``. A name that tells an input size, such as ``elite9-96x128``, has it at
        any ``base_resolution``.
      classes: number of logits.
      base_resolution: side in pixels of the inputs of networks published for 224 pixels, or height
        and width, such as ``96x128``; all other input sizes are scaled in proportion.
      channels: of the input image: 3, or 1 for greyscale.

    Raises:
      UserError: the name is unknown, or the network cannot be built for so small an input.
    """
    family, variant = family_of_network(name, base_resolution)
    name, size = without_size(name)
    base, _ = split_variant(name.lower())
    setting = family.settings(base_resolution)[base]
    if size is not None:
        setting = replace(setting, resolution=size)
    spec = variant_spec(family, variant, base, setting, classes, channels)
    if not fits(spec):
        height, width = spec.size
        raise UserError(f"{name} cannot be built for inputs of {height} x {width} pixels: use more")
    return spec


def family_of_network(
    name: str, base_resolution: SizeLike = IMAGENET_RESOLUTION
) -> tuple[Family, Variant]:
    """The family that a network belongs to, and the variant that its name asks for.

    Args:
      name, base_resolution: as for `spec_by_name`.

    Raises:
      UserError: the name is unknown.
    """
    base, variant = split_variant(without_size(name)[0].lower())
    for family in _all_families().values():
        if base.startswith(family.name) and base in family.settings(base_resolution):
            return family, variant
    raise UserError(f"unknown model {name!r}: `elite models --pool=NAME` lists those of a pool")

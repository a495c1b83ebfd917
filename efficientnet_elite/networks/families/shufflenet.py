"""ShuffleNet V1 (arXiv 1707.01083) with 1, 2, 3, 4 and 8 groups."""

from __future__ import annotations

from functools import partial
from math import lcm

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, Pool, ShuffleUnit
from efficientnet_elite.networks.families.base import Family, Setting, scaled_down
from efficientnet_elite.networks.scaling import nearest_multiple, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_STEM = 24  # output channels of the stem
_UNITS = (4, 8, 4)  # of each stage
# Output channels of the first stage by the number of groups. Each later stage has twice as many.
_FIRST_STAGE = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


def shufflenet(
    groups: int, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """The spec of one network.

    The channels of a stage are multiples of 4 * ``groups``, so that both group convolutions of a
    unit can divide them. Above width 1 the stem scales by whole numbers only, as in the code of the
    authors.

    Args:
      groups: number of groups of the group convolutions.
      name, width, depth, resolution, classes: see `families.base.Build`.
    """
    stem_width = width if width < 1 else int(width)
    blocks: list[Block] = [
        ConvBlock(
            "stem",
            nearest_multiple(_STEM, stem_width, lcm(4, groups)),
            kernel=3,
            stride=2,
            activation="relu",
        ),
        Pool("stem_pool", "max", 3),
    ]
    for stage, units in enumerate(_UNITS):
        channels = nearest_multiple(_FIRST_STAGE[groups] << stage, width, 4 * groups)
        for unit in range(round_repeats(units, depth)):
            blocks.append(
                ShuffleUnit(
                    f"block{stage + 2}{chr(ord('a') + unit)}",
                    channels,
                    groups,
                    stride=2 if unit == 0 else 1,
                    # The stem has too few channels for groups.
                    first_groups=1 if stage == unit == 0 else None,
                )
            )
    blocks.append(Classifier("predictions", classes, bias=False))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def _family(groups: int) -> Family:
    name = f"shufflenet-g{groups}"
    return scaled_down(
        name,
        partial(shufflenet, groups),
        (1, *_UNITS, 1),
        {f"{name}-{width:g}": Setting(width) for width in (2.0, 1.5, 0.5)},
    )


FAMILIES = tuple(_family(groups) for groups in _FIRST_STAGE)

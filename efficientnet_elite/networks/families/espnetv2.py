"""The classifier ESPNetv2 (arXiv 1811.11431).

Weights that the code of the authors creates but never uses are left out: the shortcut from the
image in the last level and slopes of the strided units.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks.blocks import (
    EESP,
    Block,
    Classifier,
    ConvBlock,
    EESPDown,
    SeparableConv,
)
from efficientnet_elite.networks.families.base import Setting, scaled_down
from efficientnet_elite.networks.scaling import nearest_multiple, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_STEP = 16  # divisor of all channels: four branches, each with group convolutions of four groups


@dataclass(frozen=True)
class _Level:
    """A level: a unit that halves height and width, and units that keep them.

    Attributes:
      down: dilations of the branches in the halving unit.
      image: whether the halving unit has a shortcut from the image.
      units: number of further units.
      dilations: dilations of the branches in the further units.
    """

    down: tuple[int, ...]
    image: bool
    units: int = 0
    dilations: tuple[int, ...] = ()


_LEVELS = (
    _Level((1, 2, 3, 4), True),
    _Level((1, 2, 3, 4), True, 3, (1, 2, 3, 4)),
    _Level((1, 2, 3, 4), True, 7, (1, 1, 2, 3)),
    _Level((1, 1, 2, 3), False, 3, (1, 1, 1, 2)),
)


def espnetv2(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The spec of one network of the family, see `families.base.Build`.

    Channels are multiples of 16. They double from level to level at width 1; at any width each
    level has at least 16 more than the level before. The last convolution has 1024 channels, and
    1280 at widths above 1.5.
    """
    channels = min(32, nearest_multiple(32, width, _STEP))
    blocks: list[Block] = [ConvBlock("level1", channels, 3, 2, "prelu")]
    for number, level in enumerate(_LEVELS, start=2):
        scaled = nearest_multiple(32 << (number - 1), width, _STEP)
        channels = max(scaled, channels + _STEP)
        blocks.append(EESPDown(f"level{number}_0", channels, level.down, level.image))
        for unit in range(1, round_repeats(level.units, depth) + 1):
            blocks.append(EESP(f"level{number}_{unit}", channels, level.dilations))
    top_channels = 1024 if width <= 1.5 else 1280
    blocks.append(SeparableConv("top", top_channels, activation="prelu", groups=4))
    blocks.append(Classifier("predictions", classes, dropout=0.2))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


# Operators of each stage for Eq. 2 of arXiv 2009.07409. Halving units are stages of their own.
_REPEATS = (1, *(count for level in _LEVELS for count in (1, level.units) if count), 1)

FAMILIES = (
    scaled_down(
        "espnetv2",
        espnetv2,
        _REPEATS,
        {f"espnetv2-{width:g}": Setting(width) for width in (2.0, 1.5, 1.25, 0.5)},
    ),
)

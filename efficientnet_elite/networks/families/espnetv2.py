"""ESPNetv2 (arXiv 1811.11431), the classifier.

What its authors' code creates and never uses (a shortcut from the image in the last stage, slopes
of the strided units) is left out.
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

_STEP = 16  # four branches of group convolutions with four groups


@dataclass(frozen=True)
class _Level:
    """A halving unit, then ``units`` ones; the dilations of their four branches."""

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
    """The network at one (width, depth, resolution).

    Channels double from level to level and are multiples of 16, each level having at least 16 more
    than the one before. The last convolution has 1024, above width 1.5 it has 1280.
    """
    channels = min(32, nearest_multiple(32, width, _STEP))
    blocks: list[Block] = [ConvBlock("level1", channels, 3, 2, "prelu")]
    for number, level in enumerate(_LEVELS, start=2):
        wanted = nearest_multiple(32 << (number - 1), width, _STEP)
        channels = max(wanted, channels + _STEP)
        blocks.append(EESPDown(f"level{number}_0", channels, level.down, level.image))
        for unit in range(1, round_repeats(level.units, depth) + 1):
            blocks.append(EESP(f"level{number}_{unit}", channels, level.dilations))
    last = 1024 if width <= 1.5 else 1280
    blocks.append(SeparableConv("top", last, activation="prelu", groups=4))
    blocks.append(Classifier("predictions", classes, dropout=0.2))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


# Halving units count as operators of their own.
_REPEATS = (1, *(n for level in _LEVELS for n in (1, level.units) if n), 1)

FAMILIES = (
    scaled_down(
        "espnetv2",
        espnetv2,
        _REPEATS,
        {f"espnetv2-{width:g}": Setting(width) for width in (2.0, 1.5, 1.25, 0.5)},
    ),
)

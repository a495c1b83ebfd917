"""PeleeNet (arXiv 1804.06882), a network of two-way dense layers."""

from __future__ import annotations

from efficientnet_elite.networks.blocks import (
    Block,
    Classifier,
    ConvBlock,
    PeleeStem,
    Pool,
    TwoWayDense,
)
from efficientnet_elite.networks.families.base import scaled_down
from efficientnet_elite.networks.scaling import nearest_multiple, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_STEM = 32  # output channels of the stem
_GROWTH = 32  # channels that a layer adds, half of them in each of its two branches
# Number of layers of each stage, and the channels of their bottlenecks as a multiple of the
# channels that a branch adds.
_STAGES = ((3, 1), (4, 2), (8, 4), (6, 4))


def peleenet(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The spec of one network, see `families.base.Build`; the width scales stem and growth.

    A bottleneck has at most half of the input channels of its layer.
    """
    channels = nearest_multiple(_STEM, width, 8)
    branch_growth = nearest_multiple(_GROWTH, width, 8) // 2
    blocks: list[Block] = [PeleeStem("stem", channels)]
    for stage, (layers, bottleneck_multiple) in enumerate(_STAGES, start=1):
        for layer in range(1, round_repeats(layers, depth) + 1):
            bottleneck = branch_growth * bottleneck_multiple // 4 * 4
            if bottleneck > channels / 2:
                bottleneck = channels // 8 * 4
            blocks.append(TwoWayDense(f"dense{stage}_{layer}", branch_growth, bottleneck))
            channels += 2 * branch_growth
        blocks.append(ConvBlock(f"transition{stage}", channels, activation="relu"))
        if stage < len(_STAGES):
            blocks.append(Pool(f"pool{stage}", "average", 2, padding="valid"))
    blocks.append(Classifier("predictions", classes, dropout=0.05))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


FAMILIES = (scaled_down("peleenet", peleenet, (1, *(layers for layers, _ in _STAGES), 1)),)

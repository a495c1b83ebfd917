"""PeleeNet (arXiv 1804.06882): two-way dense layers."""

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

_STEM = 32
_GROWTH = 32
_STAGES = ((3, 1), (4, 2), (8, 4), (6, 4))  # layers, width of their bottlenecks


def peleenet(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The network at one (width, depth, resolution); width scales stem and growth."""
    channels = nearest_multiple(_STEM, width, 8)
    half = nearest_multiple(_GROWTH, width, 8) // 2
    blocks: list[Block] = [PeleeStem("stem", channels)]
    for stage, (layers, bottleneck) in enumerate(_STAGES, start=1):
        for layer in range(1, round_repeats(layers, depth) + 1):
            inner = half * bottleneck // 4 * 4
            if inner > channels / 2:
                inner = channels // 8 * 4
            blocks.append(TwoWayDense(f"dense{stage}_{layer}", half, inner))
            channels += 2 * half
        blocks.append(ConvBlock(f"transition{stage}", channels, activation="relu"))
        if stage < len(_STAGES):
            blocks.append(Pool(f"pool{stage}", "average", 2, padding="valid"))
    blocks.append(Classifier("predictions", classes, dropout=0.05))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


FAMILIES = (scaled_down("peleenet", peleenet, (1, *(layers for layers, _ in _STAGES), 1)),)

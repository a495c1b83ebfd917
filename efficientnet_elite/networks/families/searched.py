"""ProxylessNAS mobile and FBNet-C: chains of inverted residuals, each block found by a search.

Width multiplies all channels (to multiples of 8) but the top's, which stay as published; depth the
blocks of each stage (rounded up, the first ones stay).

Sources: arXiv 1812.00332; 1812.03443. FBNet-C's blocks of expansion 1 have no 1x1 convolution in
front here; with one it has 5,572,200 trainable parameters and 385.0 M MACs (printed: 5.5 M, 375 M).
GreedyNAS (arXiv 2003.11236) is missing because the genotypes of the two networks that Table 5 of
arXiv 2009.07409 cites were never made public: the published ones, with channel gates, are others.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.families.base import Family, scaled_down
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class Stage:
    """Blocks of one width as (kernel, expansion); ``stride`` is the first one's."""

    channels: int
    stride: int
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SearchedNetwork:
    """A chain of stages between a 3x3 stem of stride 2 and a 1x1 top."""

    name: str
    stem: int
    stages: tuple[Stage, ...]
    top: int
    activation: str

    @property
    def operators(self) -> tuple[int, ...]:
        """Operators a stage as Eq. 2 of arXiv 2009.07409 counts them, stem and top included."""
        return (1, *(len(stage.blocks) for stage in self.stages), 1)

    def build(
        self, name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        """The network at one (width, depth, resolution); `families.base.Build`."""
        channels, act = round_filters(self.stem, width), self.activation
        blocks: list[Block] = [ConvBlock("stem", channels, kernel=3, stride=2, activation=act)]
        for number, stage in enumerate(self.stages, start=1):
            kept = stage.blocks[: round_repeats(len(stage.blocks), depth)]
            for repeat, (kernel, expansion) in enumerate(kept):
                block = MBConv(
                    f"block{number}{chr(ord('a') + repeat)}",
                    filters=round_filters(stage.channels, width),
                    expanded=None if expansion == 1 else expansion * channels,
                    kernel=kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    activation=act,
                )
                blocks.append(block)
                channels = block.filters
        blocks.append(ConvBlock("top", self.top, activation=act))
        blocks.append(Classifier("predictions", classes, dropout=0.2))
        return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


# Blocks that the search made identities are left out.
NETWORKS = (
    SearchedNetwork(
        "proxylessnas-mobile",
        stem=32,
        stages=(
            Stage(16, 1, ((3, 1),)),
            Stage(32, 2, ((5, 3), (3, 3))),
            Stage(40, 2, ((7, 3), (3, 3), (5, 3), (5, 3))),
            Stage(80, 2, ((7, 6), (5, 3), (5, 3), (5, 3))),
            Stage(96, 1, ((5, 6), (5, 3), (5, 3), (5, 3))),
            Stage(192, 2, ((7, 6), (7, 6), (7, 3), (7, 3))),
            Stage(320, 1, ((7, 6),)),
        ),
        top=1280,
        activation="relu6",
    ),
    SearchedNetwork(
        "fbnet-c",
        stem=16,
        stages=(
            Stage(16, 1, ((3, 1),)),
            Stage(24, 2, ((3, 6), (3, 1), (3, 1))),
            Stage(32, 2, ((5, 6), (5, 3), (5, 6), (3, 6))),
            Stage(64, 2, ((5, 6), (5, 3), (5, 6), (5, 6))),
            Stage(112, 1, ((5, 6), (5, 6), (5, 6), (5, 3))),
            Stage(184, 2, ((5, 6), (5, 6), (5, 6), (5, 6))),
            Stage(352, 1, ((3, 6),)),
        ),
        top=1984,
        activation="relu",
    ),
)

FAMILIES: tuple[Family, ...] = tuple(
    scaled_down(network.name, network.build, network.operators) for network in NETWORKS
)

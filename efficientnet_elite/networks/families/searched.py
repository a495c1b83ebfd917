"""ProxylessNAS mobile (arXiv 1812.00332) and FBNet-C (arXiv 1812.03443).

Both are chains of inverted residual blocks, each of which was chosen by a search. The width
multiplier scales all channels, to multiples of 8, except those of the top. The depth multiplier
scales the number of blocks of each stage; it is rounded up, and the first blocks remain.

Blocks of expansion 1 have no expanding convolution here. With one, FBNet-C would have 5,572,200
trainable parameters and 385.0 M MACs (printed: 5.5 M and 375 M).

GreedyNAS (arXiv 2003.11236) is missing: the architectures of the two networks that Table 5 of
arXiv 2009.07409 cites were never made public. Those that are public have squeeze-excite and are
other networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.families.base import Family, scaled_down
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class SearchedStage:
    """Blocks with the same output channels.

    Attributes:
      channels: output channels at width 1.
      stride: of the first block.
      blocks: (kernel in pixels, expansion) of each block.
    """

    channels: int
    stride: int
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SearchedNetwork:
    """A 3x3 stem of stride 2, a chain of stages, a 1x1 top and a classifier.

    Attributes:
      name: of the family.
      stem: output channels of the stem at width 1.
      stages: the chain of stages.
      top: output channels of the top at every width.
      activation: name of the activation of all blocks.
    """

    name: str
    stem: int
    stages: tuple[SearchedStage, ...]
    top: int
    activation: str

    @property
    def operators(self) -> tuple[int, ...]:
        """Number of operators of each stage, as Eq. 2 of arXiv 2009.07409 counts them.

        Stem and top count as one operator each.
        """
        return (1, *(len(stage.blocks) for stage in self.stages), 1)

    def build(
        self, name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        """The spec of one network of the family, see `families.base.Build`."""
        activation = self.activation
        channels = round_filters(self.stem, width)
        blocks: list[Block] = [
            ConvBlock("stem", channels, kernel=3, stride=2, activation=activation)
        ]
        for number, stage in enumerate(self.stages, start=1):
            remaining = stage.blocks[: round_repeats(len(stage.blocks), depth)]
            for repeat, (kernel, expansion) in enumerate(remaining):
                block = MBConv(
                    f"block{number}{chr(ord('a') + repeat)}",
                    filters=round_filters(stage.channels, width),
                    expanded=None if expansion == 1 else expansion * channels,
                    kernel=kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    activation=activation,
                )
                blocks.append(block)
                channels = block.filters
        blocks.append(ConvBlock("top", self.top, activation=activation))
        blocks.append(Classifier("predictions", classes, dropout=0.2))
        return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


# Blocks that the search replaced by the identity are left out.
NETWORKS = (
    SearchedNetwork(
        "proxylessnas-mobile",
        stem=32,
        stages=(
            SearchedStage(16, 1, ((3, 1),)),
            SearchedStage(32, 2, ((5, 3), (3, 3))),
            SearchedStage(40, 2, ((7, 3), (3, 3), (5, 3), (5, 3))),
            SearchedStage(80, 2, ((7, 6), (5, 3), (5, 3), (5, 3))),
            SearchedStage(96, 1, ((5, 6), (5, 3), (5, 3), (5, 3))),
            SearchedStage(192, 2, ((7, 6), (7, 6), (7, 3), (7, 3))),
            SearchedStage(320, 1, ((7, 6),)),
        ),
        top=1280,
        activation="relu6",
    ),
    SearchedNetwork(
        "fbnet-c",
        stem=16,
        stages=(
            SearchedStage(16, 1, ((3, 1),)),
            SearchedStage(24, 2, ((3, 6), (3, 1), (3, 1))),
            SearchedStage(32, 2, ((5, 6), (5, 3), (5, 6), (3, 6))),
            SearchedStage(64, 2, ((5, 6), (5, 3), (5, 6), (5, 6))),
            SearchedStage(112, 1, ((5, 6), (5, 6), (5, 6), (5, 3))),
            SearchedStage(184, 2, ((5, 6), (5, 6), (5, 6), (5, 6))),
            SearchedStage(352, 1, ((3, 6),)),
        ),
        top=1984,
        activation="relu",
    ),
)

FAMILIES: tuple[Family, ...] = tuple(
    scaled_down(network.name, network.build, network.operators) for network in NETWORKS
)

"""Stage tables, and the networks and counts that families derive from them.

Two kinds of tables are used. A table of `Stage`s has a row for each stage, with a number of equal
blocks. A table of rows has a row for each block; consecutive rows that agree in what the family's
function ``stage`` returns, such as their channels, are one stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.scaling import round_repeats
from efficientnet_elite.networks.spec import ArchSpec

Row = TypeVar("Row")


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks of one kind.

    Attributes:
      kernel: of the depthwise convolutions, in pixels.
      expansion: expanded channels of a block, as a multiple of its input channels.
      channels: output channels at width 1.
      repeats: number of blocks at depth 1.
      stride: of the first block.
      squeeze: channels inside the squeeze-excite, as a share of the input channels of a block; 0
        for no squeeze-excite.
    """

    kernel: int
    expansion: int
    channels: int
    repeats: int
    stride: int
    squeeze: float = 0.0


def operators_per_stage(stages: Sequence[Stage]) -> tuple[int, ...]:
    """Number of operators of each stage, as Eq. 2 of arXiv 2009.07409 counts them.

    Stem and top count as one operator each.
    """
    return (1, *(stage.repeats for stage in stages), 1)


def inverted_residual_network(
    name: str,
    stages: Sequence[Stage],
    *,
    resolution: int,
    stem: int,
    top: int,
    classifier: Classifier,
    activation: str,
    channels: Callable[[int], int],
    repeats: Callable[[int], int],
    **options: Any,
) -> ArchSpec:
    """A network of a strided 3x3 stem, the blocks of a stage table, a 1x1 top and a classifier.

    Args:
      name: of the spec.
      stages: the stage table, not scaled.
      resolution: input side in pixels.
      stem: output channels of the stem, scaled.
      top: output channels of the top, scaled.
      classifier: the last block.
      activation: name of the activation of all blocks.
      channels: scales the channels of a stage by the width multiplier of the network.
      repeats: scales the number of blocks of a stage by the depth multiplier of the network.
      **options: further options of `_inverted_residual_blocks`.
    """
    blocks = _inverted_residual_blocks(
        stages, stem, channels=channels, repeats=repeats, activation=activation, **options
    )
    return ArchSpec(
        name,
        (resolution, resolution, 3),
        (
            ConvBlock("stem", stem, kernel=3, stride=2, activation=activation),
            *blocks,
            ConvBlock("top", top, activation=activation),
            classifier,
        ),
    )


def _inverted_residual_blocks(
    stages: Sequence[Stage],
    stem: int,
    *,
    channels: Callable[[int], int],
    repeats: Callable[[int], int],
    activation: str,
    expanded: Callable[[int, int], int] | None = None,
    drop_path: float = 0.0,
    attention: Callable[[int], int] | None = None,
) -> list[Block]:
    """The blocks of a stage table.

    Args:
      stages, stem, channels, repeats, activation: see `inverted_residual_network`.
      expanded: gives the expanded channels of a block from its expansion and its input channels at
        width 1; by default they are the expansion times the scaled input channels. A stage of
        expansion 1 expands nothing.
      drop_path: rate of stochastic depth at the end; it rises linearly from 0 over the blocks.
      attention: gives the kernel of the efficient channel attention from the channels of a stage at
        width 1; None for no attention.
    """
    total_blocks = sum(repeats(stage.repeats) for stage in stages)
    blocks: list[Block] = []
    input_channels = stem
    unscaled_input = 0
    for number, stage in enumerate(stages, start=1):
        for repeat in range(repeats(stage.repeats)):
            expanded_channels: int | None = stage.expansion * input_channels
            if stage.expansion == 1:
                expanded_channels = None
            elif expanded is not None:
                expanded_channels = expanded(stage.expansion, unscaled_input)
            squeeze = max(1, int(input_channels * stage.squeeze)) if stage.squeeze else None
            blocks.append(
                MBConv(
                    f"block{number}{chr(ord('a') + repeat)}",
                    filters=channels(stage.channels),
                    expanded=expanded_channels,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    squeeze=squeeze,
                    activation=activation,
                    drop_path=drop_path * len(blocks) / total_blocks,
                    attention=attention(stage.channels) if attention else None,
                )
            )
            input_channels, unscaled_input = channels(stage.channels), stage.channels
    return blocks


def rows_at_depth(rows: Sequence[Row], depth: float, stage: Callable[[Row], object]) -> list[Row]:
    """A table of rows, scaled by a depth multiplier: the first rows of each stage remain.

    Args:
      rows: one row for each block.
      depth: the depth multiplier; the number of rows of a stage is rounded up.
      stage: gives what the rows of a stage have in common.
    """
    stages = [list(stage_rows) for _, stage_rows in groupby(rows, stage)]
    return [row for rows_ in stages for row in rows_[: round_repeats(len(rows_), depth)]]


def operators_of_rows(rows: Sequence[Row], stage: Callable[[Row], object]) -> tuple[int, ...]:
    """Number of operators of each stage of a table of rows, as Eq. 2 of arXiv 2009.07409 counts.

    Stem and top count as one operator each. See `rows_at_depth` for the arguments.
    """
    return (1, *(len(list(stage_rows)) for _, stage_rows in groupby(rows, stage)), 1)

"""Stage tables, and what the families draw from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from efficientnet_elite.networks.blocks import Block, MBConv
from efficientnet_elite.networks.scaling import round_repeats

Row = TypeVar("Row")


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks of one kind; ``stride`` is the first block's.

    ``squeeze`` is the width of the squeeze-excite as a share of a block's input channels, 0 for
    none.
    """

    kernel: int
    expansion: int
    channels: int
    repeats: int
    stride: int
    squeeze: float = 0.0


def operators(stages: Sequence[Stage]) -> tuple[int, ...]:
    """Operators a stage as Eq. 2 counts them: stem and top are one each, never scaled in depth."""
    return (1, *(stage.repeats for stage in stages), 1)


def inverted_residuals(
    stages: Sequence[Stage],
    source: int,
    *,
    channels: Callable[[int], int],
    repeats: Callable[[int], int],
    expanded: Callable[[int, int], int] | None = None,
    drop_path: float = 0.0,
    attention: Callable[[int], int] | None = None,
    **options: Any,
) -> list[Block]:
    """The blocks of a stage table.

    Args:
      stages: the table, unscaled.
      source: channels of the stem, scaled.
      channels: the family's width rule for a stage's channels.
      repeats: its depth rule.
      expanded: expanded channels from (expansion, channels of the stage before, unscaled); by
        default the expansion times the input channels. A stage of expansion 1 expands nothing.
      drop_path: stochastic depth, rising linearly over the blocks from 0 to this.
      attention: kernel of the efficient channel attention, from a stage's unscaled channels.
      **options: further fields of every `MBConv`.
    """
    total = sum(repeats(stage.repeats) for stage in stages)
    blocks: list[Block] = []
    unscaled = 0
    for number, stage in enumerate(stages, start=1):
        for repeat in range(repeats(stage.repeats)):
            width: int | None = stage.expansion * source
            if stage.expansion == 1:
                width = None
            elif expanded is not None:
                width = expanded(stage.expansion, unscaled)
            blocks.append(
                MBConv(
                    f"block{number}{chr(ord('a') + repeat)}",
                    filters=channels(stage.channels),
                    expanded=width,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    squeeze=max(1, int(source * stage.squeeze)) if stage.squeeze else None,
                    drop_path=drop_path * len(blocks) / total,
                    attention=attention(stage.channels) if attention else None,
                    **options,
                )
            )
            source, unscaled = channels(stage.channels), stage.channels
    return blocks


def shortened(rows: Sequence[Row], depth: float, stage: Callable[[Row], object]) -> list[Row]:
    """A table of single blocks scaled in depth: the first ones of each run that is one stage."""
    runs = [list(run) for _, run in groupby(rows, stage)]
    return [row for run in runs for row in run[: round_repeats(len(run), depth)]]


def run_lengths(rows: Sequence[Row], stage: Callable[[Row], object]) -> tuple[int, ...]:
    """Operators a stage of a table of single blocks, with stem and top one each."""
    return (1, *(len(list(run)) for _, run in groupby(rows, stage)), 1)

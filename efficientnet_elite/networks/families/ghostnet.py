"""GhostNet (arXiv 1911.11907)."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, GhostBottleneck
from efficientnet_elite.networks.families.base import Setting, scaled_down
from efficientnet_elite.networks.families.tables import operators_of_rows, rows_at_depth
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class _Row:
    """A block as published.

    Attributes:
      kernel: of the depthwise convolution, in pixels.
      expanded: expanded channels.
      channels: output channels.
      squeeze: whether it has a squeeze-excite.
      stride: of the depthwise convolution.
    """

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    stride: int


_ROWS = (
    _Row(3, 16, 16, False, 1),
    _Row(3, 48, 24, False, 2),
    _Row(3, 72, 24, False, 1),
    _Row(5, 72, 40, True, 2),
    _Row(5, 120, 40, True, 1),
    _Row(3, 240, 80, False, 2),
    _Row(3, 200, 80, False, 1),
    _Row(3, 184, 80, False, 1),
    _Row(3, 184, 80, False, 1),
    _Row(3, 480, 112, True, 1),
    _Row(3, 672, 112, True, 1),
    _Row(5, 672, 160, True, 2),
    _Row(5, 960, 160, False, 1),
    _Row(5, 960, 160, True, 1),
    _Row(5, 960, 160, False, 1),
    _Row(5, 960, 160, True, 1),
)


def _stage(row: _Row) -> int:
    return row.channels


def ghostnet(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The spec of one network of the family, see `families.base.Build`.

    Consecutive rows with the same channels are one stage. Channels are multiples of 4. The fully
    connected layer after the pooling has 1280 units at every width.
    """

    def scaled(channels: int) -> int:
        return round_filters(channels, width, 4)

    blocks: list[Block] = [ConvBlock("stem", scaled(16), kernel=3, stride=2, activation="relu")]
    for number, row in enumerate(rows_at_depth(_ROWS, depth, _stage), start=1):
        expanded = scaled(row.expanded)
        blocks.append(
            GhostBottleneck(
                f"block{number}",
                scaled(row.channels),
                expanded,
                row.kernel,
                row.stride,
                squeeze=round_filters(expanded, 0.25, 4) if row.squeeze else None,
            )
        )
    blocks.append(ConvBlock("top", scaled(960), activation="relu"))
    blocks.append(Classifier("predictions", classes, 0.2, hidden=1280))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


FAMILIES = (
    scaled_down(
        "ghostnet",
        ghostnet,
        operators_of_rows(_ROWS, _stage),
        {f"ghostnet-{width}": Setting(width) for width in (1.3, 0.5)},
    ),
)

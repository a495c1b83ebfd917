"""MobileNetV1 (arXiv 1704.04861): depthwise separable convolutions without residual connections.

Strided convolutions have ``same`` padding, as in the code of the authors. `keras.applications` pads
the end of a map only and computes another function where the side of a map is odd.
"""

from __future__ import annotations

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, SeparableConv
from efficientnet_elite.networks.families.base import Setting, scaled_down
from efficientnet_elite.networks.families.tables import operators_of_rows, rows_at_depth
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec

# (output channels, stride) of each block.
_ROWS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def _channels(row: tuple[int, int]) -> int:
    return row[0]


def mobilenetv1(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The spec of one network of the family, see `families.base.Build`.

    Consecutive rows with the same channels are one stage.
    """
    blocks: list[Block] = [
        ConvBlock("stem", round_filters(32, width), kernel=3, stride=2, activation="relu6")
    ]
    for number, (channels, stride) in enumerate(rows_at_depth(_ROWS, depth, _channels), start=1):
        blocks.append(
            SeparableConv(f"block{number}", round_filters(channels, width), stride=stride)
        )
    blocks.append(Classifier("predictions", classes, dropout=0.001))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


FAMILIES = (
    scaled_down(
        "mobilenetv1",
        mobilenetv1,
        operators_of_rows(_ROWS, _channels),
        {f"mobilenetv1-{width}": Setting(width) for width in (0.75, 0.5, 0.25)},
    ),
)

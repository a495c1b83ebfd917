"""MobileNetV3 Large and Small (arXiv 1905.02244), and their minimalistic forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.families.base import Family, Setting, scaled_down
from efficientnet_elite.networks.families.tables import operators_of_rows, rows_at_depth
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec

_STEM = 16  # output channels of the stem at every width, as in keras.applications


@dataclass(frozen=True)
class _Row:
    """A block as published.

    Attributes:
      kernel: of the depthwise convolution, in pixels.
      expanded: expanded channels.
      channels: output channels.
      squeeze: whether it has a squeeze-excite.
      activation: name of the activation.
      stride: of the depthwise convolution.
    """

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: str
    stride: int


_RE, _HS = "relu", "hard_swish"

_LARGE = (
    _Row(3, 16, 16, False, _RE, 1),
    _Row(3, 64, 24, False, _RE, 2),
    _Row(3, 72, 24, False, _RE, 1),
    _Row(5, 72, 40, True, _RE, 2),
    _Row(5, 120, 40, True, _RE, 1),
    _Row(5, 120, 40, True, _RE, 1),
    _Row(3, 240, 80, False, _HS, 2),
    _Row(3, 200, 80, False, _HS, 1),
    _Row(3, 184, 80, False, _HS, 1),
    _Row(3, 184, 80, False, _HS, 1),
    _Row(3, 480, 112, True, _HS, 1),
    _Row(3, 672, 112, True, _HS, 1),
    _Row(5, 672, 160, True, _HS, 2),
    _Row(5, 960, 160, True, _HS, 1),
    _Row(5, 960, 160, True, _HS, 1),
)
_SMALL = (
    _Row(3, 16, 16, True, _RE, 2),
    _Row(3, 72, 24, False, _RE, 2),
    _Row(3, 88, 24, False, _RE, 1),
    _Row(5, 96, 40, True, _HS, 2),
    _Row(5, 240, 40, True, _HS, 1),
    _Row(5, 240, 40, True, _HS, 1),
    _Row(5, 120, 48, True, _HS, 1),
    _Row(5, 144, 48, True, _HS, 1),
    _Row(5, 288, 96, True, _HS, 2),
    _Row(5, 576, 96, True, _HS, 1),
    _Row(5, 576, 96, True, _HS, 1),
)


def _channels(row: _Row) -> int:
    return row.channels


def mobilenetv3(
    rows: tuple[_Row, ...],
    hidden: int,
    minimalistic: bool,
    name: str,
    width: float,
    depth: float,
    resolution: int,
    classes: int,
) -> ArchSpec:
    """The spec of one network of the family.

    Args:
      rows: a row for each block; consecutive rows with the same channels are one stage.
      hidden: units of the fully connected layer after the pooling. They grow with the width but do
        not shrink.
      minimalistic: whether all kernels are 3, all activations ReLU, and there is no squeeze-excite.
      name, width, depth, resolution, classes: see `families.base.Build`.
    """
    activation = _RE if minimalistic else _HS
    # The published expanded channels of a block are turned into a ratio to the channels of the row
    # before it in the whole table, even if the depth multiplier has removed that row.
    unscaled_inputs = (_STEM, *map(_channels, rows))
    remaining = rows_at_depth(tuple(enumerate(rows)), depth, lambda entry: entry[1].channels)
    blocks: list[Block] = [ConvBlock("stem", _STEM, kernel=3, stride=2, activation=activation)]
    input_channels = _STEM
    for number, (index, row) in enumerate(remaining, start=1):
        expanded = round_filters(input_channels, row.expanded / unscaled_inputs[index])
        squeeze_excite = row.squeeze and not minimalistic
        blocks.append(
            MBConv(
                f"block{number}",
                filters=round_filters(row.channels, width),
                expanded=None if index == 0 else expanded,
                kernel=3 if minimalistic else row.kernel,
                stride=row.stride,
                squeeze=round_filters(expanded, 0.25) if squeeze_excite else None,
                activation=_RE if minimalistic else row.activation,
                gate="hard_sigmoid",
                squeeze_activation="relu",
            )
        )
        input_channels = round_filters(row.channels, width)
    blocks.append(ConvBlock("top", round_filters(input_channels, 6), activation=activation))
    hidden = round_filters(hidden, max(1.0, width))
    blocks.append(Classifier("predictions", classes, 0.2, hidden=hidden, activation=activation))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def _family(
    name: str, rows: tuple[_Row, ...], hidden: int, widths: tuple[float, ...] = ()
) -> Family:
    return scaled_down(
        name,
        partial(mobilenetv3, rows, hidden, name.endswith("minimalistic")),
        operators_of_rows(rows, _channels),
        {f"{name}-{width}": Setting(width) for width in widths},
    )


FAMILIES = (
    _family("mobilenetv3-large", _LARGE, 1280, (1.25, 0.75, 0.5)),
    _family("mobilenetv3-small", _SMALL, 1024, (1.25, 0.75, 0.5)),
    _family("mobilenetv3-large-minimalistic", _LARGE, 1280),
    _family("mobilenetv3-small-minimalistic", _SMALL, 1024),
)

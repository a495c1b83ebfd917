"""MobileNetV4-Conv Small and Medium (arXiv 2404.10518).

The block tables are those of the authors' code (TensorFlow Model Garden,
``official/vision/modeling/backbones/mobilenet.py``). Where it builds a network in another way than
timm, whose weights and widths are published, timm's way was taken: the stem keeps its channels at
widths below 1. The 1280 channels after the pooling are the same at every width, in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from efficientnet_elite.networks.blocks import (
    Block,
    Classifier,
    ConvBlock,
    PooledConv,
    UniversalBottleneck,
)
from efficientnet_elite.networks.families.base import Family, Setting, scaled_down
from efficientnet_elite.networks.families.tables import operators_of_rows, rows_at_depth
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec

_STEM, _TOP, _HEAD = 32, 960, 1280
_ACTIVATION = "relu"


@dataclass(frozen=True)
class _Conv:
    """A convolution as published: kernel in pixels, output channels, stride."""

    kernel: int
    channels: int
    stride: int = 1


@dataclass(frozen=True)
class _Fused:
    """A fused inverted bottleneck: a strided 3x3 convolution that expands, a 1x1 projection."""

    channels: int
    expansion: int
    stride: int


@dataclass(frozen=True)
class _Universal:
    """A universal inverted bottleneck as published.

    Attributes:
      start, middle: kernels of the depthwise convolutions in pixels, 0 for none.
      channels: output channels.
      expansion: expanded channels, as a multiple of the input channels.
      stride: of the block.
    """

    start: int
    middle: int
    channels: int
    expansion: int
    stride: int = 1


_Row = _Conv | _Fused | _Universal
_Stages = Sequence[Sequence[_Row]]

# A stage for each line or group of lines; what depth repeats are the blocks of a stage.
_SMALL: _Stages = (
    (_Conv(3, 32, 2),),
    (_Conv(1, 32),),
    (_Conv(3, 96, 2),),
    (_Conv(1, 64),),
    (
        _Universal(5, 5, 96, 3, 2),
        _Universal(0, 3, 96, 2),
        _Universal(0, 3, 96, 2),
        _Universal(0, 3, 96, 2),
        _Universal(0, 3, 96, 2),
        _Universal(3, 0, 96, 4),
    ),
    (
        _Universal(3, 3, 128, 6, 2),
        _Universal(5, 5, 128, 4),
        _Universal(0, 5, 128, 4),
        _Universal(0, 5, 128, 3),
        _Universal(0, 3, 128, 4),
        _Universal(0, 3, 128, 4),
    ),
)
_MEDIUM: _Stages = (
    (_Fused(48, 4, 2),),
    (_Universal(3, 5, 80, 4, 2), _Universal(3, 3, 80, 2)),
    (
        _Universal(3, 5, 160, 6, 2),
        _Universal(3, 3, 160, 4),
        _Universal(3, 3, 160, 4),
        _Universal(3, 5, 160, 4),
        _Universal(3, 3, 160, 4),
        _Universal(3, 0, 160, 4),
        _Universal(0, 0, 160, 2),
        _Universal(3, 0, 160, 4),
    ),
    (
        _Universal(5, 5, 256, 6, 2),
        _Universal(5, 5, 256, 4),
        _Universal(3, 5, 256, 4),
        _Universal(3, 5, 256, 4),
        _Universal(0, 0, 256, 4),
        _Universal(3, 0, 256, 4),
        _Universal(3, 5, 256, 2),
        _Universal(5, 5, 256, 4),
        _Universal(0, 0, 256, 4),
        _Universal(0, 0, 256, 4),
        _Universal(5, 0, 256, 2),
    ),
)


def mobilenetv4(
    stages: _Stages, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """The spec of one network of the family.

    Args:
      stages: the block table.
      name, width, depth, resolution, classes: see `families.base.Build`.
    """
    channels = round_filters(_STEM, max(1.0, width))
    blocks: list[Block] = [ConvBlock("stem", channels, 3, 2, _ACTIVATION)]
    places: dict[int, int] = {}
    for number, row in rows_at_depth(_numbered(stages), depth, lambda entry: entry[0]):
        places[number] = places.get(number, -1) + 1
        block = f"block{number}{chr(ord('a') + places[number])}"
        blocks += _blocks(block, row, channels, round_filters(row.channels, width))
        channels = round_filters(row.channels, width)
    blocks += [
        ConvBlock("top", round_filters(_TOP, width), activation=_ACTIVATION),
        PooledConv("head", _HEAD, _ACTIVATION),
        Classifier("predictions", classes, 0.2),  # as MobileNetV2 and V3 here
    ]
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def _numbered(stages: _Stages) -> list[tuple[int, _Row]]:
    """The rows of a table, each with the number of its stage."""
    return [(number, row) for number, stage in enumerate(stages, start=1) for row in stage]


def _blocks(name: str, row: _Row, inputs: int, filters: int) -> list[Block]:
    """The blocks of a row, from its scaled input and output channels."""
    if isinstance(row, _Conv):
        return [ConvBlock(name, filters, row.kernel, row.stride, _ACTIVATION)]
    expanded = round_filters(inputs, row.expansion)
    if isinstance(row, _Fused):
        return [
            ConvBlock(f"{name}_expand", expanded, 3, row.stride, _ACTIVATION),
            ConvBlock(f"{name}_project", filters, activation=None),
        ]
    kernels = row.start or None, row.middle or None
    return [UniversalBottleneck(name, filters, expanded, *kernels, row.stride, _ACTIVATION)]


def _family(name: str, stages: _Stages, widths: tuple[float, ...] = ()) -> Family:
    return scaled_down(
        name,
        partial(mobilenetv4, stages),
        operators_of_rows(_numbered(stages), lambda entry: entry[0]),
        {f"{name}-{width}": Setting(width) for width in widths},
    )


FAMILIES = (
    _family("mobilenetv4-conv-small", _SMALL, (0.5, 0.35)),
    _family("mobilenetv4-conv-medium", _MEDIUM),
)

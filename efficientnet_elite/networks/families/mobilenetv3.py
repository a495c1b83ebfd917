"""MobileNetV3 Large and Small, and their minimalistic forms (arXiv 1905.02244)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.families.base import Family, Setting, scaled_down
from efficientnet_elite.networks.families.tables import run_lengths, shortened
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec

_STEM = 16


@dataclass(frozen=True)
class _Row:
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
    """The network at one (width, depth, resolution); rows of equal channels are a stage.

    Args:
      rows: the table.
      hidden: channels of the layer behind the pool; they grow with the width but do not shrink.
      minimalistic: whether kernels are 3, activations ReLU and gates left out.
      name, width, depth, resolution, classes: as for every family. The stem keeps 16 channels, as
        in keras.applications.
    """
    activation = _RE if minimalistic else _HS
    # An expansion is a ratio to the unscaled table's row before, whichever rows are left out.
    sources = dict(zip(range(len(rows)), (_STEM, *map(_channels, rows)), strict=False))
    kept = shortened(tuple(enumerate(rows)), depth, lambda entry: entry[1].channels)
    blocks: list[Block] = [ConvBlock("stem", _STEM, kernel=3, stride=2, activation=activation)]
    source = _STEM
    for number, (index, row) in enumerate(kept, start=1):
        expanded = round_filters(source, row.expanded / sources[index])
        gated = row.squeeze and not minimalistic
        blocks.append(
            MBConv(
                f"block{number}",
                filters=round_filters(row.channels, width),
                expanded=None if index == 0 else expanded,
                kernel=3 if minimalistic else row.kernel,
                stride=row.stride,
                squeeze=round_filters(expanded, 0.25) if gated else None,
                activation=_RE if minimalistic else row.activation,
                gate="hard_sigmoid",
                squeeze_activation="relu",
            )
        )
        source = round_filters(row.channels, width)
    blocks.append(ConvBlock("top", round_filters(source, 6), activation=activation))
    hidden = round_filters(hidden, max(1.0, width))
    blocks.append(Classifier("predictions", classes, 0.2, hidden=hidden, activation=activation))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def _family(
    name: str, rows: tuple[_Row, ...], hidden: int, widths: tuple[float, ...] = ()
) -> Family:
    return scaled_down(
        name,
        partial(mobilenetv3, rows, hidden, name.endswith("minimalistic")),
        run_lengths(rows, _channels),
        {f"{name}-{width}": Setting(width) for width in widths},
    )


FAMILIES = (
    _family("mobilenetv3-large", _LARGE, 1280, (1.25, 0.75, 0.5)),
    _family("mobilenetv3-small", _SMALL, 1024, (1.25, 0.75, 0.5)),
    _family("mobilenetv3-large-minimalistic", _LARGE, 1280),
    _family("mobilenetv3-small-minimalistic", _SMALL, 1024),
)

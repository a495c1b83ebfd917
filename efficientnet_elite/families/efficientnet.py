"""EfficientNet-B0 (arXiv 1905.11946, Table 1) scaled by width, depth and resolution.

The eLite and HF families are this backbone under two channel rules (arXiv 2009.07409).

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.scaling import round_filters, round_power_of_two, round_repeats
from efficientnet_elite.spec import ArchSpec


@dataclass(frozen=True)
class Stage:
    """MBConv blocks of one kind; ``stride`` is the first block's."""

    kernel: int
    expansion: int
    channels: int
    repeats: int
    stride: int


STEM_CHANNELS = 32
STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
TOP_CHANNELS = 1280
SQUEEZE_RATIO = 4

# Operators a stage as Eq. 2 counts them: stem and top are one each and never scaled in depth.
REPEATS = (1, *(stage.repeats for stage in STAGES), 1)


def efficientnet(
    name: str,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int = 224,
    classes: int = 1000,
    power_of_two: bool = False,
    dropout: float = 0.2,
    drop_connect: float = 0.2,
) -> ArchSpec:
    """The backbone at one (width, depth, resolution).

    Args:
      name: of the spec.
      width: multiplies channels (`round_filters`).
      depth: multiplies repeats (rounded up); stem and top keep one.
      resolution: input side in pixels.
      classes: number of logits.
      power_of_two: channels as EfficientNet-HF rounds them (paper.md, section 3): outputs are
        CR(round_filters(C)), expanded channels CR(6 * round_filters(C_in)) with C_in *before* its
        own rounding to a power of two.
      dropout: rate before the classifier.
      drop_connect: stochastic depth rate, rising linearly over the blocks from 0 to this.
    """

    def channels(unscaled: int) -> int:
        rounded = round_filters(unscaled, width)
        return round_power_of_two(rounded) if power_of_two else rounded

    total = sum(round_repeats(stage.repeats, depth) for stage in STAGES)
    blocks: list[Block] = [ConvBlock("stem", channels(STEM_CHANNELS), kernel=3, stride=2)]
    source, index = STEM_CHANNELS, 0
    for number, stage in enumerate(STAGES, start=1):
        for repeat in range(round_repeats(stage.repeats, depth)):
            if stage.expansion == 1:
                expanded = None
            elif power_of_two:
                expanded = round_power_of_two(stage.expansion * round_filters(source, width))
            else:
                expanded = stage.expansion * channels(source)
            blocks.append(
                MBConv(
                    f"block{number}{chr(ord('a') + repeat)}",
                    filters=channels(stage.channels),
                    expanded=expanded,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    squeeze=max(1, channels(source) // SQUEEZE_RATIO),
                    drop_path=drop_connect * index / total,
                )
            )
            source, index = stage.channels, index + 1
    blocks.append(ConvBlock("top", channels(TOP_CHANNELS)))
    blocks.append(Classifier("predictions", classes, dropout))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))

"""Segmentation networks: ESPNet (arXiv 1803.06815), ESPNetv2 (arXiv 1811.11431) and MobileNetV3
with LR-ASPP (arXiv 1905.02244).

Their last shape is (height, width, classes), so their `FAMILIES` stand beside the classifiers', not
among them. Image sides are multiples of 8, as ESPNet's decoder wants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from efficientnet_elite.networks import families
from efficientnet_elite.networks.blocks import (
    ESP,
    LRASPP,
    Block,
    ConvBlock,
    ESPDecoder,
    Join,
    MBConv,
    PixelClassifier,
    PyramidDecoder,
)
from efficientnet_elite.networks.families.base import Build, Family, scaled_down
from efficientnet_elite.networks.scaling import round_filters, round_repeats, round_resolution
from efficientnet_elite.networks.spec import ArchSpec

_LEVEL2 = 2  # ESPNet's pyramids at a quarter of the image's side


@dataclass(frozen=True)
class ESPNet:
    """ESPNet with ``units`` pyramids at an eighth of the image's side (the paper's alpha 3).

    Attributes:
      units: 3, 5 or 8 as published.
      half: name of the block whose map the decoder joins at half the image's side: ``level1`` in
        its authors' test code, ``level1_join`` in their training code; None for the encoder alone
        (ESPNet-C), whose logits are an eighth of the image's side.
    """

    units: int
    half: str | None = "level1"

    def build(
        self, name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        """The network; width multiplies the encoder's channels, depth its pyramids."""
        first, second, third = (round_filters(channels, width) for channels in (16, 64, 128))
        blocks: list[Block] = [
            ConvBlock("level1", first, kernel=3, stride=2, activation="prelu"),
            Join("level1_join", (), image=True),
            ESP("level2_0", second, stride=2),
            *(ESP(f"level2_{unit}", second) for unit in _numbers(_LEVEL2, depth)),
            Join("level2_join", ("level2_0",), image=True),
            ESP("level3_0", third, stride=2),
            *(ESP(f"level3_{unit}", third) for unit in _numbers(self.units, depth)),
            Join("level3_join", ("level3_0",)),
        ]
        encoder = PixelClassifier("encoder_logits", classes)
        blocks.append(encoder)
        if self.half is not None:
            blocks.append(ESPDecoder("decoder", classes, quarter="level2_join", half=self.half))
        return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def _numbers(units: int, depth: float) -> range:
    return range(1, round_repeats(units, depth) + 1)


def lraspp(
    backbone: str, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """MobileNetV3 whose last stage is dilated instead of strided, with the LR-ASPP head.

    This is torchvision's form, with the classifier's full last stage; DeepLab's halves that stage.

    Args:
      backbone: name of the classifier's family.
      name, width, depth, resolution, classes: as for every family; they scale the backbone, the
        head keeps 128 channels.
    """
    classifier = families.FAMILIES[backbone].build(name, width, depth, resolution, classes)
    blocks = [block for block in classifier.blocks if not block.top]
    strided = [
        index
        for index, block in enumerate(blocks)
        if isinstance(block, MBConv) and block.stride == 2
    ]
    for index, block in enumerate(blocks):
        if isinstance(block, MBConv) and index >= strided[-1]:
            blocks[index] = replace(block, stride=1, dilation=2)
    # Behind the stem's the second halving of the blocks: an eighth of the image's side.
    blocks.append(LRASPP("head", classes, low=blocks[strided[1]].name))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def espnetv2(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """ESPNetv2 down to a sixteenth of the image's side, and its pyramid decoder."""
    classifier = families.FAMILIES["espnetv2"].build(name, width, depth, resolution, classes)
    levels = tuple(f"level{number}" for number in range(1, 5))
    blocks = [block for block in classifier.blocks if block.name.startswith(levels)]
    eighth = [block.name for block in blocks if block.name.startswith("level3_")][-1]
    decoder = PyramidDecoder("decoder", classes, finer=(eighth, "level2_0", "level1"))
    return ArchSpec(name, (resolution, resolution, 3), (*blocks, decoder))


SEGMENTERS: dict[str, Build] = {
    **{f"espnet-{units}": ESPNet(units).build for units in (3, 5, 8)},
    **{f"espnet-c-{units}": ESPNet(units, half=None).build for units in (3, 5, 8)},
    "espnetv2": espnetv2,
    "lraspp-mobilenetv3-large": partial(lraspp, "mobilenetv3-large"),
    "lraspp-mobilenetv3-small": partial(lraspp, "mobilenetv3-small"),
}

_STEP = 8  # of image sides, in pixels


def _family(name: str, build: Build, scaled: Family) -> Family:
    """A network with the coefficients of a family, at sides that are multiples of 8."""
    coefficients = scaled.coefficients
    assert coefficients is not None

    def sides(base: int) -> tuple[int, ...]:
        steps = (-(-round_resolution(base, r) // _STEP) for r in coefficients.resolution)
        return tuple(_STEP * count for count in steps)

    return Family(name, build, coefficients, members={(1, 1, 1): name}, resolutions=sides)


def _espnet(units: int) -> Family:
    name = f"espnet-{units}"
    return _family(
        name, SEGMENTERS[name], scaled_down(name, SEGMENTERS[name], (1, _LEVEL2, units, 1))
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(_espnet(units) for units in (3, 5, 8)),
        _family("espnetv2-seg", espnetv2, families.FAMILIES["espnetv2"]),
        *(
            _family(f"lraspp-{name}", SEGMENTERS[f"lraspp-{name}"], families.FAMILIES[name])
            for name in ("mobilenetv3-large", "mobilenetv3-small")
        ),
    )
}

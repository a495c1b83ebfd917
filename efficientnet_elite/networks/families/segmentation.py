"""Segmentation networks.

ESPNet (arXiv 1803.06815), ESPNetv2 (arXiv 1811.11431) and MobileNetV3 with LR-ASPP (arXiv
1905.02244). Their output is (height, width, classes), so the `FAMILIES` of this module are not
among those of the classifiers. The sides of their inputs are multiples of 8, because ESPNet's
decoder enlarges its input eightfold.
"""

from __future__ import annotations

from dataclasses import replace
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

_LEVEL2_UNITS = 2  # ESPNet's pyramid units at a quarter of the side of the image


def espnet(
    level3_units: int, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """The spec of an ESPNet. Width scales the channels of the encoder, depth its pyramid units.

    At half the side of the image, the decoder reads the block ``level1``, as in the test code of
    the authors; their training code reads ``level1_join``.

    Args:
      level3_units: pyramid units at an eighth of the side of the image; 3, 5 or 8 as published.
      name, width, depth, resolution, classes: see `families.base.Build`.
    """
    first, second, third = (round_filters(channels, width) for channels in (16, 64, 128))
    blocks: tuple[Block, ...] = (
        ConvBlock("level1", first, kernel=3, stride=2, activation="prelu"),
        Join("level1_join", (), image=True),
        ESP("level2_0", second, stride=2),
        *(ESP(f"level2_{unit}", second) for unit in _unit_numbers(_LEVEL2_UNITS, depth)),
        Join("level2_join", ("level2_0",), image=True),
        ESP("level3_0", third, stride=2),
        *(ESP(f"level3_{unit}", third) for unit in _unit_numbers(level3_units, depth)),
        Join("level3_join", ("level3_0",)),
        PixelClassifier("encoder_logits", classes),
        ESPDecoder("decoder", classes, quarter="level2_join", half="level1"),
    )
    return ArchSpec(name, (resolution, resolution, 3), blocks)


def _unit_numbers(units: int, depth: float) -> range:
    return range(1, round_repeats(units, depth) + 1)


def lraspp(
    backbone: str, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """The spec of a MobileNetV3 with the LR-ASPP head, as in torchvision.

    The last stage of the backbone is dilated instead of strided. It keeps all of its channels;
    DeepLab halves them. The head has 128 channels at every width.

    Args:
      backbone: name of the family of the backbone.
      name, width, depth, resolution, classes: see `families.base.Build`.
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
    # The stem and the first strided block have halved the side of the image before: the second one
    # gives an eighth of it.
    blocks.append(LRASPP("head", classes, low=blocks[strided[1]].name))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


def espnetv2(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """The spec of ESPNetv2 up to a sixteenth of the side of the image, with its decoder."""
    classifier = families.FAMILIES["espnetv2"].build(name, width, depth, resolution, classes)
    levels = tuple(f"level{number}" for number in range(1, 5))
    blocks = [block for block in classifier.blocks if block.name.startswith(levels)]
    eighth = [block.name for block in blocks if block.name.startswith("level3_")][-1]
    decoder = PyramidDecoder("decoder", classes, finer=(eighth, "level2_0", "level1"))
    return ArchSpec(name, (resolution, resolution, 3), (*blocks, decoder))


_SIDE_STEP = 8  # input sides are multiples of this number of pixels


def _family(name: str, build: Build, scaled: Family) -> Family:
    """A family with the coefficients of another one, at input sides that are multiples of 8."""
    coefficients = scaled.coefficients
    assert coefficients is not None

    def sides(base: int) -> tuple[int, ...]:
        scaled_sides = (round_resolution(base, r) for r in coefficients.resolution)
        return tuple(-(-side // _SIDE_STEP) * _SIDE_STEP for side in scaled_sides)

    return Family(
        name,
        build,
        coefficients,
        members={(1, 1, 1): name},
        resolutions=sides,
        side_step=_SIDE_STEP,
    )


def _espnet_family(units: int) -> Family:
    name, build = f"espnet-{units}", partial(espnet, units)
    return _family(name, build, scaled_down(name, build, (1, _LEVEL2_UNITS, units, 1)))


def _lraspp_family(backbone: str) -> Family:
    return _family(f"lraspp-{backbone}", partial(lraspp, backbone), families.FAMILIES[backbone])


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(_espnet_family(units) for units in (3, 5, 8)),
        _family("espnetv2-seg", espnetv2, families.FAMILIES["espnetv2"]),
        *(_lraspp_family(name) for name in ("mobilenetv3-large", "mobilenetv3-small")),
    )
}

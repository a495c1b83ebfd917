"""SqueezeNet 1.0 and 1.1 (arXiv 1602.07360)."""

from __future__ import annotations

from functools import partial

from efficientnet_elite.networks.blocks import Block, ConvBlock, ConvClassifier, Fire, Pool
from efficientnet_elite.networks.families.base import scaled_down
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

# (squeezed, expanded) channels of the fire modules 2 to 9, two modules each.
_PAIRS = ((16, 64), (32, 128), (48, 192), (64, 256))

# By version: output channels and kernel of the first convolution, and the numbers of the fire
# modules that a max pooling follows.
_VERSIONS = {"1.0": (96, 7, (4, 8)), "1.1": (64, 3, (3, 5))}


def squeezenet(
    version: str, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    """The spec of one network.

    Poolings remain where the depth multiplier removes the fire module before them.

    Args:
      version: ``1.0`` or ``1.1``.
      name, width, depth, resolution, classes: see `families.base.Build`.
    """
    filters, kernel, before_pooling = _VERSIONS[version]
    blocks: list[Block] = [
        ConvBlock(
            "stem",
            round_filters(filters, width),
            kernel,
            stride=2,
            activation="relu",
            padding="valid",
            batch_norm=False,
        ),
        Pool("pool1", "max", 3, padding="ceil"),
    ]
    for pair, (squeezed, expanded) in enumerate(_PAIRS):
        for index in range(2):
            number = 2 + 2 * pair + index
            if index < round_repeats(2, depth):
                fire_channels = round_filters(squeezed, width), round_filters(expanded, width)
                blocks.append(Fire(f"fire{number}", *fire_channels))
            if number in before_pooling:
                blocks.append(Pool(f"pool{number}", "max", 3, padding="ceil"))
    blocks.append(ConvClassifier("predictions", classes, dropout=0.5))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


FAMILIES = tuple(
    scaled_down(f"squeezenet-{version}", partial(squeezenet, version), (1, *[2] * len(_PAIRS), 1))
    for version in _VERSIONS
)

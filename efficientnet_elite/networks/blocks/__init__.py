"""Building blocks of networks; `REGISTRY` finds their classes by the names in a spec's JSON."""

from __future__ import annotations

from efficientnet_elite.networks.blocks import (
    cells,
    concat,
    condense,
    esp,
    ghost,
    mobile,
    segmentation,
    shuffle,
    universal,
    user,
)
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.blocks.cells import ActivationBlock, Cell, ZeroPaddedCell
from efficientnet_elite.networks.blocks.concat import ConvClassifier, Fire, PeleeStem, TwoWayDense
from efficientnet_elite.networks.blocks.condense import (
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    LearnedBlock,
    Norm,
    PlainConv,
)
from efficientnet_elite.networks.blocks.esp import EESP, EESPDown
from efficientnet_elite.networks.blocks.ghost import GhostBottleneck
from efficientnet_elite.networks.blocks.mobile import (
    ChannelAttention,
    Classifier,
    ConvBlock,
    MBConv,
    Pool,
    SeparableConv,
    SqueezeExcite,
)
from efficientnet_elite.networks.blocks.segmentation import (
    ESP,
    LRASPP,
    ESPDecoder,
    Join,
    PixelClassifier,
    PyramidDecoder,
)
from efficientnet_elite.networks.blocks.shuffle import ShuffleUnit
from efficientnet_elite.networks.blocks.universal import PooledConv, UniversalBottleneck
from efficientnet_elite.networks.blocks.user import UserModel

_MODULES = (
    mobile,
    ghost,
    shuffle,
    concat,
    condense,
    esp,
    cells,
    universal,
    segmentation,
    user,
)

REGISTRY: dict[str, type[Block]] = {
    value.__name__: value
    for module in _MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Block) and value is not Block
}

__all__ = [
    "EESP",
    "ESP",
    "LRASPP",
    "REGISTRY",
    "ActivationBlock",
    "Block",
    "Cell",
    "ChannelAttention",
    "Classifier",
    "CondenseLayer",
    "CondenseNextLayer",
    "CondensedClassifier",
    "ConvBlock",
    "ConvClassifier",
    "EESPDown",
    "ESPDecoder",
    "Fire",
    "GhostBottleneck",
    "Join",
    "LearnedBlock",
    "MBConv",
    "Norm",
    "PeleeStem",
    "PixelClassifier",
    "PlainConv",
    "Pool",
    "PooledConv",
    "PyramidDecoder",
    "SeparableConv",
    "ShuffleUnit",
    "SqueezeExcite",
    "TwoWayDense",
    "UniversalBottleneck",
    "UserModel",
    "ZeroPaddedCell",
]

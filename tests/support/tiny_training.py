"""A network that trains in seconds."""

from __future__ import annotations

from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.spec import ArchSpec


def tiny(drop: float) -> ArchSpec:
    return ArchSpec(
        "tiny",
        (16, 16, 3),
        (
            ConvBlock("stem", 8, kernel=3, stride=2),
            MBConv("one", filters=8, expanded=16, kernel=3, squeeze=2, drop_path=drop),
            Classifier("predictions", 10, drop),
        ),
    )


SPEC = tiny(drop=0.1)

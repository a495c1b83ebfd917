"""Small networks that together have every kind of block."""

from __future__ import annotations

from efficientnet_elite.networks.blocks import (
    EESP,
    Classifier,
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    ConvBlock,
    ConvClassifier,
    EESPDown,
    Fire,
    GhostBottleneck,
    MBConv,
    Norm,
    PeleeStem,
    PlainConv,
    Pool,
    PooledConv,
    SeparableConv,
    ShuffleUnit,
    TwoWayDense,
    UniversalBottleneck,
)

# Networks of the blocks that no other test builds.
NETWORKS = {
    "mobile": (
        ConvBlock("stem", 16, 3, 2, "relu6"),
        SeparableConv("separable", 16),
        MBConv(
            "gated", 16, 32, 3, squeeze=8, activation="hard_swish", gate="hard_sigmoid",
            squeeze_activation="relu", attention=3,
        ),
        Classifier("predictions", 5, 0.1, hidden=12, activation="hard_swish"),
    ),
    "universal": (
        ConvBlock("stem", 16, 3, 2, "relu"),
        UniversalBottleneck("both", 24, 48, 3, 5, 2),
        UniversalBottleneck("middle", 24, 48, None, 3, drop_path=0.1),
        UniversalBottleneck("start", 24, 48, 5, None),
        UniversalBottleneck("none", 24, 48, None, None),
        UniversalBottleneck("strided_start", 16, 48, 3, None, 2),
        PooledConv("head", 32),
        Classifier("predictions", 5, 0.1),
    ),
    "ghost": (
        ConvBlock("stem", 16, 3, 2, "relu"),
        GhostBottleneck("same", 16, 32, 3, 1, 4),
        GhostBottleneck("down", 24, 48, 5, 2),
        Classifier("predictions", 5, 0.1),
    ),
    "shuffle": (
        ConvBlock("stem", 12, 3, 2, "relu"),
        ShuffleUnit("down", 48, 3, 2, first_groups=1),
        ShuffleUnit("same", 48, 3),
        Classifier("predictions", 5, bias=False),
    ),
    "squeeze": (
        ConvBlock("stem", 16, 3, 2, "relu", "valid", batch_norm=False),
        Pool("odd", "max", 3, padding="ceil"),
        Fire("fire", 8, 16),
        Pool("even", "max", 2, padding="ceil"),
        ConvClassifier("predictions", 5, 0.1),
    ),
    "pelee": (
        PeleeStem("stem", 16),
        TwoWayDense("dense", 8, 16),
        ConvBlock("transition", 32, activation="relu"),
        Pool("pool", "average", 2, padding="valid"),
        Classifier("predictions", 5),
    ),
    "condense": (
        PlainConv("stem", 16, 2),
        CondenseLayer("net", 8, 4, 4),
        CondenseNextLayer("next", 8),
        Norm("top"),
        CondensedClassifier("predictions", 5),
    ),
    "esp": (
        ConvBlock("stem", 16, 3, 2, "prelu"),
        EESPDown("down", 32, (1, 2, 3, 4)),
        EESP("same", 32, (1, 2, 3, 4)),
        EESPDown("blind", 48, (1, 1, 2, 3), image=False),
        SeparableConv("top", 32, activation="prelu", groups=4),
        Classifier("predictions", 5),
    ),
}  # fmt: skip

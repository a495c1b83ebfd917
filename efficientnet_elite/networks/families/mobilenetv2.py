"""MobileNetV2 (arXiv 1801.04381), and with efficient channel attention (arXiv 1910.03151)."""

from __future__ import annotations

from functools import partial

from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.families.base import Setting, scaled_down
from efficientnet_elite.networks.families.tables import Stage, inverted_residuals, operators
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(3, 6, 32, 3, 2),
    Stage(3, 6, 64, 4, 2),
    Stage(3, 6, 96, 3, 1),
    Stage(3, 6, 160, 3, 2),
    Stage(3, 6, 320, 1, 1),
)


def mobilenetv2(
    name: str,
    width: float,
    depth: float,
    resolution: int,
    classes: int,
    *,
    attention: bool = False,
) -> ArchSpec:
    """The network at one (width, depth, resolution).

    The top's 1280 channels grow with the width but do not shrink. ``attention`` adds the gates of
    ECA-MobileNetV2: kernel 1 to stages under 96 channels (unscaled), 3 to the others, as in its
    authors' code.
    """
    stem = round_filters(32, width)
    blocks = inverted_residuals(
        STAGES,
        stem,
        channels=lambda unscaled: round_filters(unscaled, width),
        repeats=lambda count: round_repeats(count, depth),
        attention=(lambda unscaled: 1 if unscaled < 96 else 3) if attention else None,
        activation="relu6",
    )
    return ArchSpec(
        name,
        (resolution, resolution, 3),
        (
            ConvBlock("stem", stem, kernel=3, stride=2, activation="relu6"),
            *blocks,
            ConvBlock("top", round_filters(1280, max(1.0, width)), activation="relu6"),
            Classifier("predictions", classes, dropout=0.2),
        ),
    )


FAMILIES = (
    scaled_down(
        "mobilenetv2",
        mobilenetv2,
        operators(STAGES),
        {f"mobilenetv2-{alpha}": Setting(alpha) for alpha in (1.4, 1.3, 0.75, 0.5, 0.35)},
    ),
    scaled_down("ecamobilenetv2", partial(mobilenetv2, attention=True), operators(STAGES)),
)

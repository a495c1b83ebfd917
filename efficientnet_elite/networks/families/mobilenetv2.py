"""MobileNetV2 (arXiv 1801.04381), also with efficient channel attention (arXiv 1910.03151)."""

from __future__ import annotations

from functools import partial

from efficientnet_elite.networks.blocks import Classifier
from efficientnet_elite.networks.families.base import Setting, scaled_down
from efficientnet_elite.networks.families.tables import (
    Stage,
    inverted_residual_network,
    operators_per_stage,
)
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(3, 6, 32, 3, 2),
    Stage(3, 6, 64, 4, 2),
    Stage(3, 6, 96, 3, 1),
    Stage(3, 6, 160, 3, 2),
    Stage(3, 6, 320, 1, 1),
)


def _attention_kernel(channels: int) -> int:
    """Kernel of the channel attention of a stage, as in the code of ECA-Net's authors."""
    return 1 if channels < 96 else 3


def mobilenetv2(
    name: str,
    width: float,
    depth: float,
    resolution: int,
    classes: int,
    *,
    attention: bool = False,
) -> ArchSpec:
    """The spec of one network of the family, see `families.base.Build`.

    The 1280 channels of the top grow with the width but do not shrink. ``attention`` adds the
    efficient channel attention of ECA-MobileNetV2 to every block.
    """
    return inverted_residual_network(
        name,
        _STAGES,
        resolution=resolution,
        stem=round_filters(32, width),
        top=round_filters(1280, max(1.0, width)),
        classifier=Classifier("predictions", classes, dropout=0.2),
        activation="relu6",
        channels=lambda channels: round_filters(channels, width),
        repeats=lambda count: round_repeats(count, depth),
        attention=_attention_kernel if attention else None,
    )


FAMILIES = (
    scaled_down(
        "mobilenetv2",
        mobilenetv2,
        operators_per_stage(_STAGES),
        {f"mobilenetv2-{width}": Setting(width) for width in (1.4, 1.3, 0.75, 0.5, 0.35)},
    ),
    scaled_down(
        "ecamobilenetv2", partial(mobilenetv2, attention=True), operators_per_stage(_STAGES)
    ),
)

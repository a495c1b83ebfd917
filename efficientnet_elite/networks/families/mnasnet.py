"""MnasNet A1, B1 and small (arXiv 1807.11626).

The paper does not print the architecture of MnasNet-small; it is that of the code of the authors.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Table:
    """A network as published.

    Attributes:
      stem: output channels of the stem.
      stages: the stage table.
      dropout: rate of dropout before the classifier.
      widths: further width multipliers that are published for it.
    """

    stem: int
    stages: tuple[Stage, ...]
    dropout: float = 0.2
    widths: tuple[float, ...] = ()


_TABLES = {
    "mnasnet-a1": _Table(
        32,
        (
            Stage(3, 1, 16, 1, 1),
            Stage(3, 6, 24, 2, 2),
            Stage(5, 3, 40, 3, 2, 0.25),
            Stage(3, 6, 80, 4, 2),
            Stage(3, 6, 112, 2, 1, 0.25),
            Stage(5, 6, 160, 3, 2, 0.25),
            Stage(3, 6, 320, 1, 1),
        ),
        widths=(1.4, 0.75, 0.5, 0.35),
    ),
    "mnasnet-b1": _Table(
        32,
        (
            Stage(3, 1, 16, 1, 1),
            Stage(3, 3, 24, 3, 2),
            Stage(5, 3, 40, 3, 2),
            Stage(5, 6, 80, 3, 2),
            Stage(3, 6, 96, 2, 1),
            Stage(5, 6, 192, 4, 2),
            Stage(3, 6, 320, 1, 1),
        ),
    ),
    "mnasnet-small": _Table(
        8,
        (
            Stage(3, 1, 8, 1, 1),
            Stage(3, 3, 16, 1, 2),
            Stage(3, 6, 16, 2, 2),
            Stage(5, 6, 32, 4, 2, 0.25),
            Stage(3, 6, 32, 3, 1, 0.25),
            Stage(5, 6, 88, 3, 2, 0.25),
            Stage(3, 6, 144, 1, 1),
        ),
        dropout=0.0,
    ),
}


def _mnasnet(
    table: _Table, name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    return inverted_residual_network(
        name,
        table.stages,
        resolution=resolution,
        stem=round_filters(table.stem, width),
        top=1280,  # at every width
        classifier=Classifier("predictions", classes, table.dropout),
        activation="relu",
        channels=lambda channels: round_filters(channels, width),
        repeats=lambda count: round_repeats(count, depth),
    )


FAMILIES = tuple(
    scaled_down(
        name,
        partial(_mnasnet, table),
        operators_per_stage(table.stages),
        {f"{name}-{width}": Setting(width) for width in table.widths},
    )
    for name, table in _TABLES.items()
)

"""Families of classifiers: each is a stage table and a function from multipliers to an `ArchSpec`.

`FAMILIES` holds all of them by name. To add one, write a module with a tuple ``FAMILIES`` and list
it in ``_MODULES``.
"""

from __future__ import annotations

from efficientnet_elite.networks.families import (
    cells,
    condense,
    efficientnet,
    espnetv2,
    ghostnet,
    mnasnet,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
    peleenet,
    searched,
    shufflenet,
    squeezenet,
)
from efficientnet_elite.networks.families.base import Family

_MODULES = (
    efficientnet,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
    mnasnet,
    ghostnet,
    shufflenet,
    squeezenet,
    peleenet,
    espnetv2,
    condense,
    cells,
    searched,
)

FAMILIES: dict[str, Family] = {
    family.name: family for module in _MODULES for family in module.FAMILIES
}

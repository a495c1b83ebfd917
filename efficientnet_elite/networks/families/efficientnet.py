"""EfficientNet (arXiv 1905.11946) and what is derived from its B0: eLite, HF and TinyNet.

EfficientNet-eLite and EfficientNet-HF are B0 scaled down, with two different rules for rounding
channels (arXiv 2009.07409); elite-small is narrower than the former. TinyNet is B0 at five settings
of width, depth and resolution, where stem and top keep their channels (arXiv 2010.14819).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from efficientnet_elite.networks.blocks import Classifier
from efficientnet_elite.networks.families.base import Family, Setting
from efficientnet_elite.networks.families.tables import (
    Stage,
    inverted_residual_network,
    operators_per_stage,
)
from efficientnet_elite.networks.scaling import (
    Coefficients,
    round_filters,
    round_power_of_two,
    round_repeats,
)
from efficientnet_elite.networks.spec import ArchSpec

_STEM_CHANNELS = 32
_STAGES = (
    Stage(3, 1, 16, 1, 1, 0.25),
    Stage(3, 6, 24, 2, 2, 0.25),
    Stage(5, 6, 40, 2, 2, 0.25),
    Stage(3, 6, 80, 3, 2, 0.25),
    Stage(5, 6, 112, 3, 1, 0.25),
    Stage(5, 6, 192, 4, 2, 0.25),
    Stage(3, 6, 320, 1, 1, 0.25),
)
_TOP_CHANNELS = 1280

_DROP_CONNECT = 0.2  # rate of stochastic depth in the last block

REPEATS = operators_per_stage(_STAGES)


def efficientnet(
    name: str,
    width: float,
    depth: float,
    resolution: int,
    classes: int,
    *,
    power_of_two: bool = False,
    fixed_ends: bool = False,
    repeats: Callable[[int, float], int] = round_repeats,
    dropout: float = 0.2,
) -> ArchSpec:
    """The spec of one network derived from EfficientNet-B0, see `families.base.Build`.

    Args:
      name: of the spec.
      width: width multiplier of the channels, applied by `round_filters`.
      depth: depth multiplier of the repeats; stem and top are never repeated.
      resolution: input side in pixels.
      classes: number of logits.
      power_of_two: whether channels are rounded to powers of two as in EfficientNet-HF, by CR of
        Eq. 7 of arXiv 2009.07409. The output channels of a block are CR(round_filters(C)), its
        expanded channels CR(6 * round_filters(C_in)), where C_in are its input channels before
        their own rounding to a power of two.
      fixed_ends: whether stem and top keep their channels at every width.
      repeats: gives the repeats of a stage from those at depth 1 and the depth multiplier; by
        default it rounds up.
      dropout: rate of dropout before the classifier.
    """

    def scaled(channels: int) -> int:
        rounded = round_filters(channels, width)
        return round_power_of_two(rounded) if power_of_two else rounded

    def expanded(expansion: int, input_channels: int) -> int:
        return round_power_of_two(expansion * round_filters(input_channels, width))

    return inverted_residual_network(
        name,
        _STAGES,
        resolution=resolution,
        stem=_STEM_CHANNELS if fixed_ends else scaled(_STEM_CHANNELS),
        top=_TOP_CHANNELS if fixed_ends else scaled(_TOP_CHANNELS),
        classifier=Classifier("predictions", classes, dropout),
        activation="swish",
        channels=scaled,
        repeats=lambda count: repeats(count, depth),
        expanded=expanded if power_of_two else None,
        drop_path=_DROP_CONNECT,
    )


# Table 3 of arXiv 2009.07409 as printed. Eqs. 2 and 3 give the same values except for the second
# width and the third resolution.
TABLE_3 = Coefficients(
    width=(1.0, 0.8666, 0.701, 0.514),
    depth=(1.0, 0.7, 0.6, 0.5),
    resolution=(1.0, 0.905, 0.766, 0.587),
)

# Not of the paper: eLite's scaling continued below its smallest width, for microcontrollers.
_SMALL = replace(TABLE_3, width=(0.43, 0.36, 0.28, 0.2))

# Indices of (width, depth, resolution) of the networks in Table 5. The table prints (2, 3, 1) for
# eLite4, but its MACs are exactly those of (2, 3, 2).
_ELITE = (
    (1, 1, 1),
    (1, 2, 1),
    (1, 3, 1),
    (2, 2, 1),
    (2, 3, 2),
    (3, 2, 1),
    (3, 3, 1),
    (3, 4, 2),
    (4, 2, 1),
    (4, 4, 1),
)
_HF = ((1, 1, 1), (2, 2, 1), (1, 4, 1), (1, 2, 2), (2, 3, 2), (1, 4, 2))

# The published settings of EfficientNet and their dropout rates.
_COMPOUND_SCALED = {
    "efficientnet-b0": (Setting(1.0, 1.0, 224), 0.2),
    "efficientnet-b1": (Setting(1.0, 1.1, 240), 0.2),
    "efficientnet-b2": (Setting(1.1, 1.2, 260), 0.3),
    "efficientnet-b3": (Setting(1.2, 1.4, 300), 0.3),
    "efficientnet-b4": (Setting(1.4, 1.8, 380), 0.4),
    "efficientnet-b5": (Setting(1.6, 2.2, 456), 0.4),
    "efficientnet-b6": (Setting(1.8, 2.6, 528), 0.5),
    "efficientnet-b7": (Setting(2.0, 3.1, 600), 0.5),
}
_TINYNET = {
    "tinynet-a": Setting(1.0, 1.2, 192),
    "tinynet-b": Setting(0.75, 1.1, 188),
    "tinynet-c": Setting(0.54, 0.85, 184),
    "tinynet-d": Setting(0.54, 0.695, 152),
    "tinynet-e": Setting(0.51, 0.6, 106),
}


def _compound_scaled(
    name: str, width: float, depth: float, resolution: int, classes: int
) -> ArchSpec:
    return efficientnet(name, width, depth, resolution, classes, dropout=_COMPOUND_SCALED[name][1])


def _rounded_repeats(repeats: int, depth: float) -> int:
    """TinyNet's rule: rounded to the nearest number, at least 1."""
    return max(1, round(repeats * depth))


def _power_of_two_sides(base: int) -> tuple[int, ...]:
    """Input sides of HF: the power of two from ``base`` upwards, and half of it.

    For 224 pixels these are 256 and 128.
    """
    upper = 1 << (base - 1).bit_length()
    return upper, upper // 2


FAMILIES = (
    Family(
        name="elite",
        build=efficientnet,
        coefficients=TABLE_3,
        members={indices: f"elite{number}" for number, indices in enumerate(_ELITE)},
        groups=10,
    ),
    Family(name="elite-small", build=efficientnet, coefficients=_SMALL, groups=10),
    Family(
        name="hf",
        build=partial(efficientnet, power_of_two=True),
        coefficients=TABLE_3,
        resolutions=_power_of_two_sides,
        members={indices: f"hf{number}" for number, indices in enumerate(_HF)},
        groups=5,
        grouped_by_resolution=True,
    ),
    Family(
        name="efficientnet",
        build=_compound_scaled,
        coefficients=None,
        published={name: setting for name, (setting, _) in _COMPOUND_SCALED.items()},
    ),
    Family(
        name="tinynet",
        build=partial(efficientnet, fixed_ends=True, repeats=_rounded_repeats),
        coefficients=None,
        published=_TINYNET,
    ),
)

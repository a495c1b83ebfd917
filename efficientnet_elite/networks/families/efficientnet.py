"""EfficientNet (arXiv 1905.11946) scaled up and down, and its kin: eLite, HF and TinyNet.

eLite and HF are EfficientNet-B0 scaled down under two channel rules (arXiv 2009.07409), TinyNet is
B0 at five (width, depth, resolution) triples with stem and top left as they are (arXiv 2010.14819).
"""

from __future__ import annotations

from collections.abc import Callable

from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.families.base import Family, Setting
from efficientnet_elite.networks.families.tables import Stage, inverted_residuals, operators
from efficientnet_elite.networks.scaling import (
    Coefficients,
    round_filters,
    round_power_of_two,
    round_repeats,
)
from efficientnet_elite.networks.spec import ArchSpec

STEM_CHANNELS = 32
STAGES = (
    Stage(3, 1, 16, 1, 1, 0.25),
    Stage(3, 6, 24, 2, 2, 0.25),
    Stage(5, 6, 40, 2, 2, 0.25),
    Stage(3, 6, 80, 3, 2, 0.25),
    Stage(5, 6, 112, 3, 1, 0.25),
    Stage(5, 6, 192, 4, 2, 0.25),
    Stage(3, 6, 320, 1, 1, 0.25),
)
TOP_CHANNELS = 1280

REPEATS = operators(STAGES)


def efficientnet(
    name: str,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int = 224,
    classes: int = 1000,
    power_of_two: bool = False,
    fixed_ends: bool = False,
    repeats: Callable[[int, float], int] = round_repeats,
    dropout: float = 0.2,
    drop_connect: float = 0.2,
) -> ArchSpec:
    """The backbone at one (width, depth, resolution).

    Args:
      name: of the spec.
      width: multiplies channels (`round_filters`).
      depth: multiplies repeats; stem and top keep one.
      resolution: input side in pixels.
      classes: number of logits.
      power_of_two: channels as EfficientNet-HF rounds them (paper.md, section 3): outputs are
        CR(round_filters(C)), expanded channels CR(6 * round_filters(C_in)) with C_in *before* its
        own rounding to a power of two.
      fixed_ends: whether stem and top keep their channels.
      repeats: rounds (repeats, depth); upwards by default.
      dropout: rate before the classifier.
      drop_connect: stochastic depth rate, rising linearly over the blocks from 0 to this.
    """

    def channels(unscaled: int) -> int:
        rounded = round_filters(unscaled, width)
        return round_power_of_two(rounded) if power_of_two else rounded

    def expanded(expansion: int, source: int) -> int:
        return round_power_of_two(expansion * round_filters(source, width))

    stem, top = (
        unscaled if fixed_ends else channels(unscaled) for unscaled in (STEM_CHANNELS, TOP_CHANNELS)
    )
    blocks = inverted_residuals(
        STAGES,
        stem,
        channels=channels,
        repeats=lambda count: repeats(count, depth),
        expanded=expanded if power_of_two else None,
        drop_path=drop_connect,
    )
    return ArchSpec(
        name,
        (resolution, resolution, 3),
        (
            ConvBlock("stem", stem, kernel=3, stride=2),
            *blocks,
            ConvBlock("top", top),
            Classifier("predictions", classes, dropout),
        ),
    )


# Table 3 of arXiv 2009.07409 as printed; `scaling.derive` gives the same but for w2 and r3.
TABLE_3 = Coefficients(
    width=(1.0, 0.8666, 0.701, 0.514),
    depth=(1.0, 0.7, 0.6, 0.5),
    resolution=(1.0, 0.905, 0.766, 0.587),
)

# Table 5's (width, depth, resolution) indices. eLite4 is printed as (2, 3, 1); its MACs are those
# of (2, 3, 2) to every digit.
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

# The published compound scalings, and their dropout rates.
_B = {
    "efficientnet-b0": (Setting(1.0, 1.0, 224), 0.2),
    "efficientnet-b1": (Setting(1.0, 1.1, 240), 0.2),
    "efficientnet-b2": (Setting(1.1, 1.2, 260), 0.3),
    "efficientnet-b3": (Setting(1.2, 1.4, 300), 0.3),
    "efficientnet-b4": (Setting(1.4, 1.8, 380), 0.4),
    "efficientnet-b5": (Setting(1.6, 2.2, 456), 0.4),
    "efficientnet-b6": (Setting(1.8, 2.6, 528), 0.5),
    "efficientnet-b7": (Setting(2.0, 3.1, 600), 0.5),
}
_TINY = {
    "tinynet-a": Setting(1.0, 1.2, 192),
    "tinynet-b": Setting(0.75, 1.1, 188),
    "tinynet-c": Setting(0.54, 0.85, 184),
    "tinynet-d": Setting(0.54, 0.695, 152),
    "tinynet-e": Setting(0.51, 0.6, 106),
}


def _elite(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(name, width=width, depth=depth, resolution=resolution, classes=classes)


def _hf(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(
        name,
        width=width,
        depth=depth,
        resolution=resolution,
        classes=classes,
        power_of_two=True,
    )


def _b(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(
        name,
        width=width,
        depth=depth,
        resolution=resolution,
        classes=classes,
        dropout=_B[name][1],
    )


def _tiny(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    return efficientnet(
        name,
        width=width,
        depth=depth,
        resolution=resolution,
        classes=classes,
        fixed_ends=True,
        repeats=lambda count, factor: max(1, round(count * factor)),
    )


def _powers_of_two(base: int) -> tuple[int, ...]:
    upper = 1 << (base - 1).bit_length()  # 224 -> 256: the next power of two, and half of it
    return upper, upper // 2


FAMILIES = (
    Family(
        name="elite",
        build=_elite,
        coefficients=TABLE_3,
        members={indices: f"elite{number}" for number, indices in enumerate(_ELITE)},
        groups=10,
    ),
    Family(
        name="hf",
        build=_hf,
        coefficients=TABLE_3,
        resolutions=_powers_of_two,
        members={indices: f"hf{number}" for number, indices in enumerate(_HF)},
        groups=5,
        grouped_by_resolution=True,
    ),
    Family(
        name="efficientnet",
        build=_b,
        coefficients=None,
        published={name: setting for name, (setting, _) in _B.items()},
    ),
    Family(name="tinynet", build=_tiny, coefficients=None, published=_TINY),
)

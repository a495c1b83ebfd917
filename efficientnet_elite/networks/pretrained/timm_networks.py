"""The networks of timm and torchvision that are networks of this project, as a table of facts.

Shapes and module names do not say how a network pads, which epsilon its batch normalisation has
and which input it expects. The facts were read from timm 1.0.31 and torchvision 0.29.1, and
``tests/networks/pretrained/test_timm.py`` compares all networks with those libraries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from efficientnet_elite.networks.blocks import Block, ConvBlock, MBConv
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Setting
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.lite import scaled_lite
from efficientnet_elite.networks.pretrained.weights import Channels
from efficientnet_elite.networks.spec import ArchSpec

# Of the 250 images of docs/timm.md Lite0 gets 222 right at 224 pixels, and 206 with the padding
# that it was not trained with; 131 and 83 at 96 pixels, and 213 either way at 225.
_PADDING_DIFFERS = (
    "its strided convolutions pad both sides alike, ours as TensorFlow does: the outputs are the "
    "same for inputs of 32 n + 1 pixels, such as 97 or 225, and differ for others"
)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour channel, for pixels from 0 to 1."""

    mean: Channels
    std: Channels

    @property
    def scale(self) -> Channels:
        """Factor of a pixel from 0 to 255, by channel."""
        red, green, blue = (1 / (255 * std) for std in self.std)
        return red, green, blue

    @property
    def offset(self) -> Channels:
        """What is added after that, by channel."""
        red, green, blue = (-m / s for m, s in zip(self.mean, self.std, strict=True))
        return red, green, blue


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNIT = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class TorchNetwork:
    """A network of timm or torchvision.

    Attributes:
      name: as its library calls it.
      library: ``timm`` or ``torchvision``.
      spec: makes our spec of it from the number of classes.
      epsilon: of its batch normalisation.
      same_padding: whether it pads strided convolutions as TensorFlow does.
      normalisation: of its input, unless the name of the weights says another one.
    """

    name: str
    library: str
    spec: Callable[[int], ArchSpec]
    epsilon: float
    same_padding: bool
    normalisation: Normalisation

    @property
    def deviation(self) -> str:
        """See `PretrainedWeights.deviation`."""
        return "" if self.same_padding else _PADDING_DIFFERS


def _published(model: str, side: int, classes: int) -> ArchSpec:
    """A network of this project by name, for square inputs of ``side`` pixels."""
    return spec_by_name(model, classes=classes).resized((side, side, 3))


def _at_width(family: str, width: float, classes: int) -> ArchSpec:
    """The network of a family at a width multiplier, for inputs of 224 pixels."""
    name = family if width == 1 else f"{family}-{width}"
    return FAMILIES[family].build(name, width, 1.0, IMAGENET_RESOLUTION, classes)


def _fbnet_c(classes: int) -> ArchSpec:
    """FBNet-C as in timm: its blocks of expansion 1 have an expanding convolution as well."""
    spec = _at_width("fbnet-c", 1.0, classes)
    channels = 0
    blocks: list[Block] = []
    for block in spec.blocks:
        if isinstance(block, MBConv) and block.expanded is None:
            block = replace(block, expanded=channels)
        if isinstance(block, ConvBlock | MBConv):
            channels = block.filters
        blocks.append(block)
    return replace(spec, name="fbnet-c-expanded", blocks=tuple(blocks))


_Specs = dict[str, Callable[[int], ArchSpec]]

# Each table: name in the library to what makes our spec of it.
_EFFICIENTNET: _Specs = {
    f"efficientnet_b{number}": partial(_published, f"efficientnet-b{number}", side)
    for number, side in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
}
_LITE: _Specs = {
    f"efficientnet_lite{number}": partial(scaled_lite, number, setting, dropout)
    for number, (setting, dropout) in enumerate(
        (
            (Setting(1.0, 1.0, 224), 0.2),
            (Setting(1.0, 1.1, 240), 0.2),
            (Setting(1.1, 1.2, 260), 0.3),
            (Setting(1.2, 1.4, 300), 0.3),
            (Setting(1.4, 1.8, 380), 0.3),
        )
    )
}
_TINYNET: _Specs = {
    f"tinynet_{letter}": partial(_published, f"tinynet-{letter}", side)
    for letter, side in zip("abcde", (192, 188, 184, 152, 106), strict=True)
}


def _widths(name: str, family: str, *percent: int) -> _Specs:
    """Networks of a family at widths in percent, which end their names."""
    return {f"{name}_{width:03}": partial(_at_width, family, width / 100) for width in percent}


_TIMM: _Specs = {
    **_EFFICIENTNET,
    **_LITE,
    **_TINYNET,
    **_widths("mobilenetv2", "mobilenetv2", 35, 50, 75, 100, 140),
    **_widths("mobilenetv3_large", "mobilenetv3-large", 75, 100),
    **_widths("mobilenetv3_small", "mobilenetv3-small", 50, 75, 100),
    **_widths("mnasnet", "mnasnet-b1", 50, 75, 100, 140),
    **_widths("semnasnet", "mnasnet-a1", 50, 75, 100, 140),
    "mnasnet_small": partial(_at_width, "mnasnet-small", 1.0),
    **_widths("ghostnet", "ghostnet", 50, 100, 130),
    "fbnetc_100": _fbnet_c,
}
_TF_MOBILENETV3: _Specs = {
    **_widths("mobilenetv3_large", "mobilenetv3-large", 75, 100),
    **_widths("mobilenetv3_small", "mobilenetv3-small", 75, 100),
    **_widths("mobilenetv3_large_minimal", "mobilenetv3-large-minimalistic", 100),
    **_widths("mobilenetv3_small_minimal", "mobilenetv3-small-minimalistic", 100),
}
_TORCHVISION: _Specs = {
    "mobilenet_v2": partial(_at_width, "mobilenetv2", 1.0),
    "mnasnet0_5": partial(_at_width, "mnasnet-b1", 0.5),
    "mnasnet0_75": partial(_at_width, "mnasnet-b1", 0.75),
    "mnasnet1_0": partial(_at_width, "mnasnet-b1", 1.0),
    "mnasnet1_3": partial(_at_width, "mnasnet-b1", 1.3),
}
_TORCHVISION_V3: _Specs = {
    "mobilenet_v3_large": partial(_at_width, "mobilenetv3-large", 1.0),
    "mobilenet_v3_small": partial(_at_width, "mobilenetv3-small", 1.0),
}
_LARGE_EFFICIENTNET = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


def _networks() -> Iterator[TorchNetwork]:
    for name, spec in _TIMM.items():
        yield TorchNetwork(name, "timm", spec, 1e-5, False, IMAGENET)
    for name, spec in _EFFICIENTNET.items():
        yield TorchNetwork(f"tf_{name}", "timm", spec, 1e-3, True, IMAGENET)
    for name, spec in (_LITE | _TF_MOBILENETV3).items():
        yield TorchNetwork(f"tf_{name}", "timm", spec, 1e-3, True, INCEPTION)
    for name, spec in (_TORCHVISION | _EFFICIENTNET).items():
        epsilon = 1e-3 if name in _LARGE_EFFICIENTNET else 1e-5
        yield TorchNetwork(name, "torchvision", spec, epsilon, False, IMAGENET)
    for name, spec in _TORCHVISION_V3.items():
        yield TorchNetwork(name, "torchvision", spec, 1e-3, False, IMAGENET)


NETWORKS: tuple[TorchNetwork, ...] = tuple(_networks())

# Parts of the names of weights that were trained with another normalisation than usual.
_OTHER_NORMALISATIONS = {"ap": INCEPTION, "ra4": INCEPTION, "miil": UNIT}


def _plain(name: str) -> str:
    """A name of weights without the library's prefix, with one separator between its parts."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().rpartition("/")[2])


def network_by_name(name: str, library: str) -> TorchNetwork | None:
    """The network of a library that a name of weights begins with, or None.

    Args:
      name: such as ``tf_efficientnet_b0.ns_jft_in1k``, ``timm/mobilenetv2_100.ra_in1k`` or
        ``mnasnet0.5_top1_67.823``.
      library: ``timm`` or ``torchvision``.
    """
    plain = f"{_plain(name)}_"
    fitting = [
        network
        for network in NETWORKS
        if network.library == library and plain.startswith(f"{network.name}_")
    ]
    return max(fitting, key=lambda network: len(network.name), default=None)


def normalisation(network: TorchNetwork, name: str) -> Normalisation:
    """The normalisation that the weights of this name were trained with."""
    parts = _plain(name).removeprefix(network.name).split("_")
    return next(
        (other for part, other in _OTHER_NORMALISATIONS.items() if part in parts),
        network.normalisation,
    )

"""CondenseNet (arXiv 1711.09224) and CondenseNeXt (arXiv 2112.00698).

Specs of these families are in the deployed form; `training_form` gives the form to train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from efficientnet_elite.networks.blocks import Block, Classifier, Pool
from efficientnet_elite.networks.blocks.condense import (
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    LearnedBlock,
    Norm,
    PlainConv,
)
from efficientnet_elite.networks.families.base import Family, scaled_down
from efficientnet_elite.networks.scaling import nearest_multiple, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

# Number of layers and growth (channels that a layer adds) of each dense block.
_IMAGENET = ((4, 8), (6, 16), (8, 32), (10, 64), (8, 128))
_CIFAR = ((14, 8), (14, 16), (14, 32))


@dataclass(frozen=True)
class DenseNetwork:
    """A stem, dense blocks with average pooling between them, and a classifier.

    Attributes:
      stages: number of layers and growth of each dense block.
      stride: of the stem.
      divisor: growths are multiples of this number.
      layer: makes a layer from its name and growth.
      top: makes the classifier from its name and the number of classes.
      activation: name of the activation before the classifier.
    """

    stages: tuple[tuple[int, int], ...]
    stride: int
    divisor: int
    layer: Callable[[str, int], Block]
    top: Callable[[str, int], Block]
    activation: str

    def build(
        self, name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        """The spec of one network, see `families.base.Build`; the width scales the growths."""
        growths = [nearest_multiple(growth, width, self.divisor) for _, growth in self.stages]
        blocks: list[Block] = [PlainConv("stem", 2 * growths[0], self.stride)]
        for stage, ((layers, _), growth) in enumerate(zip(self.stages, growths, strict=True), 1):
            if stage > 1:
                blocks.append(Pool(f"pool{stage - 1}", "average", 2, padding="valid"))
            for layer in range(1, round_repeats(layers, depth) + 1):
                blocks.append(self.layer(f"dense{stage}_{layer}", growth))
        blocks += [Norm("top", self.activation), self.top("predictions", classes)]
        return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))

    def family(self, name: str) -> Family:
        """The family of this network."""
        return scaled_down(name, self.build, (1, *(layers for layers, _ in self.stages), 1))


def _condensenet(stages: tuple[tuple[int, int], ...], stride: int, groups: int) -> DenseNetwork:
    """CondenseNet whose condensation factor is the number of groups, as published."""
    return DenseNetwork(
        stages,
        stride,
        divisor=groups,
        layer=lambda name, growth: CondenseLayer(name, growth, groups, condensation=groups),
        top=CondensedClassifier,
        activation="relu",
    )


def _condensenext(stages: tuple[tuple[int, int], ...], stride: int) -> DenseNetwork:
    return DenseNetwork(
        stages, stride, divisor=4, layer=CondenseNextLayer, top=Classifier, activation="relu6"
    )


def training_form(spec: ArchSpec) -> ArchSpec:
    """The network in the form that is trained, with dense convolutions that learn their groups.

    Networks without learned convolutions are returned unchanged.
    """

    def in_training_form(block: Block) -> Block:
        return replace(block, learning=True) if isinstance(block, LearnedBlock) else block

    return replace(spec, blocks=tuple(map(in_training_form, spec.blocks)))


FAMILIES = (
    _condensenet(_IMAGENET, 2, groups=4).family("condensenet-g4"),
    _condensenet(_IMAGENET, 2, groups=8).family("condensenet-g8"),
    _condensenet(_CIFAR, 1, groups=4).family("condensenet-cifar"),
    _condensenext(_IMAGENET, 2).family("condensenext"),
    _condensenext(_CIFAR, 1).family("condensenext-cifar"),
)

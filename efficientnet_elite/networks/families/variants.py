"""Variants of networks for deployment: another activation, or no squeeze-excite.

A suffix of the name tells the variant: ``elite9-relu6-nose``, ``mobilenetv3-large-relu``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from efficientnet_elite.networks import activations
from efficientnet_elite.networks.blocks import Block
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class Variant:
    """How a network differs from the published one.

    Attributes:
      activation: one of `activations.variants`, which replaces every activation of the network
        except those that end a gate; None to keep the activations of the network.
      squeeze_excite: whether squeeze-excite and efficient channel attention are kept.
    """

    activation: str | None = None
    squeeze_excite: bool = True

    @property
    def suffix(self) -> str:
        """The end of the names of this variant; empty for the published network."""
        activation = f"-{self.activation}" if self.activation else ""
        return activation + ("" if self.squeeze_excite else "-nose")

    def apply(self, spec: ArchSpec) -> ArchSpec:
        """This variant of a network; its name gets the suffix."""
        blocks = tuple(self._changed_block(block) for block in spec.blocks)
        return replace(spec, name=spec.name + self.suffix, blocks=blocks)

    def _changed_block(self, block: Block) -> Block:
        changes: dict[str, Any] = {}
        for field in fields(block):
            value = getattr(block, field.name)
            if self.activation and field.name.endswith("activation") and value is not None:
                changes[field.name] = self.activation
            elif not self.squeeze_excite and field.name in ("squeeze", "attention"):
                changes[field.name] = None
        return replace(block, **changes)


def split_variant(name: str) -> tuple[str, Variant]:
    """Splits the name of a network or pool into the name without suffix and the variant."""
    names = "|".join(map(re.escape, activations.variants()))
    match = re.fullmatch(rf"(?P<base>.+?)(-(?P<activation>{names}))?(?P<nose>-nose)?", name)
    if match is None:
        return name, Variant()
    return match["base"], Variant(match["activation"], match["nose"] is None)

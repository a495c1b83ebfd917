"""Deployment variants: a network with another activation, or without its channel gates.

A suffix of the name says which: ``elite9-relu6-nose``, ``mobilenetv3-large-relu``.

This module must not import TensorFlow or Keras.
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
    """What differs from the faithful network.

    Attributes:
      activation: in place of the network's own wherever it has one (the gates' sigmoids stay); one
        of `activations.variants`, None for its own.
      squeeze_excite: whether channel gates (squeeze-excite, efficient channel attention) stay.
    """

    activation: str | None = None
    squeeze_excite: bool = True

    @property
    def suffix(self) -> str:
        """What a name of this variant ends with; empty for the faithful network."""
        activation = f"-{self.activation}" if self.activation else ""
        return activation + ("" if self.squeeze_excite else "-nose")

    def apply(self, spec: ArchSpec) -> ArchSpec:
        """The variant of a network, named so."""
        blocks = tuple(self._block(block) for block in spec.blocks)
        return replace(spec, name=spec.name + self.suffix, blocks=blocks)

    def _block(self, block: Block) -> Block:
        changes: dict[str, Any] = {}
        for field in fields(block):
            value = getattr(block, field.name)
            if self.activation and field.name.endswith("activation") and value is not None:
                changes[field.name] = self.activation
            elif not self.squeeze_excite and field.name in ("squeeze", "attention"):
                changes[field.name] = None
        return replace(block, **changes)


def parse(name: str) -> tuple[str, Variant]:
    """Splits the name of a network or pool into the faithful one's name and the variant."""
    names = "|".join(map(re.escape, activations.variants()))
    match = re.fullmatch(rf"(?P<base>.+?)(-(?P<activation>{names}))?(?P<nose>-nose)?", name)
    if match is None:
        return name, Variant()
    return match["base"], Variant(match["activation"], match["nose"] is None)

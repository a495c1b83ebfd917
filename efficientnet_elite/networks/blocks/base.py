"""`Block`, the base class of all building blocks: frozen data that adds operations to a `Graph`.

The channel counts of a block are absolute. A family applies its width and depth multipliers before
it makes blocks, so a block means the same in every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class Block:
    """A named part of a network.

    Attributes:
      top: whether blocks of this class belong to the part that turns features into logits.
      name: unique in its network; most names of the block's nodes start with it.
    """

    top: ClassVar[bool] = False

    name: str

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Adds the operations of the block, applied to ``x``, and returns its output."""
        raise NotImplementedError

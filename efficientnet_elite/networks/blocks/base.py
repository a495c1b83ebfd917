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
      depthwise_kernels: names of the attributes that are sides of depthwise kernels, in pixels;
        None where blocks of this class have larger ones than 3x3 and do not leave them free.
      channel_counts: names of the attributes that are numbers of channels, each of which may have
        any value; None where blocks of this class do not leave them free.
      name: unique in its network; most names of the block's nodes start with it.
    """

    top: ClassVar[bool] = False
    depthwise_kernels: ClassVar[tuple[str, ...] | None] = ()
    channel_counts: ClassVar[tuple[str, ...] | None] = None

    name: str

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Adds the operations of the block, applied to ``x``, and returns its output."""
        raise NotImplementedError

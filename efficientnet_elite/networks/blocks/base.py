"""What a building block is: frozen data with one method that draws it on a `Graph`.

Channel counts are absolute: a family's width and depth rules have been applied by the time a block
exists, so a block means the same in every family.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class Block:
    """A named part of a network. Node names start with ``name``, as layer names in Keras do.

    Attributes:
      top: whether blocks of this kind turn features into logits.
    """

    top: ClassVar[bool] = False

    name: str

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Draws the block's operations behind ``x`` and returns its output."""
        raise NotImplementedError

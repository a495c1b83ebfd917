"""A whole Keras model of the user's own as a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class UserModel(Block):
    """The model ``name`` of the pool ``source``, which only that can build.

    Attributes:
      source: ``module:function``, see `families.user`.
      resolution: the one input side in pixels that these figures are for.
      classes: number of logits.
      params, macs: as counted when the pool was made.
    """

    top: ClassVar[bool] = True

    source: str
    resolution: int
    classes: int
    params: int
    macs: int

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (resolution, resolution, 3) to (classes,); ValueError for other shapes."""
        if x.shape != (self.resolution, self.resolution, 3):
            raise ValueError(f"{self.name} takes {self.resolution} pixels, not {x.shape}")
        op = ops.UserModel(self.classes, self.params, self.macs)
        return graph.apply(self.name, op, x)

"""A whole Keras model of the user as a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor


@dataclass(frozen=True)
class UserModel(Block):
    """The model ``name`` of a user's pool. Only the function of the pool can build it.

    Attributes:
      source: ``module:function``, see `families.user`.
      resolution: side in pixels of the input that the model was counted for.
      classes: number of logits.
      params: number of weights, counted when the pool was loaded.
      macs: multiply-accumulates for one image, counted when the pool was loaded.
      channels: of the input image, 3 or 1.
    """

    top: ClassVar[bool] = True

    source: str
    resolution: int
    classes: int
    params: int
    macs: int
    channels: int = 3

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (resolution, resolution, channels) to (classes,); ValueError for other shapes."""
        if x.shape != (self.resolution, self.resolution, self.channels):
            raise ValueError(f"{self.name} takes {self.resolution} pixels, not {x.shape}")
        op = ops.UserModel(self.classes, self.params, self.macs)
        return graph.apply(self.name, op, x)

"""`ArchSpec`: a whole network as data, with its costs and its JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from efficientnet_elite.config import InputSize
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import REGISTRY, Block, Classifier, UserModel
from efficientnet_elite.networks.graph import Graph

# The input range of every network: pixel / 128 - 1. With one scale and offset for all channels, the
# quantized int8 input is just pixel - 128 (scale 1/128, zero point 0), and the zeros of ``same``
# padding are the grey level 128.
PIXEL_SCALE = 1 / 128
PIXEL_OFFSET = -1.0

_DROP_RATES = ("dropout", "drop_path")  # fields of blocks that are rates of dropping


@dataclass(frozen=True)
class ArchSpec:
    """A network: an input size and a sequence of blocks.

    Attributes:
      name: unique in its pool, lower case.
      input_shape: (height, width, channels); height and width in pixels.
      blocks: applied one after the other; the last ones turn features into logits (`Block.top`).
    """

    name: str
    input_shape: tuple[int, int, int]
    blocks: tuple[Block, ...]

    @cached_property
    def graph(self) -> Graph:
        """The operations of the network; ValueError if the shapes of its blocks do not fit."""
        return draw_graph(self.input_shape, self.blocks)

    @property
    def classes(self) -> int:
        """Number of logits (for each pixel, in a segmentation network)."""
        return self.graph.nodes[-1].shape[-1]

    @property
    def size(self) -> InputSize:
        """Height and width of the input in pixels."""
        return InputSize(*self.input_shape[:2])

    @property
    def resolution(self) -> int | str:
        """The size as tables and files hold it: side of a square input in pixels, or ``96x128``."""
        return self.size.plain

    @property
    def params(self) -> int:
        """Number of weights, including moving statistics ("Params" in arXiv 2009.07409)."""
        return self.graph.params

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image ("Flops" in arXiv 2009.07409)."""
        return self.graph.macs

    def resized(self, input_shape: tuple[int, int, int]) -> ArchSpec:
        """The same network for an input of another (height, width, channels)."""
        return replace(self, input_shape=input_shape)

    def with_channels(self, channels: int) -> ArchSpec:
        """The same network for an input of another number of channels, 3 or 1.

        Raises:
          UserError: it is a user's model for others.
        """
        first, current = self.blocks[0], self.input_shape[2]
        if isinstance(first, UserModel) and channels != current:
            raise UserError(
                f"{self.name} of {first.source} takes (side, side, {current}) images: use "
                f"--channels={current}, or build it for (side, side, {channels})"
            )
        return self.resized((*self.input_shape[:2], channels))

    def reading_stages(self, stages: bool = True) -> ArchSpec:
        """The same network with a classifier that reads all stages, or only the last features.

        See `blocks.Classifier.stages`. Networks that end in another way stay as they are.
        """
        *body, head = self.blocks
        if not isinstance(head, Classifier) or head.stages == stages:
            return self
        return replace(self, blocks=(*body, replace(head, stages=stages)))

    def with_drop_rates(self, factor: float) -> ArchSpec:
        """The same network with its dropout and stochastic depth rates multiplied by ``factor``."""

        def with_scaled_rates(block: Block) -> Block:
            rates = {key: value for key, value in vars(block).items() if key in _DROP_RATES}
            return replace(block, **{key: value * factor for key, value in rates.items()})

        return replace(self, blocks=tuple(map(with_scaled_rates, self.blocks)))

    def to_json(self) -> str:
        """The spec as one line of JSON, from which `from_json` restores an equal spec."""
        return json.dumps(
            {
                "name": self.name,
                "input_shape": self.input_shape,
                "blocks": [{"type": type(block).__name__, **vars(block)} for block in self.blocks],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ArchSpec:
        """Reads a spec from the JSON of `to_json`; UserError if a block or field is unknown."""
        data = json.loads(text)
        height, width, channels = data["input_shape"]
        return cls(
            name=data["name"],
            input_shape=(height, width, channels),
            blocks=tuple(_block_from_json(entry) for entry in data["blocks"]),
        )


def draw_graph(input_shape: tuple[int, int, int], blocks: tuple[Block, ...]) -> Graph:
    """The graph of blocks that are applied one after the other to an image.

    Raises:
      ValueError: a block does not fit the shape of its input.
    """
    graph = Graph(input_shape)
    x = graph.image
    for block in blocks:
        x = graph.outputs[block.name] = block.draw(graph, x)
    return graph


def _block_from_json(entry: dict[str, Any]) -> Block:
    block_class = REGISTRY.get(entry["type"])
    if block_class is None:
        raise UserError(
            f"unknown block type {entry['type']!r}: the network was written by another version of "
            "efficientnet-elite; use that version"
        )
    values = {key: value for key, value in entry.items() if key != "type"}
    if unknown := values.keys() - {field.name for field in fields(block_class)}:
        raise UserError(
            f"unknown field {min(unknown)!r} of block type {entry['type']}: the network was "
            "written by another version of efficientnet-elite; use that version"
        )
    return block_class(**{key: _with_tuples(value) for key, value in values.items()})


def _with_tuples(value: Any) -> Any:
    """The value with tuples for the lists that JSON has in their place."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value

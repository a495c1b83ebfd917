"""`ArchSpec`: a whole network as data, with its cost, and as JSON.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import blocks
from efficientnet_elite.networks.blocks import Block
from efficientnet_elite.networks.graph import Graph

_DROP_RATES = ("dropout", "drop_path")  # how blocks call them


@dataclass(frozen=True)
class ArchSpec:
    """A network: an input size and the blocks behind it, the last one the classifier.

    Attributes:
      name: unique in its pool, lower case.
      input_shape: (height, width, channels) in pixels.
      blocks: features first, `blocks.Classifier` last.
    """

    name: str
    input_shape: tuple[int, int, int]
    blocks: tuple[Block, ...]

    @cached_property
    def graph(self) -> Graph:
        """The drawn network."""
        return draw(self.input_shape, self.blocks)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.graph.nodes[-1].shape[-1]

    @property
    def resolution(self) -> int:
        """Height of the (square) input in pixels."""
        return self.input_shape[0]

    @property
    def params(self) -> int:
        """All weights, batch normalisation's moving statistics included (the paper's "Params")."""
        return self.graph.params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image (the paper's "Flops")."""
        return self.graph.macs

    def resized(self, input_shape: tuple[int, int, int]) -> ArchSpec:
        """The same network for another input size."""
        return replace(self, input_shape=input_shape)

    def with_drop_rates(self, factor: float) -> ArchSpec:
        """The same network with the rates of dropout and stochastic depth times ``factor``."""

        def scaled(block: Block) -> Block:
            rates = {key: value for key, value in vars(block).items() if key in _DROP_RATES}
            return replace(block, **{key: value * factor for key, value in rates.items()})

        return replace(self, blocks=tuple(scaled(block) for block in self.blocks))

    def to_json(self) -> str:
        """The spec as one line of JSON; `from_json` gives back an equal spec."""
        return json.dumps(
            {
                "name": self.name,
                "input_shape": self.input_shape,
                "blocks": [{"type": type(block).__name__, **vars(block)} for block in self.blocks],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ArchSpec:
        """Reads what `to_json` wrote; UserError where a block type or field is unknown."""
        data = json.loads(text)
        height, width, channels = data["input_shape"]
        return cls(
            name=data["name"],
            input_shape=(height, width, channels),
            blocks=tuple(_block(entry) for entry in data["blocks"]),
        )


def draw(input_shape: tuple[int, int, int], sequence: tuple[Block, ...]) -> Graph:
    """Draws blocks one behind the other."""
    graph = Graph(input_shape)
    x = graph.image
    for block in sequence:
        x = graph.outputs[block.name] = block.draw(graph, x)
    return graph


def _block(entry: dict[str, Any]) -> Block:
    kind = blocks.REGISTRY.get(entry["type"])
    if kind is None:
        raise UserError(f"unknown block type {entry['type']!r}: written by another version?")
    known = {field.name for field in fields(kind)}
    values = {key: value for key, value in entry.items() if key != "type"}
    if unknown := values.keys() - known:
        raise UserError(f"unknown field {min(unknown)!r} of {entry['type']}: another version?")
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value  # JSON has lists

"""Which tensors of a network have the same channels, and which channels they are.

The walk follows the network that receives weights (the target). A convolution with a counterpart
starts a `Piece`, a set of channels. Batch normalisation, activations, depthwise convolutions and
pooling pass it on, additions and gates unite those of their inputs, and a concatenation puts
several behind one another. All along a residual stream, the same channels of the source are
therefore taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Node
from efficientnet_elite.networks.spec import ArchSpec

Indices = NDArray[np.int64]

# Operations that work on every channel by itself and have no weights, or only weights that may
# keep their initial values.
PASSING = (
    ops.Activation,
    ops.AveragePool,
    ops.Crop,
    ops.DropPath,
    ops.Dropout,
    ops.GlobalAveragePool,
    ops.MaxPool,
    ops.Pad,
    ops.PReLU,
    ops.Resize,
)


@dataclass(eq=False)
class Piece:
    """Channels that are chosen together, or what such channels were merged into or split into.

    Attributes:
      source, target: number of channels in the source and in the target.
      pinned_by: name of a node that needs all channels in their order; None if there is none.
      parts: the pieces that took its place; empty as long as it stands for itself.
    """

    source: int
    target: int
    pinned_by: str | None = None
    parts: tuple[Piece, ...] = ()

    def split(self, source: int, target: int) -> None:
        """Puts two pieces in its place, of which the first has these numbers of channels."""
        rest = Piece(self.source - source, self.target - target, self.pinned_by)
        self.parts = (Piece(source, target, self.pinned_by), rest)


Layout = tuple[Piece, ...]  # the channels of a tensor


def resolve(layout: Sequence[Piece]) -> Layout:
    """The pieces that a layout consists of now."""
    pieces: list[Piece] = []
    for piece in layout:
        pieces.extend(resolve(piece.parts) if piece.parts else (piece,))
    return tuple(pieces)


@dataclass
class Layouts:
    """The channels of all tensors of a target.

    Attributes:
      outputs: layout of the output of each node, None where it has no counterpart in the source;
        the last entry is that of the image, so that index -1 finds it.
      silenced: names of the batch normalisations that must output zero at the start: the last ones
        of residual blocks without a counterpart.
      opened: nodes `Multiply` of gates without a counterpart, which must start as constants.
    """

    outputs: list[Layout | None]
    silenced: list[str] = field(default_factory=list)
    opened: list[Node] = field(default_factory=list)

    def of(self, index: int) -> Layout | None:
        """The pieces of the output of a node; of the image for -1."""
        layout = self.outputs[index]
        return None if layout is None else resolve(layout)


class _Walk:
    """Finds the `Layouts` of a target."""

    def __init__(self, source: ArchSpec, target: ArchSpec, matches: Mapping[str, str]):
        self.source, self.target, self.matches = source, target, matches
        self.source_nodes = {node.name: node for node in source.graph.nodes}
        image = Piece(source.input_shape[-1], target.input_shape[-1])
        self.layouts = Layouts([None] * len(target.graph.nodes) + [(image,)])

    def run(self) -> Layouts:
        for index, node in enumerate(self.target.graph.nodes):
            self.layouts.outputs[index] = self._output(node)
        return self.layouts

    def _output(self, node: Node) -> Layout | None:
        inputs = [self.layouts.of(index) for index in node.inputs]
        counterpart = self.source_nodes.get(self.matches.get(node.name, ""))
        if isinstance(node.op, PASSING):
            return inputs[0]
        if isinstance(node.op, ops.Add):
            return self._sum(node, inputs, counterpart)
        if isinstance(node.op, ops.Multiply):
            return self._product(node, inputs)
        if isinstance(node.op, ops.Concat):
            known = [layout for layout in inputs if layout is not None]
            return sum(known, ()) if len(known) == len(inputs) else None
        if counterpart is None:
            return None
        if any(layout is None for layout in inputs):
            raise self._refusal(
                f"its layer {node.name} reads channels that the source does not have"
            )
        for layout, index in zip(inputs, counterpart.inputs, strict=True):
            if sum(piece.source for piece in layout or ()) != self._source_channels(index):
                raise self._refusal(f"its layer {node.name} has another number of inputs there")
        if isinstance(node.op, ops.BatchNorm | ops.DepthwiseConv):
            return inputs[0]
        if isinstance(node.op, ops.Dense) or _is_plain(node.op):
            return (Piece(counterpart.shape[-1], node.shape[-1]),)
        if isinstance(node.op, ops.Reshape) and _is_pooled(self.target, node):
            return (Piece(counterpart.shape[-1], node.shape[-1]),)
        return self._by_position(node, inputs, counterpart)

    def _source_channels(self, index: int) -> int:
        """Channels of the output of a node of the source; of its image for -1."""
        if index < 0:
            return self.source.input_shape[-1]
        return self.source.graph.nodes[index].shape[-1]

    def _sum(
        self, node: Node, inputs: list[Layout | None], counterpart: Node | None
    ) -> Layout | None:
        known = [layout for layout in inputs if layout is not None]
        if len(known) == len(inputs):
            if counterpart is not None:
                for other in known[1:]:
                    self._unite(node, known[0], other)
            return resolve(known[0])
        if not known:
            return None
        for index, layout in zip(node.inputs, inputs, strict=True):
            if layout is None:
                silenced = self._last_batch_norm(index)
                if silenced is None:
                    return None
                self.layouts.silenced.append(silenced)
        return known[0]

    def _product(self, node: Node, inputs: list[Layout | None]) -> Layout | None:
        features, gate = inputs
        if features is None:
            return None
        if gate is None:
            self.layouts.opened.append(node)
            return features
        self._unite(node, features, gate)
        return resolve(features)

    def _last_batch_norm(self, index: int) -> str | None:
        """The batch normalisation that a tensor comes from, past dropout and gates."""
        while index >= 0:
            node = self.target.graph.nodes[index]
            if isinstance(node.op, ops.BatchNorm):
                return node.name
            if not isinstance(node.op, ops.Dropout | ops.DropPath | ops.Multiply):
                return None
            index = node.inputs[0]
        return None

    def _by_position(
        self, node: Node, inputs: list[Layout | None], counterpart: Node
    ) -> Layout | None:
        """An operation that depends on the places of channels: all of them stay where they are."""
        if node.op != counterpart.op:
            raise self._refusal(f"the channels of {node.name} cannot be chosen one by one")
        for layout in inputs:
            for piece in layout or ():
                piece.pinned_by = node.name
        return (Piece(counterpart.shape[-1], node.shape[-1], node.name),)

    def _unite(self, node: Node, one: Layout, other: Layout) -> None:
        """Merges the pieces of two layouts of the same length, splitting them where needed."""
        while True:
            one, other = resolve(one), resolve(other)
            pairs = zip(one, other, strict=False)
            pair = next((pair for pair in pairs if pair[0] is not pair[1]), None)
            if pair is None:
                break
            small, large = sorted(pair, key=lambda piece: piece.source)
            if (small.source, small.target) == (large.source, large.target):
                large.pinned_by = large.pinned_by or small.pinned_by
                small.parts = (large,)
            elif small.source < large.source and small.target < large.target:
                large.split(small.source, small.target)
            else:
                raise self._refusal(f"{node.name} joins channels that do not correspond")
        if len(one) != len(other):
            raise self._refusal(f"{node.name} joins channels that do not correspond")

    def _refusal(self, reason: str) -> UserError:
        return refusal(self.source.name, self.target.name, reason)


def refusal(source: str, target: str, reason: str) -> UserError:
    """The error of a target that cannot start from a source."""
    return UserError(
        f"{target} cannot start from {source}: {reason}; choose weights of a network that is built "
        "alike, or none"
    )


def _is_plain(op: ops.Op) -> bool:
    return isinstance(op, ops.Conv) and op.groups == 1


def _is_pooled(spec: ArchSpec, node: Node) -> bool:
    """Whether a reshaped tensor has one value for each channel, as in channel attention."""
    index = node.inputs[0]
    shape = spec.graph.nodes[index].shape if index >= 0 else spec.input_shape
    return max(shape) == np.prod(shape)


def find_layouts(source: ArchSpec, target: ArchSpec, matches: Mapping[str, str]) -> Layouts:
    """The channels of all tensors of a target.

    Args:
      source: the network whose weights are taken, at the input size of the target.
      target: the network that receives them.
      matches: see `matching.match_nodes`.

    Raises:
      UserError: the structures do not fit each other.
    """
    layouts = _Walk(source, target, matches).run()
    for layout in layouts.outputs[:-1]:
        for piece in resolve(layout or ()):
            if piece.pinned_by is not None and piece.source != piece.target:
                reason = f"{piece.pinned_by} needs all {piece.source} channels in their order"
                raise refusal(source.name, target.name, reason)
    return layouts

"""The cell of NASNet, AmoebaNet, PNASNet and DARTS: a searched graph of small operations.

A genotype is a line of text, so that it reads as in the papers, compares and goes into JSON::

    s5 0 + s3 1, a3 0 + id 1, m3 2 + s3 0 -> 1 3 4

State 0 is the output of the cell before, state 1 of the one before that (DARTS numbers these two
the other way round), each brought to the cell's width. Every comma closes a new state, from 2 on:
the sum of two operations, each on an earlier state. Behind the arrow stand the states whose
concatenation is the cell's output.

=====  ============================================================================================
s5     separable 5x5 convolution, twice: (activation, depthwise, 1x1, batch normalisation) x 2
d3     the same once, its depthwise convolution dilated by 2
m3 a3  maximum, average of each 3x3 window
id     identity; at stride 2 or another width: activation, 1x1, batch normalisation
skip   identity; at stride 2: factorised reduction
c1     activation, 1x1 convolution, batch normalisation
c3 c7  bottleneck of a quarter of the width around a 3x3 convolution, or a 1x7 and a 7x1
=====  ============================================================================================

Sources: arXiv 1707.07012, 1802.01548, 1712.00559 (and their authors' TensorFlow code), 1806.09055.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor

_BOTTLENECK = 4


@dataclass(frozen=True)
class Gene:
    """An operation and the state that it reads."""

    operation: str
    state: int


@dataclass(frozen=True)
class Genotype:
    """A parsed genotype: a pair of genes for each state from 2 on, and the output's states."""

    pairs: tuple[tuple[Gene, Gene], ...]
    output: tuple[int, ...]


@cache
def parse(text: str) -> Genotype:
    """Reads the notation above; ValueError where it is not followed."""
    body, _, output = text.partition("->")
    pairs = []
    for pair in body.split(","):
        left, right = pair.split("+")
        pairs.append((_gene(left), _gene(right)))
    return Genotype(tuple(pairs), tuple(map(int, output.split())))


def _gene(text: str) -> Gene:
    operation, state = text.split()
    return Gene(operation, int(state))


@dataclass(frozen=True)
class Cell(Block):
    """A cell behind the block before it and the one named ``previous``.

    Attributes:
      genotype: see the module.
      filters: channels of every state; the output has as many times more as states are joined.
      stride: 2 for a reduction cell: of the operations that read the two inputs.
      previous: name of the block whose output becomes state 1; None for the first cell, which
        reads its one input, unprojected, as both.
      project: whether state 1 passes a 1x1 convolution even where its shape fits (DARTS).
    """

    genotype: str
    filters: int
    stride: int = 1
    previous: str | None = None
    project: bool = False
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), joined states * filters)."""
        genotype = parse(self.genotype)
        before = x if self.previous is None else self._matched(graph, x)
        states = [self._projected(graph, f"{self.name}_input", x), before]
        for number, pair in enumerate(genotype.pairs, start=2):
            branches = [
                self._operation(
                    graph,
                    f"{self.name}_state{number}{side}",
                    gene.operation,
                    states[gene.state],
                    self.stride if gene.state < 2 else 1,
                )
                for side, gene in zip("ab", pair, strict=True)
            ]
            states.append(graph.apply(f"{self.name}_state{number}_add", ops.Add(), *branches))
        joined = []
        for number in genotype.output:
            state = states[number]
            if state.shape[:2] != states[-1].shape[:2]:
                state = self._reduced(graph, f"{self.name}_output{number}", state)
            joined.append(state)
        return graph.apply(f"{self.name}_concat", ops.Concat(), *joined)

    def _matched(self, graph: Graph, x: Tensor) -> Tensor:
        """State 1: the output of the block ``previous``, in the size of ``x``."""
        assert self.previous is not None
        previous, name = graph.outputs[self.previous], f"{self.name}_previous"
        if previous.shape[:2] != x.shape[:2]:
            return self._reduced(graph, name, self._activated(graph, name, previous))
        if previous.channels != self.filters or self.project:
            return self._projected(graph, name, previous)
        return previous

    def _operation(self, graph: Graph, name: str, kind: str, x: Tensor, stride: int) -> Tensor:
        same = stride == 1 and x.channels == self.filters
        if kind in ("id", "skip") and same:
            return x
        if kind == "skip":
            return self._reduced(graph, name, self._activated(graph, name, x))
        if kind in ("id", "c1"):
            return self._projected(graph, name, x, stride)
        letter, size = kind[0], int(kind[1:])
        if letter == "s":
            x = self._separable(graph, f"{name}_1", x, size, stride)
            return self._separable(graph, f"{name}_2", x, size, 1)
        if letter == "d":
            return self._separable(graph, name, x, size, stride, dilation=2)
        if letter == "c":
            return self._bottleneck(graph, name, x, size, stride)
        pool = {"m": ops.MaxPool, "a": ops.AveragePool}[letter](size, stride)
        x = graph.apply(f"{name}_pool", pool, x)
        return x if x.channels == self.filters else graph.conv_bn(name, x, self.filters)

    def _activated(self, graph: Graph, name: str, x: Tensor) -> Tensor:
        return graph.activate(f"{name}_pre", x, self.activation)

    def _projected(self, graph: Graph, name: str, x: Tensor, stride: int = 1) -> Tensor:
        x = self._activated(graph, name, x)
        return graph.conv_bn(name, x, self.filters, stride=stride)

    def _separable(
        self, graph: Graph, name: str, x: Tensor, kernel: int, stride: int, dilation: int = 1
    ) -> Tensor:
        x = self._activated(graph, name, x)
        x = graph.apply(f"{name}_dwconv", ops.DepthwiseConv(kernel, stride, dilation), x)
        return graph.conv_bn(name, x, self.filters)

    def _bottleneck(self, graph: Graph, name: str, x: Tensor, size: int, stride: int) -> Tensor:
        narrow = max(1, self.filters // _BOTTLENECK)
        windows: dict[int, tuple[tuple[tuple[int, int], tuple[int, int]], ...]] = {
            3: (((3, 3), (stride, stride)),),
            7: (((1, 7), (1, stride)), ((7, 1), (stride, 1))),
        }
        x = self._activated(graph, f"{name}_reduce", x)
        x = graph.conv_bn(f"{name}_reduce", x, narrow)
        for step, (kernel, strides) in enumerate(windows[size], start=1):
            x = self._activated(graph, f"{name}_{step}", x)
            x = graph.apply(f"{name}_{step}_conv", ops.Conv(narrow, kernel, strides), x)
            x = graph.bn_activation(f"{name}_{step}", x, None)
        x = self._activated(graph, f"{name}_expand", x)
        return graph.conv_bn(f"{name}_expand", x, self.filters)

    def _reduced(self, graph: Graph, name: str, x: Tensor) -> Tensor:
        """Factorised reduction: half the channels from the even pixels, half from the odd ones."""
        height, width, _ = x.shape
        half = self.filters // 2
        even = graph.apply(f"{name}_even_conv", ops.Conv(half, 1, 2), x)
        if height % 2 or width % 2:  # else no sample falls on the padding
            x = graph.apply(f"{name}_pad", ops.Pad((0, height % 2), (0, width % 2)), x)
        x = graph.apply(f"{name}_shift", ops.Crop(1, 1), x)
        odd = graph.apply(f"{name}_odd_conv", ops.Conv(self.filters - half, 1, 2), x)
        x = graph.apply(f"{name}_halves", ops.Concat(), even, odd)
        return graph.bn_activation(name, x, None)


@dataclass(frozen=True)
class ActivationBlock(Block):
    """A pointwise function alone, as between the last cell and the classifier."""

    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return graph.activate(self.name, x, self.activation)

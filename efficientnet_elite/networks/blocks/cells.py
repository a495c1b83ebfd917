"""The cells of NASNet, AmoebaNet, PNASNet and DARTS: graphs of operations found by a search.

The structure of a cell is its genotype, a line of text that is stored in a spec's JSON, such as::

    s5 0 + s3 1, a3 0 + id 1, m3 2 + s3 0 -> 1 3 4

State 0 is the output of the previous cell and state 1 the output of the cell before that one (DARTS
numbers these two the other way round). Both are brought to the width of the cell first. Each part
between commas makes one new state, numbered from 2: the sum of two operations, each on the earlier
state whose number follows it. The output of the cell is the concatenation of the states listed
after the arrow. The operations are:

=====  ============================================================================================
s5     twice: activation, 5x5 depthwise convolution, 1x1 convolution, batch normalisation
d3     the same once, with a 3x3 depthwise convolution of dilation 2
m3 a3  max pooling or average pooling with a 3x3 window
id     identity; at stride 2 or another width: activation, 1x1 convolution, batch normalisation
skip   identity; at stride 2: activation and factorised reduction
c1     activation, 1x1 convolution, batch normalisation
c3 c7  bottleneck with a quarter of the channels, around a 3x3 or a 1x7 and a 7x1 convolution
=====  ============================================================================================

The number in s, d, m and a is the side of the window in pixels; any size is allowed.

Sources: arXiv 1707.07012, 1802.01548 and 1712.00559 with the TensorFlow code of their authors, and
1806.09055.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor

_BOTTLENECK = 4  # factor by which a bottleneck reduces the channels
_POOLS: dict[str, type[ops.MaxPool] | type[ops.AveragePool]] = {
    "m": ops.MaxPool,
    "a": ops.AveragePool,
}


@dataclass(frozen=True)
class Gene:
    """An operation of a genotype and the number of the state that it reads."""

    operation: str
    state: int


@dataclass(frozen=True)
class Genotype:
    """A parsed genotype.

    Attributes:
      pairs: for each state from 2 on, the two genes whose outputs are added.
      output: numbers of the states whose concatenation is the output of the cell.
    """

    pairs: tuple[tuple[Gene, Gene], ...]
    output: tuple[int, ...]


@cache
def parse_genotype(text: str) -> Genotype:
    """Reads the notation of this module; ValueError if the text does not follow it."""
    states, _, output = text.partition("->")
    pairs = []
    for state in states.split(","):
        left, right = state.split("+")
        pairs.append((_parse_gene(left), _parse_gene(right)))
    return Genotype(tuple(pairs), tuple(map(int, output.split())))


def _parse_gene(text: str) -> Gene:
    operation, state = text.split()
    return Gene(operation, int(state))


@dataclass(frozen=True)
class Cell(Block):
    """A cell, which reads the output of the block before it and of the block ``previous``.

    Attributes:
      genotype: structure of the cell, in the notation of this module.
      filters: channels of every state. The output has ``filters`` channels for each state that is
        concatenated.
      stride: of the operations that read states 0 and 1; 2 in a reduction cell.
      previous: name of the block whose output becomes state 1. None in the first cell of a
        network: its only input then becomes state 1 as it is, without a projection.
      project: whether state 1 always passes a 1x1 convolution, even if its shape fits (DARTS).
      activation: name of the activation.
    """

    depthwise_kernels: ClassVar[tuple[str, ...] | None] = None

    genotype: str
    filters: int
    stride: int = 1
    previous: str | None = None
    project: bool = False
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), output states * filters)."""
        genotype = parse_genotype(self.genotype)
        state_1 = x if self.previous is None else self._matched_previous(graph, x)
        states = [self._projected(graph, f"{self.name}_input", x), state_1]
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
        outputs = []
        for number in genotype.output:
            state = states[number]
            if state.shape[:2] != states[-1].shape[:2]:
                state = self._reduced(graph, f"{self.name}_output{number}", state)
            outputs.append(state)
        return graph.apply(f"{self.name}_concat", ops.Concat(), *outputs)

    def _matched_previous(self, graph: Graph, x: Tensor) -> Tensor:
        """State 1: the output of the block ``previous``, with the height and width of ``x``."""
        assert self.previous is not None
        previous, name = graph.outputs[self.previous], f"{self.name}_previous"
        if previous.shape[:2] != x.shape[:2]:
            return self._reduced(graph, name, self._activated(graph, name, previous))
        if previous.channels != self.filters or self.project:
            return self._projected(graph, name, previous)
        return previous

    def _operation(self, graph: Graph, name: str, kind: str, x: Tensor, stride: int) -> Tensor:
        """One operation of a genotype, such as ``s5``, applied to a state."""
        same_shape = stride == 1 and x.channels == self.filters
        if kind in ("id", "skip") and same_shape:
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
        x = self._pooled(graph, name, letter, x, size, stride)
        return x if x.channels == self.filters else graph.conv_bn(name, x, self.filters)

    def _pooled(
        self, graph: Graph, name: str, letter: str, x: Tensor, size: int, stride: int
    ) -> Tensor:
        """Max pooling (letter m) or average pooling (letter a); padding never counts."""
        return graph.apply(f"{name}_pool", _POOLS[letter](size, stride), x)

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
        # Kernels and strides, (height, width), of the convolutions inside the bottleneck.
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
        """Factorised reduction, which halves height and width.

        Half of the output channels come from the pixels of even rows and columns, the other half
        from those of odd rows and columns.
        """
        height, width, _ = x.shape
        half = self.filters // 2
        even = graph.apply(f"{name}_even_conv", ops.Conv(half, 1, 2), x)
        if height % 2 or width % 2:  # with even sizes no output would read the padding
            x = graph.apply(f"{name}_pad", ops.Pad((0, height % 2), (0, width % 2)), x)
        x = graph.apply(f"{name}_shift", ops.Crop(1, 1), x)
        odd = graph.apply(f"{name}_odd_conv", ops.Conv(self.filters - half, 1, 2), x)
        x = graph.apply(f"{name}_halves", ops.Concat(), even, odd)
        return graph.bn_activation(name, x, None)


@dataclass(frozen=True)
class ZeroPaddedCell(Cell):
    """A cell whose strided poolings count padded positions as zeros.

    NASNetMobile of keras.applications is built and trained with such cells. Its other poolings, of
    stride 1, leave padded positions out, as those of `Cell` do.
    """

    def _pooled(
        self, graph: Graph, name: str, letter: str, x: Tensor, size: int, stride: int
    ) -> Tensor:
        if stride == 1:
            return super()._pooled(graph, name, letter, x, size, stride)
        after = size // 2
        top, left = (after - 1 + side % 2 for side in x.shape[:2])  # the padding named ``same``
        x = graph.apply(f"{name}_pad", ops.Pad((top, after), (left, after)), x)
        return graph.apply(f"{name}_pool", _POOLS[letter](size, stride, "valid"), x)


@dataclass(frozen=True)
class ActivationBlock(Block):
    """A single activation, as between the last cell and the classifier."""

    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape (h, w, c)."""
        return graph.activate(self.name, x, self.activation)

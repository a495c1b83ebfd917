"""CondenseNet's layers (arXiv 1711.09224) and CondenseNeXt's (arXiv 2112.00698).

Each has two forms. In training a dense convolution learns which channels its filters keep;
deployed, an index layer takes those channels to a group convolution (CondenseNet) or a depthwise
one (CondenseNeXt). Deployed is the default, with channels evenly spread until training has chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor

_BOTTLENECK = 4  # width of the first convolution in growths
_NEXT_STAGES = 8  # in which CondenseNeXt drops connections
_NEXT_KEPT = 2  # connections that CondenseNeXt keeps for each input channel


@dataclass(frozen=True)
class PlainConv(Block):
    """3x3 convolution alone: the stem of networks that normalise in front of convolutions."""

    filters: int
    stride: int = 1

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        return graph.apply(f"{self.name}_conv", ops.Conv(self.filters, 3, self.stride), x)


@dataclass(frozen=True)
class Norm(Block):
    """Batch normalisation and activation alone: what such networks end with."""

    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return graph.bn_activation(self.name, x, self.activation)


@dataclass(frozen=True)
class LearnedBlock(Block):
    """A block with a training form.

    Attributes:
      kept: numbers of the channels that the index layer takes; None until training has chosen.
      learning: whether this is the training form.
    """

    kept: tuple[int, ...] | None = field(default=None, kw_only=True)
    learning: bool = field(default=False, kw_only=True)

    def learned(self, channels: int) -> ops.LearnedConv:
        """The convolution of the training form, on so many input channels."""
        raise NotImplementedError

    @property
    def learned_name(self) -> str:
        """Name of that convolution's node."""
        return f"{self.name}_learned"

    def order(self, groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The index layer's numbers from the channels that each group of filters keeps."""
        return tuple(chain.from_iterable(groups))

    def select(self, graph: Graph, x: Tensor) -> Tensor:
        """Draws the index layer."""
        kept = self.kept
        if kept is None:
            left = self.learned(x.channels)
            kept = self.order(_spread(x.channels, left.left(x.channels, left.stages)))
        return graph.apply(f"{self.name}_select", ops.Select(kept), x)


def _spread(channels: int, left: Sequence[int]) -> list[list[int]]:
    """For each group as many channels as it keeps, evenly spread and not the same for all."""
    return [
        [(group + channels // count * number) % channels for number in range(count)]
        for group, count in enumerate(left)
    ]


@dataclass(frozen=True)
class CondenseLayer(LearnedBlock):
    """Index layer -> 1x1 group convolution -> shuffle -> 3x3 group convolution -> concat.

    Batch normalisation and activation stand in front of both convolutions. In training the 1x1
    convolution is dense, and each of its groups keeps one in ``condensation`` input channels.

    Attributes:
      growth: channels that it adds; a multiple of ``groups``.
      groups: of both convolutions.
      condensation: the paper's C; divides the input channels.
    """

    growth: int
    groups: int
    condensation: int
    activation: str = "relu"

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`."""
        if channels % self.condensation:
            raise ValueError(f"{channels} channels do not condense to one in {self.condensation}")
        return ops.LearnedConv(
            _BOTTLENECK * self.growth,
            kept=self.groups * channels // self.condensation,
            stages=self.condensation - 1,
            groups=self.groups,
        )

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, c + growth)."""
        name, learned = self.name, self.learned(x.channels)
        y = x if self.learning else self.select(graph, x)
        y = graph.bn_activation(f"{name}_in", y, self.activation)
        if self.learning:
            y = graph.apply(self.learned_name, learned, y)
        else:
            conv = ops.Conv(learned.filters, 1, groups=self.groups)
            y = graph.apply(f"{name}_reduce_conv", conv, y)
            y = graph.channel_shuffle(f"{name}_shuffle", y, self.groups)
        y = graph.bn_activation(f"{name}_out", y, self.activation)
        y = graph.apply(f"{name}_conv", ops.Conv(self.growth, 3, groups=self.groups), y)
        return graph.apply(f"{name}_concat", ops.Concat(), x, y)


@dataclass(frozen=True)
class CondenseNextLayer(LearnedBlock):
    """Index layer -> 3x3 depthwise convolution -> sums of maps -> 3x3 group convolution -> concat.

    Batch normalisation and activation stand in front of the last convolution alone. In training a
    dense 3x3 convolution keeps two connections for each input channel. The released code ranks them
    over all filters, so that some may lose all; here filters keep equally many (but for one), and
    the sums are a reshape and a sum instead of a 1x1 convolution with a matrix of zeros and ones.

    Attributes:
      growth: channels that it adds; a multiple of ``groups``.
      groups: of the last convolution.
    """

    growth: int
    groups: int = 4
    activation: str = "relu6"

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`; each filter is a group."""
        filters = _BOTTLENECK * self.growth
        kept = _NEXT_KEPT * channels
        return ops.LearnedConv(filters, kept, _NEXT_STAGES, kernel=3, groups=filters)

    def order(self, groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The first channel of every filter, then the second, ..., as `ops.FoldChannels` sums."""
        rounds = zip_longest(*groups)
        return tuple(channel for turn in rounds for channel in turn if channel is not None)

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, c + growth)."""
        name, learned = self.name, self.learned(x.channels)
        if self.learning:
            y = graph.apply(self.learned_name, learned, x)
        else:
            y = graph.apply(f"{name}_dwconv", ops.DepthwiseConv(3), self.select(graph, x))
            y = graph.apply(f"{name}_fold", ops.FoldChannels(learned.filters), y)
        y = graph.bn_activation(f"{name}_out", y, self.activation)
        y = graph.apply(f"{name}_conv", ops.Conv(self.growth, 3, groups=self.groups), y)
        return graph.apply(f"{name}_concat", ops.Concat(), x, y)


@dataclass(frozen=True)
class CondensedClassifier(LearnedBlock):
    """Global average pool, index layer that keeps half of the features, fully connected layer.

    CondenseNet's authors drop the half with the smallest weights after training; here they go when
    the other layers' last channels go, so that what is deployed is what was trained.
    """

    top: ClassVar[bool] = True

    classes: int

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`; of a single pixel."""
        kept = channels // 2
        return ops.LearnedConv(self.classes, kept, stages=1, bias=True, classifier=True)

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        if self.learning:
            x = graph.apply("avg_pool", ops.GlobalAveragePool(keepdims=True), x)
            x = graph.apply(self.learned_name, self.learned(x.channels), x)
            return graph.apply(self.name, ops.Reshape((self.classes,)), x)
        x = graph.apply("avg_pool", ops.GlobalAveragePool(), x)
        return graph.apply(self.name, ops.Dense(self.classes), self.select(graph, x))

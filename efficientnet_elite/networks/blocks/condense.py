"""Layers of CondenseNet (arXiv 1711.09224) and CondenseNeXt (arXiv 2112.00698).

Each layer has two forms. In the training form, a dense convolution learns which input channels its
filters need. In the deployed form, an index layer selects these channels for a group convolution
(CondenseNet) or a depthwise convolution (CondenseNeXt). The deployed form is the default. Until
training has chosen the channels, it selects evenly spread ones, so that shapes and costs are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.graph import Graph, Tensor

_BOTTLENECK = 4  # output channels of the learned convolution, as a multiple of the growth
_NEXT_STAGES = 8  # number of times that CondenseNeXt drops connections
_NEXT_CONNECTIONS = 2  # connections that CondenseNeXt keeps for each input channel


@dataclass(frozen=True)
class PlainConv(Block):
    """A single 3x3 convolution without bias: the stem of CondenseNet and CondenseNeXt.

    Normalisation and activation stand before the convolutions of these networks, not after them.
    """

    filters: int
    stride: int = 1

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        return graph.apply(f"{self.name}_conv", ops.Conv(self.filters, 3, self.stride), x)


@dataclass(frozen=True)
class Norm(Block):
    """Batch normalisation and activation, as after the last layer of these networks."""

    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps the shape (h, w, c)."""
        return graph.bn_activation(self.name, x, self.activation)


@dataclass(frozen=True)
class LearnedBlock(Block):
    """A block that has a training form and a deployed form.

    Attributes:
      kept: input channels that the index layer of the deployed form selects, in its order; None
        until training has chosen them.
      learning: whether this is the training form.
    """

    kept: tuple[int, ...] | None = field(default=None, kw_only=True)
    learning: bool = field(default=False, kw_only=True)

    def learned(self, channels: int) -> ops.LearnedConv:
        """The learned convolution of the training form.

        Args:
          channels: channels of its input.

        Raises:
          ValueError: the block cannot be made for so many channels.
        """
        raise NotImplementedError

    @property
    def learned_name(self) -> str:
        """Name of the node of the learned convolution."""
        return f"{self.name}_learned"

    def select_order(self, channels_by_group: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The channels in the order in which the index layer selects them.

        Args:
          channels_by_group: the input channels that each group of filters reads.
        """
        return tuple(chain.from_iterable(channels_by_group))

    def select(self, graph: Graph, x: Tensor) -> Tensor:
        """Adds the index layer and returns its output, (h, w, selected channels)."""
        selected = self.kept
        if selected is None:
            learned = self.learned(x.channels)
            counts = learned.channels_left(x.channels, learned.stages)
            selected = self.select_order(_evenly_spread(x.channels, counts))
        return graph.apply(f"{self.name}_select", ops.Select(selected), x)


def _evenly_spread(channels: int, counts: Sequence[int]) -> list[list[int]]:
    """For each group ``counts[group]`` of the channels, evenly spread and shifted by the group."""
    return [
        [(group + channels // count * number) % channels for number in range(count)]
        for group, count in enumerate(counts)
    ]


@dataclass(frozen=True)
class CondenseLayer(LearnedBlock):
    """A layer of CondenseNet (arXiv 1711.09224, section 3).

    Deployed: index layer, 1x1 group convolution, channel shuffle, 3x3 group convolution; the output
    is concatenated with the input. Batch normalisation and activation stand before both
    convolutions. In training the 1x1 convolution is dense, and each of its groups of filters comes
    to read one in ``condensation`` input channels.

    Attributes:
      growth: channels that the layer adds; a multiple of ``groups``.
      groups: of both convolutions.
      condensation: the condensation factor C of the paper; divides the input channels.
      activation: name of the activation.
    """

    growth: int
    groups: int
    condensation: int
    activation: str = "relu"

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`."""
        if channels % self.condensation:
            raise ValueError(
                f"{channels} channels cannot be divided by the condensation {self.condensation}"
            )
        return ops.LearnedConv(
            _BOTTLENECK * self.growth,
            connections=self.groups * channels // self.condensation,
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
    """A layer of CondenseNeXt (arXiv 2112.00698).

    Deployed: index layer, 3x3 depthwise convolution, sums of its output channels
    (`ops.FoldChannels`), 3x3 group convolution; the output is concatenated with the input. Batch
    normalisation and activation stand before the last convolution only. In training a dense 3x3
    convolution takes the place of the index layer and the depthwise convolution; two connections
    for each input channel remain of it.

    There are two differences to the code that the authors released. They rank connections over all
    filters, so that a filter may lose all of its connections; here the filters keep the same number
    of connections, or one less. They sum channels by a 1x1 convolution with a matrix of zeros and
    ones; here a reshape and a sum do it.

    Attributes:
      growth: channels that the layer adds; a multiple of ``groups``.
      groups: of the last convolution.
      activation: name of the activation.
    """

    growth: int
    groups: int = 4
    activation: str = "relu6"

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`; each filter is a group of its own."""
        filters = _BOTTLENECK * self.growth
        connections = _NEXT_CONNECTIONS * channels
        return ops.LearnedConv(filters, connections, _NEXT_STAGES, kernel=3, groups=filters)

    def select_order(self, channels_by_group: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The first channel of every filter, then the second, and so on.

        In this order `ops.FoldChannels` sums the channels of the same filter.
        """
        nth_channels = zip_longest(*channels_by_group)
        return tuple(channel for nth in nth_channels for channel in nth if channel is not None)

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
    """CondenseNet's classifier, which reads only half of the features.

    Deployed: global average pooling, index layer, fully connected layer. The authors drop the half
    of the features with the smallest weights after training. Here they are dropped during training,
    at the last stage of the other layers, so that the deployed network is the trained one.

    Attributes:
      classes: number of logits.
    """

    top: ClassVar[bool] = True

    classes: int

    def learned(self, channels: int) -> ops.LearnedConv:
        """See `LearnedBlock.learned`; its input has a single pixel."""
        return ops.LearnedConv(
            self.classes, connections=channels // 2, stages=1, bias=True, classifier=True
        )

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (classes,)."""
        if self.learning:
            x = graph.apply("avg_pool", ops.GlobalAveragePool(keepdims=True), x)
            x = graph.apply(self.learned_name, self.learned(x.channels), x)
            return graph.apply(self.name, ops.Reshape((self.classes,)), x)
        x = graph.apply("avg_pool", ops.GlobalAveragePool(), x)
        return graph.apply(self.name, ops.Dense(self.classes), self.select(graph, x))

"""Units of segmentation networks: ESPNet's pyramid and decoder (arXiv 1803.06815), LR-ASPP
(arXiv 1905.02244), ESPNetv2's decoder (arXiv 1811.11431 and its authors' EdgeNets code).

The last block's output are logits for each pixel of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd
from typing import ClassVar

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks.base import Block
from efficientnet_elite.networks.blocks.esp import pooled_image
from efficientnet_elite.networks.graph import Graph, Tensor

_DILATIONS = (1, 2, 4, 8, 16)
_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
_LEAST_SIDE = 5  # pixels of a scaled map
_PYRAMID_CHANNELS = 16


@dataclass(frozen=True)
class ESP(Block):
    """Efficient spatial pyramid: a narrow map seen by 3x3 convolutions of five dilations.

    1x1 convolution (3x3 at stride 2) to a fifth of the channels -> a convolution of each dilation,
    the first one taking what the division left over -> each added to the next, but the first
    (hierarchical feature fusion) -> concat -> residual where asked for and stride is 1.
    """

    filters: int
    stride: int = 1
    residual: bool = True
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        dilations = _DILATIONS[: self.filters]  # a decoder of few classes has few channels
        branch = self.filters // len(dilations)
        first = self.filters - branch * (len(dilations) - 1)
        narrow = ops.Conv(branch, 1 if self.stride == 1 else 3, self.stride)
        y = graph.apply(f"{self.name}_reduce_conv", narrow, x)
        fused: list[Tensor] = []
        for number, dilation in enumerate(dilations):
            conv = ops.Conv(first if number == 0 else branch, 3, dilation=dilation)
            seen = graph.apply(f"{self.name}_branch{number}_conv", conv, y)
            if number > 1:
                seen = graph.apply(f"{self.name}_fuse{number}", ops.Add(), seen, fused[-1])
            fused.append(seen)
        y = graph.apply(f"{self.name}_concat", ops.Concat(), *fused)
        if self.residual and self.stride == 1:
            y = graph.apply(f"{self.name}_add", ops.Add(), y, x)
        return graph.bn_activation(self.name, y, self.activation)


@dataclass(frozen=True)
class Join(Block):
    """Concatenates earlier blocks' outputs, and the image at their size where ``image`` is set.

    Normalised and activated part by part, which is the same as behind the concatenation but for
    int8: there pooling and concatenation keep their inputs' scale, so the image's would be forced
    on all the others.
    """

    others: tuple[str, ...]
    image: bool = False
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Keeps height and width; channels add up."""
        parts = [x, *(graph.outputs[other] for other in self.others)]
        if self.image:
            parts.append(pooled_image(graph, x))
        return joined(graph, self.name, parts, self.activation)


def joined(graph: Graph, name: str, parts: Sequence[Tensor], activation: str) -> Tensor:
    """Each part normalised and activated, then all of them behind each other."""
    ready = [
        graph.bn_activation(f"{name}_part{number}", part, activation)
        for number, part in enumerate(parts)
    ]
    return graph.apply(f"{name}_concat", ops.Concat(), *ready)


@dataclass(frozen=True)
class PixelClassifier(Block):
    """1x1 convolution without bias: the logits at the map's own resolution."""

    top: ClassVar[bool] = True

    classes: int

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, classes)."""
        return graph.apply(self.name, ops.Conv(self.classes, 1), x)


@dataclass(frozen=True)
class ESPDecoder(Block):
    """From an encoder's logits to those of the whole image, in three doublings.

    Attributes:
      classes: number of logits a pixel.
      quarter, half: names of the blocks whose maps, of a quarter and half the image's side, are
        joined to the doubled logits.
    """

    top: ClassVar[bool] = True

    classes: int
    quarter: str
    half: str
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, classes) to (8 h, 8 w, classes)."""
        name, act, double = self.name, self.activation, ops.TransposeConv(self.classes)
        x = graph.bn_activation(f"{name}_encoder", x, None)
        x = graph.apply(f"{name}_up1_conv", double, x)
        side = graph.outputs[self.quarter]
        side = graph.apply(f"{name}_quarter_conv", ops.Conv(self.classes, 1), side)
        x = joined(graph, f"{name}_quarter", (side, x), act)
        x = ESP(f"{name}_esp", self.classes, residual=False, activation=act).draw(graph, x)
        x = graph.apply(f"{name}_up2_conv", double, x)
        x = graph.bn_activation(f"{name}_up2", x, act)
        x = graph.apply(f"{name}_half_concat", ops.Concat(), graph.outputs[self.half], x)
        x = graph.conv_bn(f"{name}_half", x, self.classes, 3, activation=act)
        return graph.apply(f"{name}_up3_conv", double, x)


@dataclass(frozen=True)
class LRASPP(Block):
    """Lite reduced atrous spatial pyramid pooling, and logits at the image's own resolution.

    A 1x1 convolution gated by a pooled one -> resize to the map of the block ``low`` -> sum of both
    maps' logits -> resize to the image.
    """

    top: ClassVar[bool] = True

    classes: int
    low: str
    filters: int = 128
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (image height, image width, classes)."""
        name, logits = self.name, ops.Conv(self.classes, 1, bias=True)
        gate = graph.apply(f"{name}_pool", ops.GlobalAveragePool(keepdims=True), x)
        gate = graph.apply(f"{name}_gate_conv", ops.Conv(self.filters, 1), gate)
        gate = graph.apply(f"{name}_gate", ops.Activation("sigmoid"), gate)
        x = graph.conv_bn(name, x, self.filters, activation=self.activation)
        x = graph.apply(f"{name}_gated", ops.Multiply(), x, gate)
        low = graph.outputs[self.low]
        x = graph.apply(f"{name}_resize", ops.Resize(*low.shape[:2]), x)
        x = graph.apply(f"{name}_high_logits", logits, x)
        low = graph.apply(f"{name}_low_logits", logits, low)
        x = graph.apply(f"{name}_sum", ops.Add(), x, low)
        return graph.apply(f"{name}_logits", ops.Resize(*graph.image.shape[:2]), x)


@dataclass(frozen=True)
class PyramidDecoder(Block):
    """ESPNetv2's decoder: pyramid poolings with finer maps coming in, to the image's resolution.

    Attributes:
      classes: number of logits a pixel.
      finer: names of the blocks whose maps join, the coarsest first, each twice the side before.
      filters: channels before each of them joins.
    """

    top: ClassVar[bool] = True

    classes: int
    finer: tuple[str, ...]
    filters: tuple[int, ...] = (64, 48, 32)
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (image height, image width, classes)."""
        for number, (other, filters) in enumerate(zip(self.finer, self.filters, strict=True)):
            name = f"{self.name}_{number}"
            x = self._pyramid(graph, f"{name}_pyramid", x, filters)
            x = graph.bn_activation(f"{name}_pyramid", x, self.activation)
            fine = self._weighted(graph, f"{name}_finer", graph.outputs[other], filters)
            x = graph.apply(f"{name}_resize", ops.Resize(*fine.shape[:2]), x)
            x = graph.apply(f"{name}_add", ops.Add(), x, fine)
            x = graph.bn_activation(name, x, self.activation)
        x = self._pyramid(graph, f"{self.name}_last", x, self.classes, bias=True)
        return graph.apply(f"{self.name}_logits", ops.Resize(*graph.image.shape[:2]), x)

    def _pyramid(
        self, graph: Graph, name: str, x: Tensor, filters: int, bias: bool = False
    ) -> Tensor:
        """Depthwise convolutions of the map at several sizes, each channel's merged by another."""
        height, width, _ = x.shape
        narrow = max(1, min(self.classes // 2, _PYRAMID_CHANNELS))
        x = graph.conv_bn(f"{name}_reduce", x, narrow, activation=self.activation)
        seen = []
        for number, scale in enumerate(_SCALES):
            sides = (max(_LEAST_SIDE, ceil(side * scale)) for side in (height, width))
            y = _resampled(graph, f"{name}_scale{number}_resize", x, *sides)
            y = graph.apply(f"{name}_scale{number}_dwconv", ops.DepthwiseConv(3), y)
            seen.append(_resampled(graph, f"{name}_scale{number}_return", y, height, width))
        y = joined(graph, name, seen, self.activation)
        y = graph.channel_shuffle(f"{name}_shuffle", y, len(_SCALES))
        y = graph.conv_bn(f"{name}_merge", y, narrow, 3, 1, self.activation, groups=narrow)
        return graph.apply(f"{name}_expand_conv", ops.Conv(filters, 1, bias=bias), y)

    def _weighted(self, graph: Graph, name: str, x: Tensor, filters: int) -> Tensor:
        """A grouped convolution, gated by the pooled map."""
        gate = graph.apply(f"{name}_pool", ops.GlobalAveragePool(keepdims=True), x)
        gate = graph.apply(f"{name}_gate_conv", ops.Conv(filters, 1), gate)
        gate = graph.apply(f"{name}_gate", ops.Activation("sigmoid"), gate)
        groups = gcd(x.channels, filters)
        x = graph.conv_bn(name, x, filters, 3, 1, self.activation, groups=groups)
        return graph.apply(f"{name}_gated", ops.Multiply(), x, gate)


def _resampled(graph: Graph, name: str, x: Tensor, height: int, width: int) -> Tensor:
    """The map in another size: pooled where that halves it, else interpolated.

    The authors' code pools adaptively wherever a map shrinks. TFLite has no such operator; what
    stands for it there quantizes badly, and the network learns with either.
    """
    if x.shape[:2] == (height, width):
        return x
    if x.shape[:2] == (2 * height, 2 * width):
        return graph.apply(name, ops.AveragePool(2, 2), x)
    return graph.apply(name, ops.Resize(height, width), x)

"""Blocks of segmentation networks.

The pyramid unit and decoder of ESPNet (arXiv 1803.06815), the LR-ASPP head of MobileNetV3 (arXiv
1905.02244) and the decoder of ESPNetv2 (arXiv 1811.11431 and the EdgeNets code of its authors).

The output of the last block of such a network is the logits for each pixel, (h, w, classes).
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

_DILATIONS = (1, 2, 4, 8, 16)  # of the branches of ESPNet's pyramid unit
_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # of the maps in the pyramid poolings of ESPNetv2
_MIN_SIDE = 5  # smallest side in pixels of a scaled map in these poolings
_PYRAMID_CHANNELS = 16  # most channels of a scaled map


@dataclass(frozen=True)
class ESP(Block):
    """Efficient spatial pyramid (arXiv 1803.06815, section 3): ESPNet's pyramid unit.

    A 1x1 convolution (3x3 at stride 2) reduces the channels to a fifth. Five parallel 3x3
    convolutions of different dilations read its output. From the second branch on, the sum of the
    branches so far is the output of a branch (hierarchical feature fusion). The branches are
    concatenated, and the input is added if asked for.

    Attributes:
      filters: output channels. The first branch makes those that five branches cannot share.
      stride: 1 or 2.
      residual: whether the input is added, at stride 1.
      activation: name of the activation.
    """

    filters: int
    stride: int = 1
    residual: bool = True
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (ceil(h / stride), ceil(w / stride), filters)."""
        # A decoder for fewer than five classes has a branch for each of them.
        dilations = _DILATIONS[: self.filters]
        branch_filters = self.filters // len(dilations)
        first_filters = self.filters - branch_filters * (len(dilations) - 1)
        reduce = ops.Conv(branch_filters, 1 if self.stride == 1 else 3, self.stride)
        y = graph.apply(f"{self.name}_reduce_conv", reduce, x)
        fused: list[Tensor] = []
        for number, dilation in enumerate(dilations):
            filters = first_filters if number == 0 else branch_filters
            conv = ops.Conv(filters, 3, dilation=dilation)
            branch = graph.apply(f"{self.name}_branch{number}_conv", conv, y)
            if number > 1:
                branch = graph.apply(f"{self.name}_fuse{number}", ops.Add(), branch, fused[-1])
            fused.append(branch)
        y = graph.apply(f"{self.name}_concat", ops.Concat(), *fused)
        if self.residual and self.stride == 1:
            y = graph.apply(f"{self.name}_add", ops.Add(), y, x)
        return graph.bn_activation(self.name, y, self.activation)


@dataclass(frozen=True)
class Join(Block):
    """Concatenates the output of the block before it with the outputs of earlier blocks.

    Attributes:
      others: names of the earlier blocks.
      image: whether the input image, pooled to the same size, is concatenated too.
      activation: name of the activation.
    """

    others: tuple[str, ...]
    image: bool = False
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, sum of all channels)."""
        parts = [x, *(graph.outputs[other] for other in self.others)]
        if self.image:
            parts.append(pooled_image(graph, x))
        return _activated_concat(graph, self.name, parts, self.activation)


def _activated_concat(graph: Graph, name: str, parts: Sequence[Tensor], activation: str) -> Tensor:
    """Concatenates tensors after a batch normalisation and an activation of each.

    In float32 this equals normalising the concatenation. In int8 it does not: pooling and
    concatenation keep the scale of their inputs, so that all parts would have to share one scale.
    """
    activated = [
        graph.bn_activation(f"{name}_part{number}", part, activation)
        for number, part in enumerate(parts)
    ]
    return graph.apply(f"{name}_concat", ops.Concat(), *activated)


@dataclass(frozen=True)
class PixelClassifier(Block):
    """1x1 convolution without bias: logits at the resolution of its input.

    Attributes:
      classes: number of logits for each pixel.
    """

    top: ClassVar[bool] = True

    classes: int

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (h, w, classes)."""
        return graph.apply(self.name, ops.Conv(self.classes, 1), x)


@dataclass(frozen=True)
class ESPDecoder(Block):
    """ESPNet's decoder (arXiv 1803.06815).

    It enlarges the logits of the encoder from an eighth of the side of the image to the full side,
    by three transposed convolutions that each double height and width.

    Attributes:
      classes: number of logits for each pixel.
      quarter: name of the block whose output, at a quarter of the side of the image, is
        concatenated after the first doubling.
      half: name of the block whose output, at half the side of the image, is concatenated after the
        second doubling.
      activation: name of the activation.
    """

    top: ClassVar[bool] = True

    classes: int
    quarter: str
    half: str
    activation: str = "prelu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, classes) to (8 h, 8 w, classes)."""
        name, activation, double = self.name, self.activation, ops.TransposeConv(self.classes)
        x = graph.bn_activation(f"{name}_encoder", x, None)
        x = graph.apply(f"{name}_up1_conv", double, x)
        quarter = graph.outputs[self.quarter]
        quarter = graph.apply(f"{name}_quarter_conv", ops.Conv(self.classes, 1), quarter)
        x = _activated_concat(graph, f"{name}_quarter", (quarter, x), activation)
        x = ESP(f"{name}_esp", self.classes, residual=False, activation=activation).draw(graph, x)
        x = graph.apply(f"{name}_up2_conv", double, x)
        x = graph.bn_activation(f"{name}_up2", x, activation)
        x = graph.apply(f"{name}_half_concat", ops.Concat(), graph.outputs[self.half], x)
        x = graph.conv_bn(f"{name}_half", x, self.classes, 3, activation=activation)
        return graph.apply(f"{name}_up3_conv", double, x)


@dataclass(frozen=True)
class LRASPP(Block):
    """LR-ASPP: lite reduced atrous spatial pyramid pooling (arXiv 1905.02244, section 6).

    A 1x1 convolution, multiplied by a gate from the globally pooled input, is resized to the size
    of an earlier feature map. The logits of both maps are added and resized to that of the image.

    Attributes:
      classes: number of logits for each pixel.
      low: name of the block whose output is the earlier feature map.
      filters: output channels of the 1x1 convolution and its gate.
      activation: name of the activation.
    """

    top: ClassVar[bool] = True

    classes: int
    low: str
    filters: int = 128
    activation: str = "relu"

    def draw(self, graph: Graph, x: Tensor) -> Tensor:
        """Maps (h, w, c) to (image height, image width, classes)."""
        name, to_logits = self.name, ops.Conv(self.classes, 1, bias=True)
        gate = graph.apply(f"{name}_pool", ops.GlobalAveragePool(keepdims=True), x)
        gate = graph.apply(f"{name}_gate_conv", ops.Conv(self.filters, 1), gate)
        gate = graph.apply(f"{name}_gate", ops.Activation("sigmoid"), gate)
        x = graph.conv_bn(name, x, self.filters, activation=self.activation)
        x = graph.apply(f"{name}_gated", ops.Multiply(), x, gate)
        low = graph.outputs[self.low]
        x = graph.apply(f"{name}_resize", ops.Resize(*low.shape[:2]), x)
        x = graph.apply(f"{name}_high_logits", to_logits, x)
        low = graph.apply(f"{name}_low_logits", to_logits, low)
        x = graph.apply(f"{name}_sum", ops.Add(), x, low)
        return graph.apply(f"{name}_logits", ops.Resize(*graph.image.shape[:2]), x)


@dataclass(frozen=True)
class PyramidDecoder(Block):
    """ESPNetv2's decoder, as in the EdgeNets code of its authors.

    Pyramid poolings alternate with additions of finer feature maps of the encoder. The last pyramid
    pooling gives the logits, which are resized to the size of the image.

    Attributes:
      classes: number of logits for each pixel.
      finer: names of the blocks whose outputs are added, from the coarsest to the finest. Each one
        has twice the side of the one before it.
      filters: channels at each of these additions.
      activation: name of the activation.
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
            finer = self._gated_conv(graph, f"{name}_finer", graph.outputs[other], filters)
            x = graph.apply(f"{name}_resize", ops.Resize(*finer.shape[:2]), x)
            x = graph.apply(f"{name}_add", ops.Add(), x, finer)
            x = graph.bn_activation(name, x, self.activation)
        x = self._pyramid(graph, f"{self.name}_last", x, self.classes, bias=True)
        return graph.apply(f"{self.name}_logits", ops.Resize(*graph.image.shape[:2]), x)

    def _pyramid(
        self, graph: Graph, name: str, x: Tensor, filters: int, bias: bool = False
    ) -> Tensor:
        """Pyramid pooling: maps (h, w, c) to (h, w, filters).

        The map is resized to several sizes. Each size passes a depthwise convolution and is resized
        back. A grouped convolution then merges the sizes, channel by channel.
        """
        height, width, _ = x.shape
        channels = max(1, min(self.classes // 2, _PYRAMID_CHANNELS))
        x = graph.conv_bn(f"{name}_reduce", x, channels, activation=self.activation)
        scales = []
        for number, scale in enumerate(_SCALES):
            sides = (max(_MIN_SIDE, ceil(side * scale)) for side in (height, width))
            y = _resized(graph, f"{name}_scale{number}_resize", x, *sides)
            y = graph.apply(f"{name}_scale{number}_dwconv", ops.DepthwiseConv(3), y)
            scales.append(_resized(graph, f"{name}_scale{number}_return", y, height, width))
        y = _activated_concat(graph, name, scales, self.activation)
        y = graph.channel_shuffle(f"{name}_shuffle", y, len(_SCALES))
        y = graph.conv_bn(f"{name}_merge", y, channels, 3, 1, self.activation, groups=channels)
        return graph.apply(f"{name}_expand_conv", ops.Conv(filters, 1, bias=bias), y)

    def _gated_conv(self, graph: Graph, name: str, x: Tensor, filters: int) -> Tensor:
        """A grouped 3x3 convolution, multiplied by a gate from the globally pooled input."""
        gate = graph.apply(f"{name}_pool", ops.GlobalAveragePool(keepdims=True), x)
        gate = graph.apply(f"{name}_gate_conv", ops.Conv(filters, 1), gate)
        gate = graph.apply(f"{name}_gate", ops.Activation("sigmoid"), gate)
        groups = gcd(x.channels, filters)
        x = graph.conv_bn(name, x, filters, 3, 1, self.activation, groups=groups)
        return graph.apply(f"{name}_gated", ops.Multiply(), x, gate)


def _resized(graph: Graph, name: str, x: Tensor, height: int, width: int) -> Tensor:
    """The map at another size: average-pooled if the size is exactly half, else interpolated.

    The code of the authors uses adaptive pooling wherever a map shrinks. TFLite has no such
    operator, and its substitutes lose accuracy in int8. The network learns well with interpolation.
    """
    if x.shape[:2] == (height, width):
        return x
    if x.shape[:2] == (2 * height, 2 * width):
        return graph.apply(name, ops.AveragePool(2, 2), x)
    return graph.apply(name, ops.Resize(height, width), x)

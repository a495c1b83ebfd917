"""The primitive operations that networks are drawn with, each with its shape and cost rule.

An operation is data: ``models`` turns it into a Keras layer, ``graph`` adds up its cost, and
neither knows about the other. Shapes are ``(height, width, channels)`` or ``(channels,)``, without
the batch.

Counting (paper.md, section 2): parameters include the moving mean and variance of batch
normalisation; multiply-accumulates (MACs) are those of convolutions and dense layers alone.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """One operation: a rule for the output shape, and for what it costs there."""

    def output(self, *inputs: Shape) -> Shape:
        """Shape of the result; by default that of the (first) input."""
        return inputs[0]

    def params(self, *inputs: Shape) -> int:
        """Number of weights, moving statistics included."""
        return 0

    def macs(self, *inputs: Shape) -> int:
        """Multiply-accumulates for one image."""
        return 0


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)  # SAME padding: ceil(size / stride)


@dataclass(frozen=True)
class Conv(Op):
    """2-D convolution, SAME padding; ``groups`` divides both channel counts."""

    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), filters)."""
        height, width, channels = inputs[0]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(f"{self} cannot divide {channels} channels into its groups")
        return _strided(height, self.stride), _strided(width, self.stride), self.filters

    def _weights(self, channels: int) -> int:
        return self.kernel * self.kernel * (channels // self.groups) * self.filters

    def params(self, *inputs: Shape) -> int:
        """Kernel, and bias where there is one."""
        return self._weights(inputs[0][-1]) + self.bias * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each output position."""
        height, width, _ = self.output(*inputs)
        return height * width * self._weights(inputs[0][-1])


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """Depthwise 2-D convolution (depth multiplier 1, no bias), SAME padding."""

    kernel: int
    stride: int = 1

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), channels)."""
        height, width, channels = inputs[0]
        return _strided(height, self.stride), _strided(width, self.stride), channels

    def params(self, *inputs: Shape) -> int:
        """One kernel a channel."""
        return self.kernel * self.kernel * inputs[0][-1]

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each output position."""
        return prod(self.output(*inputs)) * self.kernel * self.kernel


@dataclass(frozen=True)
class Dense(Op):
    """Fully connected layer with bias."""

    units: int

    def output(self, *inputs: Shape) -> Shape:
        """(units,)."""
        return (self.units,)

    def params(self, *inputs: Shape) -> int:
        """Kernel and bias."""
        return (inputs[0][-1] + 1) * self.units

    def macs(self, *inputs: Shape) -> int:
        """Size of the kernel."""
        return inputs[0][-1] * self.units


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation; four numbers a channel, two of them moving statistics."""

    momentum: float = 0.99
    epsilon: float = 1e-3

    def params(self, *inputs: Shape) -> int:
        """Scale, offset, moving mean, moving variance."""
        return 4 * inputs[0][-1]


@dataclass(frozen=True)
class Activation(Op):
    """Pointwise function: ``swish``, ``relu``, ``relu6``, ``sigmoid``, ..."""

    kind: str


@dataclass(frozen=True)
class GlobalAveragePool(Op):
    """Mean over height and width; ``keepdims`` leaves (1, 1, channels)."""

    keepdims: bool = False

    def output(self, *inputs: Shape) -> Shape:
        """(channels,) or (1, 1, channels)."""
        channels = inputs[0][-1]
        return (1, 1, channels) if self.keepdims else (channels,)


@dataclass(frozen=True)
class Multiply(Op):
    """Product of a map with a gate that broadcasts over height and width."""


@dataclass(frozen=True)
class Add(Op):
    """Sum of maps of one shape."""

    def output(self, *inputs: Shape) -> Shape:
        """The common shape; ValueError where the shapes differ."""
        if len(set(inputs)) != 1:
            raise ValueError(f"cannot add maps of shapes {inputs}")
        return inputs[0]


@dataclass(frozen=True)
class Dropout(Op):
    """Zeroes single features while training."""

    rate: float


@dataclass(frozen=True)
class DropPath(Op):
    """Stochastic depth ("drop connect"): zeroes the branch for whole images while training."""

    rate: float

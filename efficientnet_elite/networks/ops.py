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


def _strided(size: int, kernel: int, stride: int, padding: str = "same") -> int:
    """Positions of a window along one axis; ValueError where a valid one does not fit."""
    if padding == "same":
        return -(-size // stride)  # ceil(size / stride)
    if size < kernel:
        raise ValueError(f"a window of {kernel} does not fit into {size} without padding")
    return (size - kernel) // stride + 1


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Conv(Op):
    """2-D convolution; ``groups`` divides both channel counts, ``padding`` is same or valid.

    ``kernel`` and ``stride`` are one number or (height, width); ``dilation`` spreads the kernel,
    with SAME padding and stride 1. ``classifier``: filters are classes, and begin as `Dense` does.
    """

    filters: int
    kernel: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = False
    padding: str = "same"
    dilation: int = 1
    classifier: bool = False

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), filters), smaller where padding is valid."""
        height, width, channels = inputs[0]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(f"{self} cannot divide {channels} channels into its groups")
        (tall, wide), (down, right) = _pair(self.kernel), _pair(self.stride)
        height = _strided(height, tall, down, self.padding)
        return height, _strided(width, wide, right, self.padding), self.filters

    def _weights(self, channels: int) -> int:
        return prod(_pair(self.kernel)) * (channels // self.groups) * self.filters

    def params(self, *inputs: Shape) -> int:
        """Kernel, and bias where there is one."""
        return self._weights(inputs[0][-1]) + self.bias * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each output position."""
        height, width, _ = self.output(*inputs)
        return height * width * self._weights(inputs[0][-1])


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """Depthwise 2-D convolution (depth multiplier 1, no bias), SAME padding.

    ``dilation`` spreads the kernel. TFLite computes every position of a strided dilated convolution
    and keeps one in four; counted is what is kept.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), channels)."""
        height, width, channels = inputs[0]
        window = self.kernel, self.stride
        return _strided(height, *window), _strided(width, *window), channels

    def params(self, *inputs: Shape) -> int:
        """One kernel a channel."""
        return self.kernel * self.kernel * inputs[0][-1]

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each output position."""
        return prod(self.output(*inputs)) * self.kernel * self.kernel


@dataclass(frozen=True)
class Dense(Op):
    """Fully connected layer."""

    units: int
    bias: bool = True

    def output(self, *inputs: Shape) -> Shape:
        """(units,)."""
        return (self.units,)

    def params(self, *inputs: Shape) -> int:
        """Kernel, and bias where there is one."""
        return (inputs[0][-1] + self.bias) * self.units

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


@dataclass(frozen=True)
class _Pool(Op):
    kernel: int
    stride: int
    padding: str = "same"

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), channels), smaller where padding is valid."""
        height, width, channels = inputs[0]
        window = self.kernel, self.stride, self.padding
        return _strided(height, *window), _strided(width, *window), channels


@dataclass(frozen=True)
class MaxPool(_Pool):
    """Maximum of each window."""


@dataclass(frozen=True)
class AveragePool(_Pool):
    """Mean of each window; the padding does not count."""


@dataclass(frozen=True)
class Concat(Op):
    """Maps of one size, behind each other along the channels."""

    def output(self, *inputs: Shape) -> Shape:
        """The common size, the sum of the channels; ValueError where the sizes differ."""
        if len({shape[:-1] for shape in inputs}) != 1:
            raise ValueError(f"cannot join maps of shapes {inputs}")
        return *inputs[0][:-1], sum(shape[-1] for shape in inputs)


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around a map: (before, after) along the height and along the width."""

    height: tuple[int, int]
    width: tuple[int, int]

    def output(self, *inputs: Shape) -> Shape:
        """The map grown by its borders."""
        height, width, channels = inputs[0]
        return height + sum(self.height), width + sum(self.width), channels


@dataclass(frozen=True)
class Crop(Op):
    """Takes the first ``top`` rows and ``left`` columns of a map away."""

    top: int
    left: int

    def output(self, *inputs: Shape) -> Shape:
        """(h - top, w - left, channels)."""
        height, width, channels = inputs[0]
        return height - self.top, width - self.left, channels


@dataclass(frozen=True)
class Reshape(Op):
    """The same numbers in another shape."""

    shape: Shape

    def output(self, *inputs: Shape) -> Shape:
        """``shape``; ValueError where it holds another number of values."""
        if prod(self.shape) != prod(inputs[0]):
            raise ValueError(f"{inputs[0]} does not reshape to {self.shape}")
        return self.shape


@dataclass(frozen=True)
class PReLU(Op):
    """max(x, 0) + slope * min(x, 0) with a learned slope a channel (arXiv 1502.01852)."""

    def params(self, *inputs: Shape) -> int:
        """The slopes."""
        return inputs[0][-1]


@dataclass(frozen=True)
class Permute(Op):
    """The axes in another order; ``order[i]`` is the input's axis (from 0) that becomes axis i."""

    order: tuple[int, ...]

    def output(self, *inputs: Shape) -> Shape:
        """The input's sizes in the new order."""
        return tuple(inputs[0][axis] for axis in self.order)


@dataclass(frozen=True)
class TransposeConv(Op):
    """Transposed 2x2 convolution of stride 2 without bias: every pixel becomes four."""

    filters: int

    def output(self, *inputs: Shape) -> Shape:
        """(2 h, 2 w, filters)."""
        height, width, _ = inputs[0]
        return 2 * height, 2 * width, self.filters

    def params(self, *inputs: Shape) -> int:
        """The kernel."""
        return 4 * inputs[0][-1] * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each input position."""
        return prod(inputs[0]) * 4 * self.filters


@dataclass(frozen=True)
class Resize(Op):
    """Bilinear interpolation to ``height`` x ``width`` pixels."""

    height: int
    width: int

    def output(self, *inputs: Shape) -> Shape:
        """(height, width, channels)."""
        return self.height, self.width, inputs[0][-1]


@dataclass(frozen=True)
class Select(Op):
    """The channels of the given numbers in the given order; one may come several times."""

    indices: tuple[int, ...]

    def output(self, *inputs: Shape) -> Shape:
        """As many channels as indices; ValueError where there is no such channel."""
        if not all(0 <= index < inputs[0][-1] for index in self.indices):
            raise ValueError(f"{inputs[0]} has not all of the channels to select")
        return *inputs[0][:-1], len(self.indices)


@dataclass(frozen=True)
class FoldChannels(Op):
    """Sums channels that are ``filters`` apart: of c, c + filters, c + 2 * filters, ..."""

    filters: int

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, filters)."""
        return *inputs[0][:-1], self.filters


@dataclass(frozen=True)
class LearnedConv(Op):
    """Learned group convolution (arXiv 1711.09224, section 3), stride 1: exists in training alone.

    Dense at first; training decides in ``stages`` steps which input channels each group of filters
    keeps. Filter f belongs to group f mod ``groups``. Costs are those of the dense form.

    Attributes:
      kept: connections from a channel to a group that are left in the end, over all groups.
      classifier: see `Conv`.
    """

    filters: int
    kept: int
    stages: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    classifier: bool = False

    def left(self, channels: int, stage: int) -> tuple[int, ...]:
        """How many of the input's channels each group has after a stage, from 0 to ``stages``."""
        each, more = divmod(self.kept, self.groups)
        last = (each + (group < more) for group in range(self.groups))
        return tuple(channels - (channels - kept) * stage // self.stages for kept in last)

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, filters)."""
        return *inputs[0][:-1], self.filters

    def params(self, *inputs: Shape) -> int:
        """Kernel, and bias where there is one; without the mask."""
        return self.kernel**2 * inputs[0][-1] * self.filters + self.bias * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight once for each output position."""
        return prod(inputs[0]) * self.kernel**2 * self.filters


@dataclass(frozen=True)
class UserModel(Op):
    """A whole network that is known by its costs alone."""

    classes: int
    total_params: int
    total_macs: int

    def output(self, *inputs: Shape) -> Shape:
        """(classes,)."""
        return (self.classes,)

    def params(self, *inputs: Shape) -> int:
        """As counted beforehand."""
        return self.total_params

    def macs(self, *inputs: Shape) -> int:
        """As counted beforehand."""
        return self.total_macs

"""The primitive operations of networks: for each one its output shape, parameters and MACs.

An operation is plain data. `networks.graph` adds up its cost, and `networks.build` turns it into a
Keras layer. Shapes are ``(height, width, channels)`` or ``(channels,)``, without the batch axis.

Costs are counted as in Table 5 of arXiv 2009.07409: parameters include the moving mean and variance
of batch normalisation; multiply-accumulates (MACs) are those of convolutions and fully connected
layers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """One operation. Its methods take the shapes of the input tensors.

    By default an operation keeps the shape of its first input and costs nothing.
    """

    def output(self, *inputs: Shape) -> Shape:
        """Shape of the output tensor."""
        return inputs[0]

    def params(self, *inputs: Shape) -> int:
        """Number of weights, including moving statistics."""
        return 0

    def macs(self, *inputs: Shape) -> int:
        """Multiply-accumulates for one image."""
        return 0


def _window_positions(size: int, kernel: int, stride: int, padding: str = "same") -> int:
    """Number of positions of a sliding window along an axis of ``size`` pixels.

    Raises:
      ValueError: the padding is ``valid`` and the window is larger than the axis.
    """
    if padding == "same":
        return -(-size // stride)  # ceil(size / stride)
    if size < kernel:
        raise ValueError(f"a window of {kernel} does not fit into {size} without padding")
    return (size - kernel) // stride + 1


def _height_width(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Conv(Op):
    """2-D convolution.

    Attributes:
      filters: output channels.
      kernel: size in pixels, one number or (height, width).
      stride: step in pixels, one number or (height, width).
      groups: number of groups of channels; divides the input channels and ``filters``.
      bias: whether a bias is added.
      padding: ``same`` or ``valid``.
      dilation: distance in pixels between the taps of the kernel; above 1 only with ``same``
        padding and stride 1.
      classifier: whether the filters are classes. The kernel is then initialised like that of
        `Dense`.
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
        """(ceil(h / stride), ceil(w / stride), filters); smaller with ``valid`` padding.

        Raises:
          ValueError: the channels cannot be divided into ``groups``, or the input is too small.
        """
        height, width, channels = inputs[0]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(f"{self} cannot divide {channels} channels into its groups")
        kernel_height, kernel_width = _height_width(self.kernel)
        stride_height, stride_width = _height_width(self.stride)
        return (
            _window_positions(height, kernel_height, stride_height, self.padding),
            _window_positions(width, kernel_width, stride_width, self.padding),
            self.filters,
        )

    def _kernel_weights(self, channels: int) -> int:
        return prod(_height_width(self.kernel)) * (channels // self.groups) * self.filters

    def params(self, *inputs: Shape) -> int:
        """Weights of the kernel, and of the bias if there is one."""
        return self._kernel_weights(inputs[0][-1]) + self.bias * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight is used once for each output position."""
        height, width, _ = self.output(*inputs)
        return height * width * self._kernel_weights(inputs[0][-1])


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """Depthwise 2-D convolution with depth multiplier 1, ``same`` padding and no bias.

    TFLite computes a convolution that is both strided and dilated at every position and then drops
    three in four. The MACs here are those of the positions that remain.

    Attributes:
      kernel: height and width in pixels.
      stride: step in pixels.
      dilation: distance in pixels between the taps of the kernel.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), channels)."""
        height, width, channels = inputs[0]
        window = self.kernel, self.stride
        return _window_positions(height, *window), _window_positions(width, *window), channels

    def params(self, *inputs: Shape) -> int:
        """One kernel for each channel."""
        return self.kernel * self.kernel * inputs[0][-1]

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight is used once for each output position."""
        return prod(self.output(*inputs)) * self.kernel * self.kernel


@dataclass(frozen=True)
class Dense(Op):
    """Fully connected layer with ``units`` outputs."""

    units: int
    bias: bool = True

    def output(self, *inputs: Shape) -> Shape:
        """(units,)."""
        return (self.units,)

    def params(self, *inputs: Shape) -> int:
        """Weights of the kernel, and of the bias if there is one."""
        return (inputs[0][-1] + self.bias) * self.units

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight is used once."""
        return inputs[0][-1] * self.units


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation over the batch, height and width."""

    momentum: float = 0.99
    epsilon: float = 1e-3

    def params(self, *inputs: Shape) -> int:
        """Scale, offset, moving mean and moving variance of each channel."""
        return 4 * inputs[0][-1]


@dataclass(frozen=True)
class Activation(Op):
    """Pointwise function without weights, by its Keras name: ``swish``, ``relu``, ``relu6``, ..."""

    kind: str


@dataclass(frozen=True)
class GlobalAveragePool(Op):
    """Mean over height and width; ``keepdims`` keeps these axes with size 1."""

    keepdims: bool = False

    def output(self, *inputs: Shape) -> Shape:
        """(channels,), or (1, 1, channels) with ``keepdims``."""
        channels = inputs[0][-1]
        return (1, 1, channels) if self.keepdims else (channels,)


@dataclass(frozen=True)
class Multiply(Op):
    """Product of a feature map (h, w, c) with a gate (1, 1, c) that is broadcast over it."""


@dataclass(frozen=True)
class Add(Op):
    """Sum of feature maps of the same shape."""

    def output(self, *inputs: Shape) -> Shape:
        """The common shape; ValueError if the shapes differ."""
        if len(set(inputs)) != 1:
            raise ValueError(f"cannot add maps of shapes {inputs}")
        return inputs[0]


@dataclass(frozen=True)
class Dropout(Op):
    """Dropout: sets single features to zero during training, at this rate."""

    rate: float


@dataclass(frozen=True)
class DropPath(Op):
    """Stochastic depth (arXiv 1603.09382), also called drop connect.

    During training it sets the whole feature map of an image to zero, at this rate.
    """

    rate: float


@dataclass(frozen=True)
class _Pool(Op):
    kernel: int
    stride: int
    padding: str = "same"

    def output(self, *inputs: Shape) -> Shape:
        """(ceil(h / stride), ceil(w / stride), channels); smaller with ``valid`` padding."""
        height, width, channels = inputs[0]
        window = self.kernel, self.stride, self.padding
        return _window_positions(height, *window), _window_positions(width, *window), channels


@dataclass(frozen=True)
class MaxPool(_Pool):
    """Max pooling with a square window."""


@dataclass(frozen=True)
class AveragePool(_Pool):
    """Average pooling with a square window; padded positions are left out of the mean."""


@dataclass(frozen=True)
class Concat(Op):
    """Concatenation of feature maps along the channels."""

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, sum of the channels); ValueError if heights or widths differ."""
        if len({shape[:-1] for shape in inputs}) != 1:
            raise ValueError(f"cannot join maps of shapes {inputs}")
        return *inputs[0][:-1], sum(shape[-1] for shape in inputs)


@dataclass(frozen=True)
class Pad(Op):
    """Zero padding; ``height`` and ``width`` are each the pixels added (before, after)."""

    height: tuple[int, int]
    width: tuple[int, int]

    def output(self, *inputs: Shape) -> Shape:
        """(h + sum(height), w + sum(width), channels)."""
        height, width, channels = inputs[0]
        return height + sum(self.height), width + sum(self.width), channels


@dataclass(frozen=True)
class Crop(Op):
    """Removes the first ``top`` rows and the first ``left`` columns of a feature map."""

    top: int
    left: int

    def output(self, *inputs: Shape) -> Shape:
        """(h - top, w - left, channels)."""
        height, width, channels = inputs[0]
        return height - self.top, width - self.left, channels


@dataclass(frozen=True)
class Reshape(Op):
    """The same values in another shape."""

    shape: Shape

    def output(self, *inputs: Shape) -> Shape:
        """``shape``; ValueError if the input has another number of values."""
        if prod(self.shape) != prod(inputs[0]):
            raise ValueError(f"{inputs[0]} does not reshape to {self.shape}")
        return self.shape


@dataclass(frozen=True)
class PReLU(Op):
    """max(x, 0) + slope * min(x, 0), with a learned slope for each channel (arXiv 1502.01852)."""

    def params(self, *inputs: Shape) -> int:
        """One slope for each channel."""
        return inputs[0][-1]


@dataclass(frozen=True)
class Permute(Op):
    """Transposition: axis ``order[i]`` of the input becomes axis i of the output.

    Axes are counted from 0, without the batch axis.
    """

    order: tuple[int, ...]

    def output(self, *inputs: Shape) -> Shape:
        """The sizes of the input in the new order."""
        return tuple(inputs[0][axis] for axis in self.order)


@dataclass(frozen=True)
class TransposeConv(Op):
    """Transposed 2x2 convolution with stride 2 and no bias: it doubles height and width."""

    filters: int

    def output(self, *inputs: Shape) -> Shape:
        """(2 h, 2 w, filters)."""
        height, width, _ = inputs[0]
        return 2 * height, 2 * width, self.filters

    def params(self, *inputs: Shape) -> int:
        """Weights of the kernel."""
        return 4 * inputs[0][-1] * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every kernel weight is used once for each input position."""
        return prod(inputs[0]) * 4 * self.filters


@dataclass(frozen=True)
class Resize(Op):
    """Bilinear resizing to ``height`` x ``width`` pixels."""

    height: int
    width: int

    def output(self, *inputs: Shape) -> Shape:
        """(height, width, channels)."""
        return self.height, self.width, inputs[0][-1]


@dataclass(frozen=True)
class Select(Op):
    """Takes the channels with the given indices, in this order; an index may be repeated.

    CondenseNet (arXiv 1711.09224) calls this an index layer.
    """

    indices: tuple[int, ...]

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, number of indices); ValueError if the input has no channel of that index."""
        if not all(0 <= index < inputs[0][-1] for index in self.indices):
            raise ValueError(f"a tensor of shape {inputs[0]} lacks some of the selected channels")
        return *inputs[0][:-1], len(self.indices)


@dataclass(frozen=True)
class FoldChannels(Op):
    """Output channel i is the sum of the input channels i, i + filters, i + 2 * filters, ..."""

    filters: int

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, filters)."""
        return *inputs[0][:-1], self.filters


@dataclass(frozen=True)
class LearnedConv(Op):
    """Learned group convolution (arXiv 1711.09224, section 3) of stride 1, used in training only.

    The convolution starts dense. Training then drops input channels of each group of filters in
    ``stages`` steps. Filter f belongs to group f mod ``groups``. Parameters and MACs are those of
    the dense convolution.

    Attributes:
      filters: output channels.
      connections: pairs of an input channel and a group of filters that remain after the last
        stage, summed over all groups.
      stages: number of times that channels are dropped.
      kernel: height and width in pixels.
      groups: number of groups of filters.
      bias: whether a bias is added.
      classifier: see `Conv`.
    """

    filters: int
    connections: int
    stages: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    classifier: bool = False

    def channels_left(self, channels: int, stage: int) -> tuple[int, ...]:
        """Number of input channels that each group still reads after a stage.

        Args:
          channels: channels of the input.
          stage: from 0, where nothing has been dropped, to ``stages``.
        """
        per_group, remainder = divmod(self.connections, self.groups)
        final = (per_group + (group < remainder) for group in range(self.groups))
        return tuple(channels - (channels - count) * stage // self.stages for count in final)

    def output(self, *inputs: Shape) -> Shape:
        """(h, w, filters)."""
        return *inputs[0][:-1], self.filters

    def params(self, *inputs: Shape) -> int:
        """Weights of the dense kernel, and of the bias if there is one; the mask is not counted."""
        return self.kernel**2 * inputs[0][-1] * self.filters + self.bias * self.filters

    def macs(self, *inputs: Shape) -> int:
        """Every weight of the dense kernel is used once for each output position."""
        return prod(inputs[0]) * self.kernel**2 * self.filters


@dataclass(frozen=True)
class UserModel(Op):
    """A whole network of the user, of which only the costs are known."""

    classes: int
    total_params: int
    total_macs: int

    def output(self, *inputs: Shape) -> Shape:
        """(classes,)."""
        return (self.classes,)

    def params(self, *inputs: Shape) -> int:
        """The given number of parameters."""
        return self.total_params

    def macs(self, *inputs: Shape) -> int:
        """The given number of MACs."""
        return self.total_macs

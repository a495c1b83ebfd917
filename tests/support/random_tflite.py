"""Random small int8 networks, written as .tflite files without a converter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from efficientnet_elite.export import rewrite

SAME, VALID = 0, 1
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}  # of int8; others 2


@dataclass(frozen=True)
class Map:
    """An activation: index of its tensor, shape, scale and zero point."""

    tensor: int
    shape: tuple[int, ...]
    scale: float
    zero: int


class Network:
    """A network that grows operator by operator, from an image of noise's range."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self.image = self._map((1, height, width, 3), 1 / 128, 0)

    def conv(self, x: Map, filters: int, kernel, stride, padding: int, dilation=1, act=0) -> Map:
        weights = self._values((filters, *kernel, x.shape[-1]), 0)
        options = _windowed(schema.Conv2DOptionsT(), stride, padding, dilation, act)
        return self._weighted("CONV_2D", x, weights, filters, options, kernel, stride, padding)

    def depthwise(self, x: Map, kernel, stride, padding: int, dilation=1, act=0) -> Map:
        weights = self._values((1, *kernel, x.shape[-1]), 3)
        options = _windowed(schema.DepthwiseConv2DOptionsT(), stride, padding, dilation, act)
        options.depthMultiplier = 1
        kind, filters = "DEPTHWISE_CONV_2D", x.shape[-1]
        return self._weighted(kind, x, weights, filters, options, kernel, stride, padding)

    def pool(self, kind: str, x: Map, kernel, stride, padding: int) -> Map:
        options = schema.Pool2DOptionsT()
        options.filterHeight, options.filterWidth = kernel
        options.strideH, options.strideW = stride
        options.padding = padding
        return self._emit(kind, [x.tensor], _slid(x.shape, x.shape[-1], kernel, stride, padding, 1),
                          options, x.scale, x.zero)  # fmt: skip

    def pad(self, x: Map, rows: tuple[int, int], columns: tuple[int, int]) -> Map:
        pads = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
        _, height, width, depth = x.shape
        shape = 1, height + sum(rows), width + sum(columns), depth
        inputs = [x.tensor, self._constant(pads)]
        return self._emit("PAD", inputs, shape, schema.PadOptionsT(), x.scale, x.zero)

    def pad_channels(self, x: Map, count: int, value: int) -> Map:
        """Constant channels behind those of a map."""
        pads = np.array([(0, 0), (0, 0), (0, 0), (0, count)], np.int32)
        fill = self._constant(np.array([value], np.int8))
        self._tensors[fill].quantization = _quantization([x.scale], [x.zero], 0)
        inputs = [x.tensor, self._constant(pads), fill]
        shape = *x.shape[:3], x.shape[3] + count
        return self._emit("PADV2", inputs, shape, schema.PadV2OptionsT(), x.scale, x.zero)

    def swish(self, x: Map) -> Map:
        gate = self._emit("LOGISTIC", [x.tensor], x.shape, None, 1 / 256, -128)
        return self.pair("MUL", x, gate)

    def pair(self, kind: str, x: Map, y: Map) -> Map:
        options = schema.MulOptionsT() if kind == "MUL" else schema.AddOptionsT()
        return self._emit(kind, [x.tensor, y.tensor], x.shape, options)

    def concat(self, x: Map, y: Map) -> Map:
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        shape = *x.shape[:3], x.shape[3] + y.shape[3]
        return self._emit("CONCATENATION", [x.tensor, y.tensor], shape, options, x.scale, x.zero)

    def requantized(self, x: Map, like: Map) -> Map:
        return self._emit("QUANTIZE", [x.tensor], x.shape, None, like.scale, like.zero)

    def gated(self, x: Map) -> Map:
        """Squeeze and excitation without layers between."""
        return self.pair("MUL", x, self._mean(x, keep=True))

    def _mean(self, x: Map, *, keep: bool) -> Map:
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        inputs = [x.tensor, self._constant(np.array([1, 2], np.int32))]
        shape = (1, 1, 1, x.shape[-1]) if keep else (1, x.shape[-1])
        return self._emit("MEAN", inputs, shape, options, x.scale / 4, x.zero)

    def head(self, x: Map, classes: int = 5) -> Map:
        x = self._mean(x, keep=False)
        weights = self._values((classes, x.shape[-1]), None)
        options = schema.FullyConnectedOptionsT()
        return self._weighted("FULLY_CONNECTED", x, weights, classes, options)

    def model(self, output: Map) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [self.image.tensor], [output.tensor]
        tree = schema.ModelT()
        tree.version, tree.subgraphs, tree.buffers = 3, [graph], self._buffers
        tree.operatorCodes = [_code(kind) for kind in self._codes]
        return rewrite.packed(tree)

    def _weighted(self, kind, x, weights, filters, options, kernel=(), stride=(), padding=0) -> Map:
        if kernel:
            dilation = options.dilationHFactor
            shape = _slid(x.shape, filters, kernel, stride, padding, dilation)
        else:
            shape = 1, filters
        scale, zero = self._quantization()
        # The sums then spread over the int8 range.
        tensor = self._tensors[weights]
        terms = prod(tensor.shape) // filters
        step = scale / x.scale / np.sqrt(terms) / 70
        tensor.quantization.scale = [step * f for f in self.rng.uniform(0.5, 1.5, self._scales)]
        bias = self._constant(self.rng.integers(-9000, 9000, filters, np.int32))
        self._tensors[bias].quantization = _quantization(
            [x.scale * each for each in tensor.quantization.scale], [0] * self._scales, 0
        )
        return self._emit(kind, [x.tensor, weights, bias], shape, options, scale, zero)

    def _values(self, shape: tuple[int, ...], axis: int | None) -> int:
        """Weights, which get their scales later; one scale for each channel if there is an axis."""
        index = self._constant(self.rng.integers(-127, 128, shape, np.int8))
        self._scales = 1 if axis is None else shape[axis]
        self._tensors[index].quantization = _quantization([], [0] * self._scales, axis or 0)
        return index

    def _quantization(self) -> tuple[float, int]:
        return float(self.rng.uniform(0.01, 0.05)), int(self.rng.integers(-128, 60))

    def _map(self, shape: tuple[int, ...], scale: float, zero: int) -> Map:
        index = self._tensor(shape, "INT8", 0)
        self._tensors[index].quantization = _quantization([scale], [zero], 0)
        return Map(index, shape, scale, zero)

    def _constant(self, values: np.ndarray) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(values.shape, values.dtype.name.upper(), len(self._buffers) - 1)

    def _tensor(self, shape: Sequence[int], kind: str, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.type, tensor.shape = getattr(schema.TensorType, kind), list(shape)
        tensor.buffer, tensor.name = buffer, f"t{len(self._tensors)}"
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _emit(self, kind, inputs, shape, options, scale=None, zero=0) -> Map:
        if scale is None:
            scale, zero = self._quantization()
        output = self._map(shape, scale, zero)
        if kind not in self._codes:
            self._codes.append(kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(kind)
        operator.inputs, operator.outputs = inputs, [output.tensor]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self._operators.append(operator)
        return output


def _windowed(options: Any, stride, padding: int, dilation: int, act: int) -> Any:
    options.strideH, options.strideW = stride
    options.padding, options.fusedActivationFunction = padding, act
    options.dilationHFactor = options.dilationWFactor = dilation
    return options


def _slid(shape, filters: int, kernel, stride, padding: int, dilation: int) -> tuple[int, ...]:
    """The shape of the output of a sliding window."""
    sides = []
    for size, taps, step in zip(shape[1:3], kernel, stride, strict=True):
        span = (taps - 1) * dilation + 1
        sides.append(-(-size // step) if padding == SAME else (size - span) // step + 1)
    return 1, *sides, filters


def _quantization(scales: Sequence[float], zeros: Sequence[int], axis: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = list(scales), list(zeros)
    quantization.quantizedDimension = axis
    return quantization


def _code(kind: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = _VERSIONS.get(kind, 2)
    return code


_ACTS = (0, 1, 3)  # none, ReLU, ReLU6


def random_model(seed: int) -> bytes:
    """A network of a few random layers, then the mean over its map and a fully connected layer."""
    rng = np.random.default_rng(seed)
    network = Network(rng, *rng.integers(9, 25, 2).tolist())
    x = network.image
    for _ in range(rng.integers(2, 7)):
        x = _layer(network, x)
    return network.model(network.head(x))


def _layer(network: Network, x: Map) -> Map:
    rng = network.rng
    kernel = tuple(rng.integers(1, 6, 2).tolist())
    stride = tuple(rng.integers(1, 4, 2).tolist())
    small = [size <= 2 * taps for size, taps in zip(x.shape[1:3], kernel, strict=True)]
    padding = SAME if any(small) else int(rng.integers(2))
    if min(x.shape[1:3]) < 4:
        stride = (1, 1)
    act, filters = _ACTS[rng.integers(3)], int(rng.integers(2, 7))
    kind = rng.integers(10)
    if kind < 2:
        return network.conv(x, filters, kernel, stride, padding, act=act)
    if kind == 2:
        return network.depthwise(x, kernel, stride, padding, act=act)
    if kind == 3:
        layer = network.depthwise if rng.integers(2) else None
        if layer:
            return layer(x, kernel, (1, 1), SAME, dilation=2, act=act)
        return network.conv(x, filters, kernel, (1, 1), SAME, dilation=2, act=act)
    if kind == 4:
        name = ("MAX_POOL_2D", "AVERAGE_POOL_2D")[rng.integers(2)]
        return network.pool(name, x, kernel, stride, padding)
    if kind == 5:
        return network.pad(x, *(tuple(rng.integers(0, 3, 2).tolist()) for _ in range(2)))
    if kind == 6:
        return network.swish(x)
    if kind == 7:  # a residual block
        inner = network.conv(x, filters, (1, 1), (1, 1), SAME, act=act)
        inner = network.depthwise(inner, kernel, (1, 1), SAME, act=act)
        return network.pair("ADD", x, network.conv(inner, x.shape[-1], (1, 1), (1, 1), SAME))
    if kind == 8:
        return network.pad_channels(x, int(rng.integers(1, 3)), int(rng.integers(-128, 128)))
    one = network.conv(x, filters, kernel, (1, 1), SAME, act=act)
    other = network.requantized(network.depthwise(x, (3, 3), (1, 1), SAME), one)
    return network.concat(one, other)

"""An int8 file as the program by which memory is planned."""

from __future__ import annotations

from math import prod

from efficientnet_elite.device.lowering import POINT, Constant, Operator, Program, Window
from efficientnet_elite.export.packages.c import graph as graphs
from efficientnet_elite.export.packages.c import simplify
from efficientnet_elite.export.packages.c.graph import Graph

_SAME = 0  # the padding of an operator's options
_PER_VALUE = {
    *("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU"),
    *("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "LEAKY_RELU", "QUANTIZE", simplify.TABLE),
}
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
_VALUE_BYTES = {"INT8": 1, "INT64": 8}  # otherwise 4


def of_graph(graph: Graph) -> tuple[Program, list[int]]:
    """A file as a program, and for each tensor of the program its index in the file.

    An operator with several outputs becomes as many operators that each read its inputs.
    """
    program, tensors = Program(), [graph.input]
    program.add_tensor(_shape(graph, graph.input))
    place = {graph.input: 0}
    for operator in graph.operators:
        read = [graph.memory_of(index) for index in operator.inputs if index >= 0]
        inputs = tuple(place[index] for index in read if index in place)
        for output in operator.outputs:
            place[output] = program.add_tensor(_shape(graph, output))
            tensors.append(output)
            program.operators.append(
                Operator(
                    operator.kind,
                    inputs,
                    place[output],
                    tuple(_constant(graph, i) for i in read if i not in place),
                    scratch=_scratch(graph, operator),
                    channels=_channels(graph, operator),
                    macs=_macs(graph, operator),
                    window=_window(graph, operator),
                )
            )
    return program, tensors


def _shape(graph: Graph, tensor: int) -> tuple[int, ...]:
    shape = graph.tensors[tensor].shape
    return shape[1:] if shape[:1] == (1,) else shape


def _constant(graph: Graph, index: int) -> Constant:
    tensor = graph.tensors[index]
    return Constant(tensor.size, _VALUE_BYTES.get(tensor.type, 4), len(tensor.scales))


def _scratch(graph: Graph, operator: graphs.Operator) -> int:
    """The kernels of these operators sum into 32-bit integers."""
    sums = operator.kind in ("MEAN", "SUM", "TRANSPOSE_CONV")
    return 4 * graph.tensors[operator.outputs[0]].size if sums else 0


def _channels(graph: Graph, operator: graphs.Operator) -> int:
    weighted = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
    shape = graph.tensors[operator.outputs[0]].shape
    return shape[-1] if operator.kind in weighted else 0


def _macs(graph: Graph, operator: graphs.Operator) -> int:
    shape = graph.tensors[operator.outputs[0]].shape
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return graph.tensors[operator.inputs[1]].size * prod(shape[:-1])
    if operator.kind == "TRANSPOSE_CONV":  # every weight is used at every position of its input
        return graph.tensors[operator.inputs[1]].size * prod(
            graph.tensors[operator.inputs[2]].shape[:-1]
        )
    return 0


def _window(graph: Graph, operator: graphs.Operator) -> Window | None:
    """Which part of its inputs an operator reads; None where that is not a part of a map."""
    kind, options = operator.kind, operator.options
    constants = [graph.tensors[i] for i in operator.inputs if graph.tensors[i].values is not None]
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        if not constants or constants[0] is not graph.tensors[operator.inputs[1]]:
            return None
        height, width = constants[0].shape[1:3]
        return _sliding(graph, operator, (height, width))
    if kind in _POOLS:
        window = _sliding(graph, operator, (options["filterHeight"], options["filterWidth"]))
        # An average counts the positions inside of the whole map.
        return None if kind == "AVERAGE_POOL_2D" and options["padding"] == _SAME else window
    if kind in ("PAD", "PADV2"):
        return _border(graph, operator)
    if kind == "CONCATENATION":
        along_channels = options["axis"] in (3, -1) and not options["fusedActivationFunction"]
        return POINT if along_channels and not constants else None
    if kind in _PER_VALUE and all(set(c.shape[-3:-1]) <= {1} for c in constants):
        return POINT
    return None


def _border(graph: Graph, operator: graphs.Operator) -> Window | None:
    """The window of a PAD of rows and columns, or of a PAD or PADV2 of channels alone."""
    pads = graph.tensors[operator.inputs[1]].values
    if pads is None or pads.shape != (4, 2):
        return None
    batch, rows, columns, channels = pads.tolist()
    if not any((*batch, *rows, *columns)):
        return POINT
    if operator.kind == "PADV2" or any((*batch, *channels)):
        return None
    return Window(before=(rows[0], columns[0]))


def _sliding(graph: Graph, operator: graphs.Operator, kernel: tuple[int, int]) -> Window:
    options = operator.options
    stride = options["strideH"], options["strideW"]
    dilation = options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)
    if options["padding"] != _SAME:
        return Window(kernel, stride, dilation)
    image, result = operator.inputs[0], operator.outputs[0]
    return Window.same(_shape(graph, image), _shape(graph, result), kernel, stride, dilation)

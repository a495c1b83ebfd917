"""The weights of a pretrained network that another network of the same structure starts with."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.graph import Node
from efficientnet_elite.networks.pretrained.channels import (
    PASSING,
    Indices,
    Piece,
    find_layouts,
    refusal,
    resolve,
)
from efficientnet_elite.networks.pretrained.importance import (
    MomentsOfSource,
    activation,
    importance,
)
from efficientnet_elite.networks.pretrained.inputs import adapt_input
from efficientnet_elite.networks.pretrained.matching import (
    is_same_network,
    lasting_nodes,
    logits_layer,
    match_nodes,
)
from efficientnet_elite.networks.pretrained.weights import EPSILON, PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec

Array = NDArray[np.float32]

WAYS = ("importance", "uniform", "first")  # of choosing channels

# Where the gates of a target without counterpart start: sigmoid(4) = 0.98, hard_sigmoid(4) = 1.
_GATE_BIAS = 4.0


@dataclass(frozen=True)
class Selection:
    """What a network takes from pretrained weights.

    Attributes:
      source: the pretrained weights.
      spec: the network that receives them (the target).
      arrays: initial values of the target's variables, by their paths, in the shapes of the target.
        Variables that are absent keep their random initial values: those of the classifier, of
        heads for segmentation, and of blocks that the source does not have.
      nodes: name of the node of the source, by the name of the node of the target.
      channels: by the name of the target's node, for each channel of its output the index of the
        channel of the source's node; (channels of the target's node,). Where the target is wider,
        indices are repeated.
    """

    source: PretrainedWeights
    spec: ArchSpec
    arrays: Mapping[str, Array]
    nodes: Mapping[str, str]
    channels: Mapping[str, Indices]


def select(source: PretrainedWeights, spec: ArchSpec, how: str = "importance") -> Selection:
    """Selects blocks and channels of a pretrained network for another one of its structure.

    A network that is the pretrained one itself takes everything but the classifier.

    Of each stage, the first blocks are taken. Along a residual stream, the same channels are taken
    everywhere. Where the target is

    - wider, channels are repeated and the weights that read them are shared out between the copies;
    - deeper, the residual branches of further blocks begin with output zero, by gamma = 0 of their
      last batch normalisation;

    and the target computes what the source computes. The shares are not equal, so that training can
    tell the copies apart (compare arXiv 1511.05641). Kernels of another size are cut or padded with
    zeros around their centre. Gates that the source does not have start constant and close to one;
    squeeze-excite that the target does not have is replaced by the mean of its gates, as estimated
    from the weights. Activations may differ. A target that reads grey images gets the sum of the
    kernels for the three colours.

    Args:
      source: the pretrained weights.
      spec: the target.
      how: which channels are taken: ``importance``: those that contribute most, see
        `importance.importance`; ``uniform``: evenly spaced ones; ``first``: the first ones.

    Raises:
      UserError: the structures do not fit each other, or ``how`` is unknown.
    """
    if how not in WAYS:
        raise UserError(f"how={how!r} is unknown: use {', '.join(WAYS)}")
    for network in (source.spec, spec):
        if isinstance(network.blocks[0], UserModel):
            raise refusal(source.spec.name, spec.name, f"the layers of {network.name} are unknown")
    # The teacher of a network for grey images sees grey images, too.
    source = adapt_input(source, spec.input_shape[-1])
    plain = spec.reading_stages(False)  # heads are new, whatever they read
    if is_same_network(source.spec, plain):
        selection = _whole_network(source, plain)
    else:
        selection = _Selector(source, plain, how).selection()
    return replace(selection, spec=spec)


def _whole_network(source: PretrainedWeights, spec: ArchSpec) -> Selection:
    """Everything but the classifier."""
    logits = logits_layer(spec)
    nodes = [node for node in lasting_nodes(spec) if node.name != logits]
    arrays = {
        path: array for path, array in source.arrays.items() if path.rpartition("/")[0] != logits
    }
    channels = {node.name: np.arange(node.shape[-1]) for node in nodes}
    return Selection(source, spec, arrays, {name: name for name in channels}, channels)


class _Selector:
    """One selection. See `select` for the arguments."""

    def __init__(self, source: PretrainedWeights, spec: ArchSpec, how: str):
        self.source, self.spec = source, spec
        # Reshaped tensors have the same shapes only if both networks read images of the same size.
        origin = source.spec.resized((*spec.input_shape[:2], source.spec.input_shape[-1]))
        self.graph, self.origin = spec.graph, origin
        self.matches = match_nodes(origin, spec)
        self._check_likeness()
        self.layouts = find_layouts(origin, spec, self.matches)
        self.scales = self._scales()
        self.chosen = self._choose(how)

    def selection(self) -> Selection:
        arrays: dict[str, Array] = {}
        channels: dict[str, Indices] = {}
        for index, node in enumerate(self.graph.nodes):
            layout = self.layouts.of(index)
            if node.name not in self.matches or layout is None:
                continue
            channels[node.name] = self._indices(layout)
            arrays |= self._arrays_of(node, channels[node.name])
        for name in self.layouts.silenced:
            size = next(node.shape[-1] for node in self.graph.nodes if node.name == name)
            arrays |= {f"{name}/{key}": np.zeros(size, np.float32) for key in ("gamma", "beta")}
        for node in self.layouts.opened:
            self._open_gate(node, arrays)
        nodes = {name: other for name, other in self.matches.items() if name in channels}
        return Selection(self.source, self.spec, arrays, nodes, channels)

    def _check_likeness(self) -> None:
        """Refuses a source that has little in common with the target."""
        layers, layers_of_source = (
            {node.name for node in graph.nodes if node.params > 0}
            for graph in (self.graph, self.origin.graph)
        )
        matched = len(layers & self.matches.keys())
        if 2 * matched < min(len(layers), len(layers_of_source)):
            reason = f"only {matched} of its layers correspond"
            raise refusal(self.origin.name, self.spec.name, reason)

    def _scales(self) -> dict[str, NDArray[np.float64]]:
        """What batch normalisation multiplies the outputs of convolutions with, by their names."""
        scales = {}
        nodes = self.origin.graph.nodes
        for node in nodes:
            if isinstance(node.op, ops.BatchNorm) and node.inputs[0] >= 0:
                gamma = self.source.arrays[f"{node.name}/gamma"].astype(np.float64)
                variance = self.source.arrays[f"{node.name}/moving_variance"]
                scales[nodes[node.inputs[0]].name] = gamma / np.sqrt(variance + EPSILON)
        return scales

    def _choose(self, how: str) -> dict[Piece, Indices]:
        """Indices of the channels of the source, for each piece."""
        values: Mapping[Piece, NDArray[np.float64]] = {}
        if how == "importance":
            matches = self._matches_with_classifier()
            values = importance(
                self.graph,
                self.layouts,
                matches,
                self.source.arrays,
                self.scales,
                self.origin.input_shape[-1],
            )
        pieces = {piece for layout in self.layouts.outputs for piece in resolve(layout or ())}
        return {piece: _chosen(piece, how, values.get(piece)) for piece in pieces}

    def _matches_with_classifier(self) -> dict[str, str]:
        """The matches and the classifier, so that its weights say which features it reads."""
        ends = self.graph.nodes[-1], self.origin.graph.nodes[-1]
        classifiers = (ops.Dense, ops.Conv)
        if ends[0].name == ends[1].name and all(isinstance(end.op, classifiers) for end in ends):
            return {**self.matches, ends[0].name: ends[1].name}
        return self.matches

    def _indices(self, layout: tuple[Piece, ...]) -> Indices:
        starts = np.cumsum([0, *(piece.source for piece in layout)])
        parts = [self.chosen[piece] + start for piece, start in zip(layout, starts, strict=False)]
        return np.concatenate(parts)

    def _arrays_of(self, node: Node, outputs: Indices) -> dict[str, Array]:
        """The values of a node's variables, by their paths."""
        prefix = f"{self.matches[node.name]}/"
        variables = {
            path.removeprefix(prefix): array
            for path, array in self.source.arrays.items()
            if path.startswith(prefix)
        }
        if isinstance(node.op, ops.Conv | ops.Dense) and not _grouped(node):
            arrays = {"kernel": self._kernel(node, variables["kernel"], outputs)}
            if "bias" in variables and node.op.bias:
                arrays["bias"] = variables["bias"][outputs]
        elif isinstance(node.op, ops.DepthwiseConv):
            side = (node.op.kernel, node.op.kernel)
            arrays = {"kernel": _with_side(variables["kernel"], side)[:, :, outputs]}
        elif isinstance(node.op, ops.BatchNorm | ops.PReLU):
            arrays = {name: array[..., outputs] for name, array in variables.items()}
        else:
            arrays = variables  # all of its channels stay where they are
        return {f"{node.name}/{name}": np.ascontiguousarray(a) for name, a in arrays.items()}

    def _kernel(self, node: Node, kernel: Array, outputs: Indices) -> Array:
        if isinstance(node.op, ops.Conv):
            side = node.op.kernel
            kernel = _with_side(kernel, (side, side) if isinstance(side, int) else side)
        gate = self._dropped_gate(self.matches[node.name])
        if gate is not None:
            kernel = kernel * gate.astype(np.float32)[:, None]
        layout = self.layouts.of(node.inputs[0])
        assert layout is not None, node.name
        inputs = self._indices(layout)
        kernel = kernel[..., inputs, :][..., outputs]
        return kernel * _shares(inputs, len(outputs), zlib.crc32(node.name.encode()))

    def _dropped_gate(self, reader: str) -> NDArray[np.float64] | None:
        """The mean of the gate whose product a node of the source reads, if the target lacks it.

        For each channel of the source. None also where the mean cannot be estimated.
        """
        nodes = self.origin.graph.nodes
        index = next(node.inputs[0] for node in nodes if node.name == reader)
        while index >= 0 and isinstance(nodes[index].op, PASSING):
            index = nodes[index].inputs[0]
        if index < 0 or not isinstance(nodes[index].op, ops.Multiply):
            return None
        if nodes[index].name in self.matches.values():
            return None
        moments = self._moments_of_source.outputs[nodes[index].inputs[1]]
        return None if moments is None else moments.mean

    @cached_property
    def _moments_of_source(self) -> MomentsOfSource:
        graph = self.origin.graph
        same = {node.name: node.name for node in graph.nodes}
        return MomentsOfSource(graph, self.origin.input_shape[-1], same, self.source.arrays)

    def _open_gate(self, node: Node, arrays: dict[str, Array]) -> None:
        """Makes a gate without counterpart a constant, and what it multiplies as large as before.

        The constant is close to one, or 0.5 where the gate has no bias that could make it so.
        """
        features, index = node.inputs
        kind = "linear"
        while not isinstance(self.graph.nodes[index].op, ops.Conv):
            op = self.graph.nodes[index].op
            kind = op.kind if isinstance(op, ops.Activation) else kind
            index = self.graph.nodes[index].inputs[0]
        conv = self.graph.nodes[index]
        assert isinstance(conv.op, ops.Conv)
        # The Keras kernel of the first convolution stays random, so that gradients reach this one.
        inputs = self.graph.nodes[conv.inputs[0]].shape[-1]
        side = conv.op.kernel if isinstance(conv.op.kernel, tuple) else (conv.op.kernel,) * 2
        arrays[f"{conv.name}/kernel"] = np.zeros((*side, inputs, conv.op.filters), np.float32)
        bias = _GATE_BIAS if conv.op.bias else 0.0
        if conv.op.bias:
            arrays[f"{conv.name}/bias"] = np.full(conv.op.filters, bias, np.float32)
        constant = np.float32(activation(kind)(np.array(bias)))
        before = self.graph.nodes[features]
        if isinstance(before.op, ops.BatchNorm):
            for variable in ("gamma", "beta"):
                path = f"{before.name}/{variable}"
                if path in arrays:
                    arrays[path] = arrays[path] / constant
        else:
            self._scale_readers(self.graph.nodes.index(node), 1 / constant, arrays)

    def _scale_readers(self, index: int, factor: np.float32, arrays: dict[str, Array]) -> None:
        """Multiplies the kernels that read the output of a node."""
        for number, node in enumerate(self.graph.nodes):
            if index not in node.inputs:
                continue
            if f"{node.name}/kernel" in arrays:
                arrays[f"{node.name}/kernel"] = arrays[f"{node.name}/kernel"] * factor
            elif isinstance(node.op, PASSING):
                self._scale_readers(number, factor, arrays)


def _grouped(node: Node) -> bool:
    return isinstance(node.op, ops.Conv) and node.op.groups > 1


def _chosen(piece: Piece, how: str, importance: NDArray[np.float64] | None) -> Indices:
    """The indices of the channels that are taken for a piece, (channels of the target,)."""
    everything = np.arange(piece.source)
    if piece.source == piece.target:
        return everything
    if how == "uniform":
        return np.round(np.linspace(0, piece.source - 1, piece.target)).astype(np.int64)
    order = everything
    if how == "importance" and importance is not None:
        order = np.argsort(-importance, kind="stable")
    # Where the target is wider, all channels are taken, and the first ones of the order again.
    return np.sort(np.resize(order, piece.target))


def _shares(inputs: Indices, outputs: int, seed: int) -> Array | np.float32:
    """What the weights that read copies of channels are multiplied with: (inputs, outputs).

    The shares of the copies of a channel add up to one for every output.
    """
    if len(np.unique(inputs)) == len(inputs):
        return np.float32(1)
    shares = np.random.default_rng(seed).uniform(0.5, 1.5, (len(inputs), outputs))
    sums = np.zeros((inputs.max() + 1, outputs))
    np.add.at(sums, inputs, shares)
    return (shares / sums[inputs]).astype(np.float32)


def _with_side(kernel: Array, side: tuple[int, int]) -> Array:
    """The kernel cut or padded with zeros around its centre to (height, width, ...)."""
    for axis, size in enumerate(side):
        missing = size - kernel.shape[axis]
        if missing > 0:
            before = missing // 2
            width = [(0, 0)] * kernel.ndim
            width[axis] = (before, missing - before)
            kernel = np.pad(kernel, width)
        elif missing < 0:
            start = -missing // 2
            kernel = np.take(kernel, np.arange(start, start + size), axis)
    return kernel

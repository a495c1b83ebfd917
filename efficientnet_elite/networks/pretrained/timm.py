"""State dicts of timm and torchvision, turned into the normal form without running any of theirs.

A state dict maps names such as ``blocks.1.0.conv_pw.weight`` to arrays. The module names of each
library are put into the order in which the network computes, and so meet the nodes of our graph
one by one. Kinds and shapes have to agree for all of them.

Two things differ between PyTorch and this project, and neither can be seen from the arrays:

- the epsilon of batch normalisation, which is folded into gamma exactly;
- the padding of strided convolutions. ``tf_*`` networks of timm pad as TensorFlow does. All others
  pad both sides alike, which is the same only where the side of the map is odd. Such a network is
  a start for training whose outputs differ: see `PretrainedWeights.deviation`.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph, Node
from efficientnet_elite.networks.pretrained.timm_networks import (
    NETWORKS,
    Normalisation,
    TorchNetwork,
    network_by_name,
    normalisation,
)
from efficientnet_elite.networks.pretrained.weights import (
    Channels,
    PretrainedWeights,
    with_our_epsilon,
)
from efficientnet_elite.networks.spec import ArchSpec

Arrays = Mapping[str, NDArray[Any]]
Modules = dict[str, dict[str, NDArray[Any]]]


# Ends of the names of parameters and of the variables of Keras.
_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# timm states this licence for all weights of these networks that it publishes; torchvision states
# none. Weights for another number of classes were trained by somebody else.
_TIMM_LICENCE = "Apache-2.0"
_TIMM_CLASSES = (1000, 11221, 11821)

_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT"}  # by the identifiers of the Hugging Face Hub

_READABLE = (
    "those of EfficientNet, Lite, MobileNetV2 and V3, MnasNet, TinyNet, GhostNet and FBNet-C of "
    "timm and torchvision can be read"
)

_LONGEST_HEADER = 100_000_000  # bytes, the limit of the format itself
_NOT_WEIGHTS = "num_batches_tracked"

# What one block of timm consists of, in the order in which it computes. The first line that has all
# modules of a block is its order.
_BLOCK_ORDERS = tuple(
    line.split()
    for line in (
        "conv bn1",
        "conv_dw bn1 se.conv_reduce se.conv_expand conv_pw bn2",
        "conv_pw bn1 conv_dw bn2 se.conv_reduce se.conv_expand conv_pwl bn3",
        "ghost1.primary_conv.0 ghost1.primary_conv.1 ghost1.cheap_operation.0 "
        "ghost1.cheap_operation.1 conv_dw bn_dw se.conv_reduce se.conv_expand "
        "ghost2.primary_conv.0 ghost2.primary_conv.1 ghost2.cheap_operation.0 "
        "ghost2.cheap_operation.1 shortcut.0 shortcut.1 shortcut.2 shortcut.3",
    )
)
_TIMM_STEM = ["conv_stem", "bn1"]
_TIMM_TOP = ["conv_head", "bn2", "classifier"]


def read(
    arrays: Arrays, name: str | None = None, description: Mapping[str, Any] | None = None
) -> PretrainedWeights:
    """The weights of a network of timm or torchvision in the normal form.

    Args:
      arrays: the state dict, with names and layouts of PyTorch.
      name: of the network, as its library or the library's files call it, such as
        ``tf_efficientnet_b0.ns_jft_in1k`` or ``mobilenet_v2-b0353104``. A name that begins with no
        known network is ignored, and the network is recognised from the arrays.
      description: what `describe` read beside the file; it goes before what the name says.

    Returns:
      weights with an empty ``sha256``, which whoever read the file knows. ``deviation`` says in
      what the network's outputs differ from those of its source.

    Raises:
      UserError: the arrays are no network of `timm_networks.NETWORKS`, not the one that the name
        says, or fit several that do not compute the same.
    """
    modules = _modules(arrays)
    library, order = _computation_order(modules)
    classes = _classes(modules[order[-1]], order[-1])
    details = _Description.of(description or {})
    for possible_name in (details.name, name or ""):
        if network := network_by_name(possible_name, library):
            spec = network.spec(classes)
            if problem := _mismatch(modules, order, spec):
                raise UserError(
                    f"these are not the weights of {library}'s {network.name}: {problem}"
                )
            usual_range = normalisation(network, possible_name)
            is_published = library == "timm" and classes in _TIMM_CLASSES
            licence = _TIMM_LICENCE if is_published else "unknown"
            origin = f"{library} {network.name}"
            break
    else:
        network, spec = _recognise(modules, order, library, classes)
        usual_range = network.normalisation
        licence = "unknown"
        origin = f"{library} {network.name}, recognised from its tensors; input as usual for it"
    input_range = details.normalisation or usual_range
    side = details.side or spec.size.height
    return PretrainedWeights(
        name=network.name.replace("_", "-"),
        spec=spec.resized((side, side, 3)),
        arrays=_converted(modules, order, spec, network.epsilon),
        scale=input_range.scale,
        offset=input_range.offset,
        licence=details.licence or licence,
        sha256="",
        origin=origin,
        deviation=network.deviation,
    )


@dataclass(frozen=True)
class _Description:
    """What the description of a file says; empty or None for what it does not say.

    Attributes:
      name: of the weights, such as ``mobilenetv3_large_100.ra_in1k``.
      normalisation: of the input.
      side: of the input in pixels.
      licence: SPDX identifier, or the text of the file.
    """

    name: str = ""
    normalisation: Normalisation | None = None
    side: int | None = None
    licence: str = ""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> _Description:
        """Reads a description as timm writes it, whatever else it may contain."""
        details = description.get("pretrained_cfg")
        details = details if isinstance(details, Mapping) else {}
        architecture = description.get("architecture")
        name = f"{architecture}.{details.get('tag', '')}" if isinstance(architecture, str) else ""
        input_range, side = None, None
        with suppress(KeyError, TypeError, ValueError):
            if min(details["std"]) > 0:
                input_range = Normalisation(_triple(details["mean"]), _triple(details["std"]))
        with suppress(KeyError, TypeError, ValueError):
            _, _, side = map(int, details["input_size"])
        licence = str(details.get("license") or description.get("license") or "")
        return cls(name, input_range, side, _SPDX.get(licence.lower(), licence))


def describe(path: Path) -> dict[str, Any]:
    """What stands beside the weights of a file: the network, its preprocessing and its licence.

    Files on the Hugging Face Hub have a ``config.json`` beside them; timm writes there
    ``architecture`` and ``pretrained_cfg``. A ``.safetensors`` file may have the same as metadata.

    Args:
      path: of the file of weights.

    Returns:
      an empty dictionary if nothing is there.
    """
    config = path.with_name("config.json")
    try:
        if config.is_file():
            description = json.loads(config.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            description = _safetensors_metadata(path)
        else:
            return {}
    except (ValueError, struct.error, OSError):
        return {}
    return description if isinstance(description, dict) else {}


def _safetensors_metadata(path: Path) -> Any:
    """The metadata in the header of a ``.safetensors`` file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            return {}
        header = json.loads(file.read(length))
    return header.get("__metadata__") if isinstance(header, dict) else {}


def _modules(arrays: Arrays) -> Modules:
    """The arrays by module and parameter name."""
    modules: Modules = {}
    for name, array in arrays.items():
        module, _, parameter = name.rpartition(".")
        if parameter != _NOT_WEIGHTS:
            modules.setdefault(module, {})[parameter] = array
    return modules


def _computation_order(modules: Modules) -> tuple[str, list[str]]:
    """The library that names its modules so, and the modules in the order of computation."""
    if "conv_stem" in modules:
        return "timm", _timm_order(modules)
    if any(module.startswith(("features.", "layers.")) for module in modules):
        return "torchvision", sorted(modules, key=_torchvision_rank)
    raise UserError(f"the tensors have the names of another network: {_READABLE}")


def _timm_order(modules: Modules) -> list[str]:
    blocks: dict[tuple[int, int], list[str]] = {}
    ends = set(modules)
    for module in modules:
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", module):
            blocks.setdefault((int(match[1]), int(match[2])), []).append(match[3])
            ends.remove(module)
    if unknown := ends.difference(_TIMM_STEM, _TIMM_TOP):
        raise UserError(f"the tensors of {min(unknown)} are of another network: {_READABLE}")
    order = [module for module in _TIMM_STEM if module in modules]
    for (stage, block), parts in sorted(blocks.items()):
        prefix = f"blocks.{stage}.{block}."
        order += [prefix + part for part in _block_order(prefix, parts)]
    return order + [module for module in _TIMM_TOP if module in modules]


def _block_order(prefix: str, parts: Sequence[str]) -> list[str]:
    """The modules of one block of timm in the order of computation."""
    for order in _BLOCK_ORDERS:
        if set(parts) <= set(order):
            return sorted(parts, key=order.index)
    raise UserError(f"the tensors of {prefix}* are of another kind of block: {_READABLE}")


def _torchvision_rank(module: str) -> tuple[Any, ...]:
    """Key for sorting: by the numbers in the name, the classifier last."""
    parts = module.split(".")
    numbered = ((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return parts[0] == "classifier", *numbered


def _classes(module: Mapping[str, NDArray[Any]], name: str) -> int:
    """Number of classes, from the last layer."""
    weight = module.get("weight")
    if weight is None or weight.ndim != 2:
        raise UserError(f"the weights have no classifier: the last layer is {name}")
    return int(weight.shape[0])


def _recognise(
    modules: Modules, order: Sequence[str], library: str, classes: int
) -> tuple[TorchNetwork, ArchSpec]:
    """The network that has these modules and shapes."""
    fitting = [
        (network, spec)
        for network in NETWORKS
        if network.library == library
        and _mismatch(modules, order, spec := network.spec(classes)) is None
    ]
    if not fitting:
        raise UserError(
            f"the tensors have {library}'s names, but the shapes of another network: {_READABLE}"
        )
    if len({(network.epsilon, network.same_padding) for network, _ in fitting}) > 1:
        names = " and ".join(network.name for network, _ in fitting)
        raise UserError(
            f"the tensors fit {names}, which do not compute the same: name the file after its "
            "network"
        )
    return fitting[0]


def _triple(values: Sequence[Any]) -> Channels:
    red, green, blue = map(float, values)
    return red, green, blue


def _weighted_nodes(graph: Graph) -> list[tuple[Node, int]]:
    """The nodes that have weights, in the order of computation, with their input channels."""
    return [
        (node, graph.nodes[node.inputs[0]].shape[-1] if node.inputs[0] >= 0 else 3)
        for node in graph.nodes
        if node.params
    ]


def _mismatch(modules: Modules, order: Sequence[str], spec: ArchSpec) -> str | None:
    """In what modules and spec differ, as part of a sentence; None if they agree."""
    nodes = _weighted_nodes(spec.graph)
    if len(nodes) != len(order):
        return f"they have {len(order)} layers instead of {len(nodes)}"
    for (node, channels), module in zip(nodes, order, strict=True):
        shapes = {name: array.shape for name, array in modules[module].items()}
        if isinstance(node.op, ops.Dense) and shapes.get("weight", ())[2:] == (1, 1):
            shapes["weight"] = shapes["weight"][:2]  # timm's head is a 1x1 convolution
        expected = _torch_shapes(node, channels)
        if shapes != expected:
            return f"{module} has the shapes {shapes} instead of {expected}"
    return None


def _torch_shapes(node: Node, channels: int) -> dict[str, tuple[int, ...]]:
    """The shapes that the parameters of a node have in PyTorch.

    Args:
      node: of a convolution, fully connected layer or batch normalisation.
      channels: of its input.
    """
    weight: tuple[int, ...]
    match node.op:
        case ops.BatchNorm():
            return dict.fromkeys(_BATCH_NORM, (channels,))
        case ops.DepthwiseConv(kernel=kernel):
            return {"weight": (channels, 1, kernel, kernel)}
        case ops.Conv(filters=outputs, kernel=int(kernel), groups=groups, bias=bias):
            weight = (outputs, channels // groups, kernel, kernel)
        case ops.Dense(units=outputs, bias=bias):
            weight = (outputs, channels)
        case _:
            raise NotImplementedError(f"no parameters of PyTorch for {node.op}")
    return {"weight": weight, "bias": (outputs,)} if bias else {"weight": weight}


def _converted(
    modules: Modules, order: Sequence[str], spec: ArchSpec, epsilon: float
) -> dict[str, NDArray[np.float32]]:
    """The arrays by our variables' paths, in Keras' layouts."""
    converted: dict[str, NDArray[np.float32]] = {}
    for (node, _), module in zip(_weighted_nodes(spec.graph), order, strict=True):
        parameters = {
            name: np.asarray(array, np.float32) for name, array in modules[module].items()
        }
        if isinstance(node.op, ops.BatchNorm):
            variables = {_BATCH_NORM[name]: array for name, array in parameters.items()}
            variables["gamma"] = with_our_epsilon(
                variables["gamma"], variables["moving_variance"], epsilon
            )
        else:
            variables = parameters | {"kernel": _kernel(node.op, parameters["weight"])}
            del variables["weight"]
        for variable, array in variables.items():
            converted[f"{node.name}/{variable}"] = np.ascontiguousarray(array, np.float32)
    return converted


def _kernel(op: ops.Op, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel in Keras' layout."""
    if isinstance(op, ops.Dense):  # (out, in) or (out, in, 1, 1) to (in, out)
        return weight.reshape(weight.shape[:2]).T
    if isinstance(op, ops.DepthwiseConv):  # (c, 1, h, w) to (h, w, c, 1)
        return weight.transpose(2, 3, 0, 1)
    return weight.transpose(2, 3, 1, 0)  # (out, in, h, w) to (h, w, in, out)

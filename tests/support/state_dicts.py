"""State dicts of timm and torchvision without these libraries: names and shapes of their tensors.

The names are made from our specs by the libraries' patterns of names. `PINNED` says what the
libraries themselves make (timm 1.0.31, torchvision 0.29.1, 1,000 classes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks import GhostBottleneck, MBConv
from efficientnet_elite.networks.graph import Node
from efficientnet_elite.networks.pretrained.timm_networks import TorchNetwork
from efficientnet_elite.networks.spec import ArchSpec

# Number of tensors, and the digest of their names and shapes, by `digest`.
PINNED = {
    "timm efficientnet_b0": (311, "f62a5c98a74c"),
    "timm efficientnet_b1": (439, "48ab6dffb994"),
    "timm efficientnet_b2": (439, "3b229e39c384"),
    "timm efficientnet_b3": (496, "20981c52ac4d"),
    "timm efficientnet_b4": (610, "679b39921bba"),
    "timm efficientnet_b5": (738, "67e9fb5b659f"),
    "timm efficientnet_b6": (852, "f99c6cf76af7"),
    "timm efficientnet_b7": (1037, "288c729f30f8"),
    "timm efficientnet_lite0": (247, "9e9d04063545"),
    "timm efficientnet_lite1": (322, "85f30215ecea"),
    "timm efficientnet_lite2": (322, "89a99274af6a"),
    "timm efficientnet_lite3": (367, "e1bd45460c6a"),
    "timm efficientnet_lite4": (457, "175b131df5e0"),
    "timm fbnetc_100": (327, "d53c2cadcfe6"),
    "timm ghostnet_050": (432, "4b6b20f78096"),
    "timm ghostnet_100": (432, "ac4cefe02b6e"),
    "timm ghostnet_130": (432, "1a89c58edbcf"),
    "timm mnasnet_050": (262, "7c27135b80ae"),
    "timm mnasnet_075": (262, "e2028aedb476"),
    "timm mnasnet_100": (262, "2c1a5b876736"),
    "timm mnasnet_140": (262, "5d4de0cd1166"),
    "timm mnasnet_small": (272, "23382d422261"),
    "timm mobilenetv2_035": (262, "ed816f9042b2"),
    "timm mobilenetv2_050": (262, "36938b01e146"),
    "timm mobilenetv2_075": (262, "17791d530b2e"),
    "timm mobilenetv2_100": (262, "5a95ee06712e"),
    "timm mobilenetv2_140": (262, "cd6c57550c25"),
    "timm mobilenetv3_large_075": (266, "6e3daee2dbd4"),
    "timm mobilenetv3_large_100": (266, "3dba8ad57b77"),
    "timm mobilenetv3_small_050": (210, "4815df373659"),
    "timm mobilenetv3_small_075": (210, "b82ba8b91b66"),
    "timm mobilenetv3_small_100": (210, "fefefaa6b010"),
    "timm semnasnet_050": (279, "806826ef10e3"),
    "timm semnasnet_075": (279, "756e4b5b27e0"),
    "timm semnasnet_100": (279, "fa67c0998910"),
    "timm semnasnet_140": (279, "cedc9c13a63c"),
    "timm tf_efficientnet_b0": (311, "f62a5c98a74c"),
    "timm tf_efficientnet_b1": (439, "48ab6dffb994"),
    "timm tf_efficientnet_b2": (439, "3b229e39c384"),
    "timm tf_efficientnet_b3": (496, "20981c52ac4d"),
    "timm tf_efficientnet_b4": (610, "679b39921bba"),
    "timm tf_efficientnet_b5": (738, "67e9fb5b659f"),
    "timm tf_efficientnet_b6": (852, "f99c6cf76af7"),
    "timm tf_efficientnet_b7": (1037, "288c729f30f8"),
    "timm tf_efficientnet_lite0": (247, "9e9d04063545"),
    "timm tf_efficientnet_lite1": (322, "85f30215ecea"),
    "timm tf_efficientnet_lite2": (322, "89a99274af6a"),
    "timm tf_efficientnet_lite3": (367, "e1bd45460c6a"),
    "timm tf_efficientnet_lite4": (457, "175b131df5e0"),
    "timm tf_mobilenetv3_large_075": (266, "6e3daee2dbd4"),
    "timm tf_mobilenetv3_large_100": (266, "3dba8ad57b77"),
    "timm tf_mobilenetv3_large_minimal_100": (234, "a13eb42ce831"),
    "timm tf_mobilenetv3_small_075": (210, "b82ba8b91b66"),
    "timm tf_mobilenetv3_small_100": (210, "fefefaa6b010"),
    "timm tf_mobilenetv3_small_minimal_100": (174, "02a55ceed308"),
    "timm tinynet_a": (368, "bc20a6d8eaa1"),
    "timm tinynet_b": (311, "6391c4ae4036"),
    "timm tinynet_c": (292, "e6d773f4c976"),
    "timm tinynet_d": (216, "3a3283657dd6"),
    "timm tinynet_e": (197, "8774fcc39f0f"),
    "torchvision efficientnet_b0": (311, "b5ec7b4b5e4f"),
    "torchvision efficientnet_b1": (439, "1f5cde5a1ed0"),
    "torchvision efficientnet_b2": (439, "0dbc4ac8a0f4"),
    "torchvision efficientnet_b3": (496, "a78a6fe55721"),
    "torchvision efficientnet_b4": (610, "d5f2bdadab7f"),
    "torchvision efficientnet_b5": (738, "33800e077941"),
    "torchvision efficientnet_b6": (852, "12227c2910fa"),
    "torchvision efficientnet_b7": (1037, "1019a0c28dcf"),
    "torchvision mobilenet_v2": (262, "d613ea65450d"),
    "torchvision mobilenet_v3_large": (266, "2af4cb8a399e"),
    "torchvision mobilenet_v3_small": (210, "c5aae8a56256"),
    "torchvision mnasnet0_5": (262, "04f736ea0d1f"),
    "torchvision mnasnet0_75": (262, "a9980c48af58"),
    "torchvision mnasnet1_0": (262, "b1a4ee79a5b4"),
    "torchvision mnasnet1_3": (262, "239bd12a7084"),
}

# Blocks of each stage of timm, where our names of blocks do not tell them.
_STAGES = {
    "mobilenetv3_large": (1, 2, 3, 4, 2, 3),
    "mobilenetv3_small": (1, 2, 3, 2, 3),
    "ghostnet": (1, 1, 1, 1, 1, 1, 5, 1, 4),
}
_WITHOUT_EXPANSION = {
    "dwconv": "conv_dw",
    "dw_bn": "bn1",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pw",
    "project_bn": "bn2",
}
_WITH_EXPANSION = _WITHOUT_EXPANSION | {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "dw_bn": "bn2",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
_GHOST = {
    **{
        f"ghost{number}_{part}": f"ghost{number}.{module}"
        for number in (1, 2)
        for part, module in {
            "primary_conv": "primary_conv.0",
            "primary_bn": "primary_conv.1",
            "cheapconv": "cheap_operation.0",
            "cheap_bn": "cheap_operation.1",
        }.items()
    },
    "dwconv": "conv_dw",
    "dw_bn": "bn_dw",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "skip_dwconv": "shortcut.0",
    "skip_dw_bn": "shortcut.1",
    "skip_conv": "shortcut.2",
    "skip_bn": "shortcut.3",
}


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The first digits of the SHA-256 of all names and shapes, in the order of the names."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def modules(network: TorchNetwork, spec: ArchSpec) -> dict[str, str]:
    """The library's module for each node of ours that has weights."""
    if network.library == "timm":
        names = _timm_modules(network.name.removeprefix("tf_"), spec)
    else:
        (pattern,) = (p for start, p in _TORCHVISION.items() if network.name.startswith(start))
        names = pattern(spec)
    return {node.name: names[node.name] for node in spec.graph.nodes if node.params}


def _timm_modules(name: str, spec: ArchSpec) -> dict[str, str]:
    names = {"stem_conv": "conv_stem", "stem_bn": "bn1", "predictions": "classifier"}
    sizes = next((sizes for start, sizes in _STAGES.items() if name.startswith(start)), None)
    positions = iter([(s, b) for s, size in enumerate(sizes or ()) for b in range(size)])
    for block in spec.blocks:
        if isinstance(block, MBConv | GhostBottleneck):
            if sizes:
                stage, index = next(positions)
            else:
                stage, index = int(block.name[5:-1]) - 1, ord(block.name[-1]) - ord("a")
            if isinstance(block, GhostBottleneck):
                parts = _GHOST
            else:
                parts = _WITHOUT_EXPANSION if block.expanded is None else _WITH_EXPANSION
            for part, module in parts.items():
                names[f"{block.name}_{part}"] = f"blocks.{stage}.{index}.{module}"
    if sizes:
        last = f"blocks.{len(sizes)}.0"
        return names | {"top_conv": f"{last}.conv", "top_bn": f"{last}.bn1", "hidden": "conv_head"}
    return names | {"top_conv": "conv_head", "top_bn": "bn2"}


def _units(block: MBConv) -> Iterator[tuple[str, ...]]:
    """The nodes of a block, in groups that torchvision puts into one module."""
    if block.expanded is not None:
        yield f"{block.name}_expand_conv", f"{block.name}_expand_bn"
    yield f"{block.name}_dwconv", f"{block.name}_dw_bn"
    if block.squeeze is not None:
        yield f"{block.name}_se_reduce", f"{block.name}_se_expand"
    yield f"{block.name}_project_conv", f"{block.name}_project_bn"


def _mb_blocks(spec: ArchSpec) -> list[MBConv]:
    return [block for block in spec.blocks if isinstance(block, MBConv)]


def _stem_and_top(last: int) -> dict[str, str]:
    return {
        "stem_conv": "features.0.0",
        "stem_bn": "features.0.1",
        "top_conv": f"features.{last}.0",
        "top_bn": f"features.{last}.1",
        "predictions": "classifier.1",
    }


def _mobilenet_v2(spec: ArchSpec) -> dict[str, str]:
    blocks = _mb_blocks(spec)
    names = _stem_and_top(len(blocks) + 1)
    for number, block in enumerate(blocks, start=1):
        *activated, (project, project_bn) = _units(block)
        for index, (convolution, norm) in enumerate(activated):
            names[convolution] = f"features.{number}.conv.{index}.0"
            names[norm] = f"features.{number}.conv.{index}.1"
        names[project] = f"features.{number}.conv.{len(activated)}"
        names[project_bn] = f"features.{number}.conv.{len(activated) + 1}"
    return names


def _within_block(block: MBConv, prefix: str) -> dict[str, str]:
    names = {}
    for index, (first, second) in enumerate(_units(block)):
        ends = ("fc1", "fc2") if first.endswith("se_reduce") else ("0", "1")
        for node, end in zip((first, second), ends, strict=True):
            names[node] = f"{prefix}.block.{index}.{end}"
    return names


def _mobilenet_v3(spec: ArchSpec) -> dict[str, str]:
    blocks = _mb_blocks(spec)
    names = _stem_and_top(len(blocks) + 1)
    for number, block in enumerate(blocks, start=1):
        names |= _within_block(block, f"features.{number}")
    return names | {"hidden": "classifier.0", "predictions": "classifier.3"}


def _efficientnet(spec: ArchSpec) -> dict[str, str]:
    names = _stem_and_top(8)
    for block in _mb_blocks(spec):
        prefix = f"features.{block.name[5:-1]}.{ord(block.name[-1]) - ord('a')}"
        names |= _within_block(block, prefix)
    return names


def _mnasnet(spec: ArchSpec) -> dict[str, str]:
    names = {"stem_conv": "layers.0", "stem_bn": "layers.1", "predictions": "classifier.1"}
    names |= {"top_conv": "layers.14", "top_bn": "layers.15"}
    first, *others = _mb_blocks(spec)
    for number, pair in enumerate(_units(first), start=1):
        names |= {node: f"layers.{3 * number + i}" for i, node in enumerate(pair)}
    for block in others:
        prefix = f"layers.{int(block.name[5:-1]) + 6}.{ord(block.name[-1]) - ord('a')}.layers"
        for number, pair in enumerate(_units(block)):
            names |= {node: f"{prefix}.{3 * number + i}" for i, node in enumerate(pair)}
    return names


_TORCHVISION = {
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3": _mobilenet_v3,
    "efficientnet": _efficientnet,
    "mnasnet": _mnasnet,
}


def shapes(network: TorchNetwork, spec: ArchSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of the library's state dict, counters left out."""
    names = modules(network, spec)
    tensors: dict[str, tuple[int, ...]] = {}
    for node in spec.graph.nodes:
        if node.params:
            source = spec.graph.nodes[node.inputs[0]].shape[-1] if node.inputs[0] >= 0 else 3
            module = names[node.name]
            for parameter, shape in _tensor_shapes(node, source).items():
                if module == "conv_head" and len(shape) == 2:
                    shape = (*shape, 1, 1)
                tensors[f"{module}.{parameter}"] = shape
    return tensors


def _tensor_shapes(node: Node, source: int) -> dict[str, tuple[int, ...]]:
    outputs = node.shape[-1]
    if isinstance(node.op, ops.BatchNorm):
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (outputs,))
    if isinstance(node.op, ops.Dense):
        return {"weight": (outputs, source), "bias": (outputs,)}
    kernel = (node.op.kernel, node.op.kernel)  # type: ignore[attr-defined]
    if isinstance(node.op, ops.DepthwiseConv):
        return {"weight": (outputs, 1, *kernel)}
    bias = {"bias": (outputs,)} if node.op.bias else {}  # type: ignore[attr-defined]
    return {"weight": (outputs, source, *kernel), **bias}


def random_state_dict(
    network: TorchNetwork, spec: ArchSpec, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random arrays under the library's names, positive where they are variances."""
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0.01, 1, shape).astype(np.float32)
        for name, shape in shapes(network, spec).items()
    }

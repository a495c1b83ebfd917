"""Which node of a pretrained network each node of another network takes its weights from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import Any

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks import Block
from efficientnet_elite.networks.graph import Node
from efficientnet_elite.networks.spec import ArchSpec

# Blocks that are numbered through the whole network. Their numbers shift with the depth multiplier,
# so that equal names need not mean the same place. All other names give stage and place.
_NUMBERED = re.compile(r"(block|cell)\d+")

_NEVER = 1e6  # cost of pairing blocks with different strides
_UNPAIRED_TARGET = 50.0  # cost of a block of the target without a counterpart
_LATER = 1e-3  # cost of a place of the source: of equal blocks, the first ones are taken


def match_nodes(source: ArchSpec, target: ArchSpec) -> dict[str, str]:
    """Counterparts of the nodes of a network.

    Of each stage, the first blocks of the source are taken. Nodes have a counterpart if it has the
    same place in its block and does the same kind of operation. The classifier has none, nor have
    the other nodes of blocks that turn features into logits.

    Returns:
      the name of the source's node by the name of the target's node, in the order of the target.
    """
    blocks = _match_blocks(source.blocks, target.blocks)
    heads = {block.name for block in target.blocks if block.top}
    source_nodes = {node.name: node for node in source.graph.nodes}
    names = sorted((block.name for block in target.blocks), key=len, reverse=True)
    matches = {}
    for node in target.graph.nodes:
        block = next((name for name in names if _belongs(node.name, name)), None)
        if block in heads or (block is not None and block not in blocks):
            continue
        name = node.name if block is None else blocks[block] + node.name.removeprefix(block)
        counterpart = source_nodes.get(name)
        if counterpart is not None and _same_kind(counterpart, node):
            matches[node.name] = name
    return matches


def logits_layer(spec: ArchSpec) -> str | None:
    """Name of the last layer with weights, whose outputs are the logits; None if there is none."""
    kinds = ops.Dense | ops.Conv | ops.LearnedConv
    nodes = reversed(spec.graph.nodes)
    return next((node.name for node in nodes if isinstance(node.op, kinds)), None)


def is_same_network(source: ArchSpec, spec: ArchSpec) -> bool:
    """Whether two networks differ in their classifier, input size and drop rates at most."""
    spec, source = spec.reading_stages(False), source.reading_stages(False)
    sized = source.resized((*spec.input_shape[:2], source.input_shape[-1]))
    ours, theirs = lasting_nodes(spec), lasting_nodes(sized)
    logits = logits_layer(spec)
    return (
        len(ours) == len(theirs)
        and spec.input_shape == sized.input_shape
        and all(
            one.name == other.name and (one.op == other.op or one.name == logits)
            for one, other in zip(ours, theirs, strict=True)
        )
    )


def lasting_nodes(spec: ArchSpec) -> list[Node]:
    """The nodes of a network without those that only drop something in training."""
    dropping = ops.Dropout | ops.DropPath
    return [node for node in spec.graph.nodes if not isinstance(node.op, dropping)]


def _belongs(node: str, block: str) -> bool:
    return node == block or node.startswith(f"{block}_")


def _same_kind(source: Node, target: Node) -> bool:
    if type(source.op) is not type(target.op):
        return False
    if isinstance(source.op, ops.Conv) and isinstance(target.op, ops.Conv):
        return source.op.groups == target.op.groups
    return True


def _match_blocks(source: Sequence[Block], target: Sequence[Block]) -> dict[str, str]:
    """Name of the source's block by the name of the target's block."""
    names = {block.name for block in source}
    matches = {block.name: block.name for block in target if block.name in names}
    numbered_source, numbered_target = (
        [block for block in _strided_alike(blocks, others) if _NUMBERED.fullmatch(block.name)]
        for blocks, others in ((source, target), (target, source))
    )
    if len(numbered_source) != len(numbered_target):
        matches = {name: other for name, other in matches.items() if not _NUMBERED.fullmatch(name)}
        matches |= _align(numbered_source, numbered_target)
    return matches


def _strided_alike(blocks: Sequence[Block], others: Sequence[Block]) -> list[Block]:
    """The blocks, with the strides that they have after a stem of the larger of two strides.

    See `families.variants.Variant.stem`.
    """
    one, other = (getattr(network[0], "stride", 1) for network in (blocks, others))
    first = next((block for block in blocks[1:] if getattr(block, "stride", 1) > 1), None)
    if one >= other or first is None:
        return list(blocks)
    unstrided: dict[str, Any] = {"stride": 1}
    return [replace(block, **unstrided) if block is first else block for block in blocks]


def _align(source: Sequence[Block], target: Sequence[Block]) -> dict[str, str]:
    """Pairs blocks in their order so that the sum of `_difference` is smallest."""
    width = _filters(target[-1]) / _filters(source[-1]) if source and target else 1.0
    # best[i][j]: cost and pairs of the first i blocks of the target and j of the source
    best: list[list[tuple[float, tuple[tuple[str, str], ...]]]] = []
    for i in range(len(target) + 1):
        row: list[tuple[float, tuple[tuple[str, str], ...]]] = []
        for j in range(len(source) + 1):
            if i == 0:
                row.append((0.0, ()))
                continue
            cost, pairs = best[i - 1][j]
            options = [(cost + _UNPAIRED_TARGET, pairs)]
            if j > 0:
                options.append(row[j - 1])
                cost, pairs = best[i - 1][j - 1]
                cost += _difference(source[j - 1], target[i - 1], width) + _LATER * j
                options.append((cost, (*pairs, (target[i - 1].name, source[j - 1].name))))
            row.append(min(options, key=lambda option: option[0]))
        best.append(row)
    return dict(best[-1][-1][1])


def _difference(source: Block, target: Block, width: float) -> float:
    """How little two blocks resemble each other, at a ratio of their channels."""
    # In segmentation networks, dilation replaces strides.
    dilated = getattr(target, "dilation", 1) > 1
    if not dilated and getattr(source, "stride", 1) != getattr(target, "stride", 1):
        return _NEVER
    difference = 10 * abs(log(_filters(target) / (_filters(source) * width)))
    for field in ("expanded", "kernel", "squeeze", "activation"):
        one, other = (getattr(block, field, None) for block in (source, target))
        if field == "expanded" and one and other:
            difference += abs(log(other / (one * width)))
        else:
            difference += 0.5 * (one is None) != (other is None) or 0.5 * (
                field in ("kernel", "activation") and one != other
            )
    return difference


def _filters(block: Block) -> int:
    return getattr(block, "filters", 1)

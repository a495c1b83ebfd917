"""How much memory the activations of a network take: exact peak, and the greedy plan of TFLM.

A tensor lives from the operator that writes it to the last one that reads it, both included; none
is overwritten in place. The sum of what lives at once, at its greatest, is what no plan for this
order of execution can stay below. TFLM packs greedily, the largest buffer first, on multiples of
16 bytes.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_elite.lowering import Program

ALIGNMENT = 16  # of TFLM's buffers, in bytes


@dataclass(frozen=True)
class Buffer:
    """Bytes that are needed from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def activations(program: Program) -> list[Buffer]:
    """The lifetimes of a program's activation tensors; operator i runs at step i + 1.

    The image is there from step 0, the result (of the last operator) to the end.
    """
    first = dict.fromkeys(range(len(program.shapes)), 0)
    last = dict(first)
    for step, operator in enumerate(program.operators, start=1):
        first[operator.output] = last[operator.output] = step
        for tensor in operator.inputs:
            last[tensor] = step
    return [Buffer(size, first[i], last[i]) for i, size in enumerate(program.sizes)]


def scratch(program: Program) -> list[Buffer]:
    """What TFLM's kernels need besides, each while it runs."""
    steps = enumerate(program.operators, start=1)
    return [Buffer(operator.scratch, step, step) for step, operator in steps if operator.scratch]


def peak(buffers: Iterable[Buffer]) -> int:
    """The greatest sum of sizes that are needed at one step; 0 for no buffers."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.first] = changes.get(buffer.first, 0) + buffer.size
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - buffer.size
    highest = now = 0
    for step in sorted(changes):
        now += changes[step]
        highest = max(highest, now)
    return highest


def greedy(buffers: Sequence[Buffer]) -> list[int]:
    """Offset of every buffer as TFLM's GreedyMemoryPlanner gives it, sizes rounded up to 16 bytes.

    The largest goes first (in a tie the later in the list, for TFLM fills its table from the end),
    each to the lowest gap between those placed before whose lifetimes meet its own.
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for index in sorted(range(len(buffers)), key=lambda i: (-_aligned(buffers[i].size), -i)):
        offset = 0
        for other in sorted(placed, key=lambda i: offsets[i]):
            if not buffers[other].meets(buffers[index]):
                continue
            if offsets[other] - offset >= _aligned(buffers[index].size):
                break
            offset = max(offset, offsets[other] + _aligned(buffers[other].size))
        offsets[index] = offset
        placed.append(index)
    return offsets


def height(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes that a plan takes in all; 0 for no buffers."""
    ends = (o + _aligned(b.size) for b, o in zip(buffers, offsets, strict=True))
    return max(ends, default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT

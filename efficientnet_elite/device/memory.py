"""How much memory the activations of a network take: exact peak, and the greedy plan of TFLM.

A tensor lives from the operator that writes it to the last one that reads it, both included; none
is overwritten in place. The sum of what lives at once, at its greatest, is what no plan for this
order of execution can stay below. TFLM packs greedily, the largest buffer first, on multiples of
16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_elite.device.lowering import Program

_SCALE = 12  # a quantization's float32 scale and int64 zero point, in the file
_FACTOR = 8  # a channel's int32 multiplier and int32 shift, in the arena
_TENSOR, _OPERATOR = 24, 64  # TFLM's TfLiteEvalTensor and NodeAndRegistration on x86-64

# Fitted: names and tables in the file, in bytes: of any file, an operator (with the tensor that it
# writes), a constant.
_FILE, _FILE_OPERATOR, _FILE_CONSTANT = 2057, 142, 250

# Fitted: what TFLM keeps in bytes: of any network, an operator of a kind, of another kind.
_ARENA, _ARENA_OTHER = 98, 50
_ARENA_OPERATOR = {
    "ADD": 17,
    "AVERAGE_POOL_2D": 53,
    "CONCATENATION": 74,
    "CONV_2D": 141,
    "DEPTHWISE_CONV_2D": 109,
    "FULLY_CONNECTED": 98,
    "HARD_SWISH": 56,
    "LOGISTIC": 36,
    "MAX_POOL_2D": 84,
    "MEAN": 34,
    "MUL": 30,
    "PAD": 47,
    "RELU": 42,
    "RESHAPE": 56,
    "STRIDED_SLICE": 84,
}


def file_bytes(program: Program) -> int:
    """Estimated size of the int8 file."""
    tables = _FILE_OPERATOR * len(program.operators) + _FILE_CONSTANT * len(program.constants)
    return known_file_bytes(program) + _FILE + tables


def arena_bytes(program: Program) -> int:
    """Estimated arena of TFLM as on x86-64: the greedy plan, and what stays."""
    kept = (_ARENA_OPERATOR.get(o.kind, _ARENA_OTHER) for o in program.operators)
    return head_bytes(program) + known_tail_bytes(program) + _ARENA + sum(kept)


def head_bytes(program: Program) -> int:
    """Activations and scratch memory, packed as TFLM packs them."""
    buffers = activations(program) + scratch(program)
    return height(buffers, greedy(buffers))


def known_file_bytes(program: Program) -> int:
    """Constants and their quantization parameters."""
    scales = sum(constant.scales for constant in program.constants)
    return program.constant_bytes() + _SCALE * scales


def known_tail_bytes(program: Program) -> int:
    """TFLM's records of tensors and operators, and requantization factors."""
    tensors = len(program.shapes) + len(program.constants)
    channels = sum(operator.channels for operator in program.operators)
    return tensors * _TENSOR + len(program.operators) * _OPERATOR + channels * _FACTOR


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
